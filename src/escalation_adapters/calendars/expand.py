"""Expand the text of an iCalendar (RFC 5545) into shifts. It refuses what it cannot read for certain.

icalendar leaves out or guesses what it does not understand. A rota without one of its events has a gap, and a gap
pages other people, so a broken event or an unknown time zone refuses the whole calendar.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from ..extras import needs

with needs(__name__, "ical"):
    from icalendar import Calendar, Component
    from icalendar.timezone import tzp
    from recurring_ical_events import CalendarQuery

from escalation_core import InvalidValue
from escalation_core.rules.shifts import Shift

MAX_OCCURRENCES = 10_000
"""The most occurrences of a calendar within the window. Hourly shifts of four people are fewer."""
FIELD = "calendar"
_TOO_FREQUENT = ("SECONDLY", "MINUTELY")
_DATES = ("DTSTART", "DTEND", "RDATE", "EXDATE", "RECURRENCE-ID")
_READ = (*_DATES, "DURATION", "RRULE", "SEQUENCE", "STATUS", "SUMMARY", "UID")
_UTC = ("UTC", "Etc/UTC")
_MARGIN = timedelta(days=2)
"""Added to both ends of the window: the query compares times without a zone as if they were UTC."""
_FOLD = re.compile(rb"\r?\n[ \t]")
_PAGERDUTY = re.compile(r"On Call - (?P<person>.+?)(?: - .*)?")


def expand(content: bytes, start: datetime, end: datetime) -> Sequence[Shift]:
    """Return the shifts of a calendar that overlap the window from ``start`` to ``end``, in UTC and whole.

    Raises:
        InvalidValue: the content is not a calendar, or a part of it cannot be read for certain.
    """
    calendar = _parse(content)
    for component in calendar.walk():
        _check_rules(component)
    zone = _zone(calendar)
    events = calendar.walk("VEVENT")
    excepted = {str(event.get("UID")) for event in events if "RECURRENCE-ID" in event}
    for event in events:
        _check_event(event, zone)
        _check_several_a_day(event, excepted)
    _check_doubles(events)
    found = CalendarQuery(calendar).between(start - _MARGIN, end + _MARGIN)
    if len(found) > MAX_OCCURRENCES:
        raise InvalidValue(FIELD, f"has more than {MAX_OCCURRENCES} occurrences", "use a calendar of on-call shifts")
    return [shift for event in found for shift in _shift(event, zone) if shift.end > start and shift.start < end]


def person_of(summary: str) -> str:
    """Return the person that an event's SUMMARY names: the whole text, without blanks at either end.

    PagerDuty writes ``On Call - PERSON - SCHEDULE``. From such a text it is what stands between the first two dashes.
    """
    text = " ".join(summary.split())
    match = _PAGERDUTY.fullmatch(text)
    return text if match is None else match["person"].strip()


def _parse(content: bytes) -> Calendar:
    if not content.strip():
        raise InvalidValue(FIELD, "is empty", "export the calendar again")
    try:
        # Bytes are unfolded, because a line may be folded within a character.
        text = _FOLD.sub(b"", content).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidValue(FIELD, "is not UTF-8 text", "give an iCalendar file") from None
    if not text.lstrip().upper().startswith("BEGIN:VCALENDAR"):
        kind = "is a web page" if text.lstrip().startswith("<") else "does not begin with BEGIN:VCALENDAR"
        raise InvalidValue(FIELD, kind, "give the address of the calendar in iCal format, which ends in .ics as a rule")
    try:
        components = Calendar.from_ical(text, multiple=True)
    except ValueError:
        raise InvalidValue(FIELD, "is not a valid iCalendar", "export the calendar again") from None
    if not components:
        raise InvalidValue(FIELD, "is cut off before END:VCALENDAR", "export the calendar again")
    calendar = components[0]
    if len(components) > 1 or not isinstance(calendar, Calendar):
        raise InvalidValue(FIELD, f"holds {len(components)} calendars", "give one calendar")
    return calendar


def _check_rules(component: Component) -> None:
    for name, fault in component.errors:
        if name is None or name.upper() in _READ:
            raise InvalidValue(FIELD, f"has a broken {name or 'line'}: {fault}", "correct that event")
    for rule in _listed(component.get("RRULE")):
        frequency = str(rule.get("FREQ", [""])[0]).upper()
        if frequency in _TOO_FREQUENT:
            raise InvalidValue(FIELD, f"has an event that repeats {frequency}", "repeat events HOURLY or less often")


def _check_event(event: Component, zone: tzinfo | None) -> None:
    """Check the times of an event, and write the end of its rule in UTC, as RFC 5545 demands."""
    for name in _DATES:
        for value in _listed(event.get(name)):
            _check_zone(value, event)
    start = _time(event, "DTSTART")
    backwards = getattr(event.get("DURATION"), "dt", timedelta()) < timedelta()
    if "DTEND" in event:
        backwards = _instant(_time(event, "DTEND"), zone, event) < _instant(start, zone, event)
    if backwards:  # the query would exchange the two ends
        raise InvalidValue(FIELD, f"has an event that ends before it starts{_named(event)}", "correct that event")
    if isinstance(start, datetime):
        for rule in _listed(event.get("RRULE")):
            if "UNTIL" in rule:
                rule["UNTIL"] = [_until(each, start) for each in rule["UNTIL"]]


def _check_several_a_day(event: Component, excepted: Collection[str]) -> None:
    """Check that an event which repeats several times a day, and not in UTC, is one that the query expands right.

    The query repeats HOURLY on the wall clock, without the hour that comes twice. It also takes an exception for
    every occurrence whose reading in UTC or in its zone is the same: so one may take away three shifts of eight hours.
    """
    if str(getattr(_time(event, "DTSTART"), "tzinfo", None)) in _UTC:
        return
    for rule in _listed(event.get("RRULE")):
        hourly = str(rule["FREQ"][0]).upper() == "HOURLY"
        several = any(len(rule.get(part, [])) > 1 for part in ("BYHOUR", "BYMINUTE", "BYSECOND"))
        if hourly or (several and ("EXDATE" in event or str(event.get("UID")) in excepted)):
            kind = "HOURLY" if hourly else "several times a day, with exceptions,"
            text = f"has an event that repeats {kind} and not in UTC{_named(event)}"
            raise InvalidValue(FIELD, text, "write an event for each shift of a day, or use UTC")


def _check_doubles(events: Sequence[Component]) -> None:
    """Check that no two events have one UID, SEQUENCE and occurrence. The query would drop all of them but one."""
    seen: set[tuple[str, int, str]] = set()
    for event in events:
        if "EXRULE" in event:
            raise InvalidValue(FIELD, f"has an EXRULE{_named(event)}", "use EXDATE, or a rule without exceptions")
        if "UID" in event:
            occurrence = str(event.decoded("RECURRENCE-ID")) if "RECURRENCE-ID" in event else ""
            version = (str(event["UID"]), int(event.get("SEQUENCE", 0)), occurrence)
            if version in seen:
                raise InvalidValue(FIELD, f"has two events with one UID{_named(event)}", "give each event its own UID")
            seen.add(version)


def _check_zone(value: Any, event: Component) -> None:
    """Check that the zone of a time, or of a list of times, is known. icalendar leaves an unknown one out."""
    name = value.params.get("TZID")
    times = [each.dt[0] if isinstance(each.dt, tuple) else each.dt for each in value.dts]
    if name is not None and any(getattr(each, "tzinfo", None) is None for each in times):
        fault = f"has the unknown time zone TZID={name}{_named(event)}"
        raise InvalidValue(FIELD, fault, "use a name such as Europe/Berlin, or define the zone with VTIMEZONE")


def _until(until: date, start: datetime) -> date:
    """Return the end of a rule. A date ends with its day, and a time without a zone is one of the zone of DTSTART."""
    if not isinstance(until, datetime):
        until = datetime.combine(until, time(23, 59, 59))
    if start.tzinfo is None or until.tzinfo is not None:
        return until
    return until.replace(tzinfo=start.tzinfo).astimezone(UTC)


def _zone(calendar: Calendar) -> tzinfo | None:
    """Return the zone of times without a zone: X-WR-TIMEZONE, else the only zone that the calendar defines."""
    named = calendar.get("X-WR-TIMEZONE")
    defined = {str(each.get("TZID")) for each in calendar.walk("VTIMEZONE")}
    name = str(named) if named else defined.pop() if len(defined) == 1 else None
    return None if name is None else tzp.timezone(name.strip())


def _time(event: Component, name: str) -> date:
    value: Any = event.get(name)
    found = getattr(value, "dt", None)
    if not isinstance(found, date):
        raise InvalidValue(FIELD, f"has an event without a valid {name}{_named(event)}", "correct that event")
    return found


def _instant(value: date, zone: tzinfo | None, event: Component) -> datetime:
    """Return a time in UTC. A date is its midnight."""
    reading = value if isinstance(value, datetime) else datetime.combine(value, time.min)
    if reading.tzinfo is None:
        if zone is None:
            fault = f"has a time without a zone{_named(event)}, and no known time zone of its own"
            raise InvalidValue(FIELD, fault, "add X-WR-TIMEZONE with a name such as Europe/Berlin to the calendar")
        reading = reading.replace(tzinfo=zone)
    return reading.astimezone(UTC)


def _shift(event: Component, zone: tzinfo | None) -> Iterator[Shift]:
    """Yield the shift of an occurrence; none if it is cancelled or takes no time."""
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return
    first, last = _time(event, "DTSTART"), _time(event, "DTEND")
    if first == last and not isinstance(first, datetime):
        last += timedelta(days=1)  # exports of whole days often repeat the day
    start, end = _instant(first, zone, event), _instant(last, zone, event)
    if end > start:
        try:
            yield Shift(person=person_of(str(event.get("SUMMARY", ""))), start=start, end=end)
        except InvalidValue as fault:
            text = f"has an event at {start:%Y-%m-%d %H:%M} UTC whose SUMMARY {fault.fault}"
            raise InvalidValue(FIELD, text, "name one person in it") from None


def _listed(value: Any) -> Sequence[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _named(event: Component) -> str:
    summary = " ".join(str(event.get("SUMMARY", "")).split())
    return f" ({summary[:60]})" if summary else ""
