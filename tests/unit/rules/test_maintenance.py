"""The scheduled pause: instants and wall clocks, including the changes of summer time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import InvalidValue, PauseSchedule
from escalation_core.rules.maintenance import check_cron

from ..kit import DAY, HOUR, MINUTE

TICK = timedelta(microseconds=1)
BERLIN = "Europe/Berlin"
LORD_HOWE = "Australia/Lord_Howe"


def utc(text: str) -> datetime:
    """Return the instant of a text in UTC, for example ``2025-03-30 01:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def windows(schedule: PauseSchedule, start: str, end: str) -> list[tuple[str, str]]:
    """Return the pauses between two instants, found minute by minute, as texts in UTC."""
    found: list[tuple[str, str]] = []
    instant, last = utc(start), utc(end)
    began: datetime | None = None
    while instant <= last:
        paused = schedule.is_paused(instant)
        if paused and began is None:
            began = instant
        elif not paused and began is not None:
            found.append((f"{began:%m-%d %H:%M}", f"{instant:%m-%d %H:%M}"))
            began = None
        instant += MINUTE
    return found


# --- invalid schedules


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "0 22 * *",
        "0 22 * * * *",
        "0 0 22 * * * *",
        "@daily",
        "60 22 * * *",
        "0 24 * * *",
        "0 22 0 * *",
        "0 22 32 * *",
        "0 22 * 13 *",
        "0 22 * * 8",
        "x 22 * * *",
        "-1 22 * * *",
        "*/0 22 * * *",
        "5-1 22 * * *",
        "0, 22 * * *",
        "٣ 22 * * *",
        "9" * 5000 + " 22 * * *",
        "0\x0022 * * *",
    ],
)
def test_only_five_legal_fields_are_a_schedule(cron: str) -> None:
    """A cron expression has five fields within their limits; any other text is refused by the field's name."""
    with pytest.raises(InvalidValue) as caught:
        PauseSchedule(cron, HOUR)
    assert "cron" == caught.value.field


@given(st.text("0123456789*/,-#LW SUNMOJAFEB@?\t", max_size=30))
def test_any_text_is_a_cron_expression_or_refused(text: str) -> None:
    """Any text is either a cron expression of five fields or refused by the field's name."""
    outcome: object
    try:
        outcome = len(check_cron(text).split(" "))
    except InvalidValue as fault:
        outcome = fault.field
    assert outcome in (5, "cron")


@pytest.mark.parametrize("cron", [7, None, b"0 22 * * *", ["0", "22", "*", "*", "*"]])
def test_cron_is_text(cron: Any) -> None:
    """A cron expression must be text."""
    with pytest.raises(InvalidValue) as caught:
        PauseSchedule(cron, HOUR)
    assert "cron" == caught.value.field


@pytest.mark.parametrize("cron", [" 0 22 * * * ", "0\t22  *  * *", "0 22 * * *"])
def test_blanks_between_fields_do_not_count(cron: str) -> None:
    """Blanks around and between the fields do not change the schedule."""
    assert PauseSchedule("0 22 * * *", HOUR) == PauseSchedule(cron, HOUR)


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_schedule_that_never_fires_is_refused(cron: str) -> None:
    """A schedule for a day that does not exist is refused, since it would never pause the engine."""
    with pytest.raises(InvalidValue) as caught:
        PauseSchedule(cron, HOUR)
    assert "cron" == caught.value.field


@pytest.mark.parametrize(
    ("cron", "duration"),
    [
        ("* * * * *", HOUR),
        ("0 * * * *", HOUR),
        ("0 * * * *", 90 * MINUTE),
        ("0 22 * * *", DAY),
        ("30 2 * * *", 2 * DAY),
        ("0 0 * * 0", 7 * DAY),
        ("0 0 */5 * *", 7 * DAY),
    ],
)
def test_schedule_that_never_ends_is_refused(cron: str, duration: timedelta) -> None:
    """Pauses that touch or overlap for ever are refused, since the engine would never page again."""
    with pytest.raises(InvalidValue, match="never ends"):
        PauseSchedule(cron, duration)


@pytest.mark.parametrize(
    ("cron", "duration"),
    [("*/2 * * * *", MINUTE), ("0 * * * *", HOUR - MINUTE), ("0 22 * * *", DAY - MINUTE), ("0 0 1 * *", 7 * DAY)],
)
def test_a_gap_of_a_minute_is_an_end(cron: str, duration: timedelta) -> None:
    """A schedule with a gap of one minute between its pauses is valid."""
    assert duration == PauseSchedule(cron, duration).duration


def test_leap_day_is_a_day() -> None:
    """A schedule for 29 February, which fires once in four years, is valid."""
    schedule = PauseSchedule("0 0 29 2 *", HOUR)
    assert [True, False] == [schedule.is_paused(utc(day)) for day in ("2028-02-29 00:30", "2027-03-01 00:30")]
    assert utc("2024-02-29 01:00") == schedule.paused_until(utc("2024-02-29 00:00"))


def test_a_number_is_a_duration_in_minutes() -> None:
    """A pause of 59 lasts 59 minutes."""
    assert 59 * MINUTE == PauseSchedule("0 22 * * *", 59).duration


@pytest.mark.parametrize("duration", [timedelta(), -HOUR, 0, 10_081, 59 * MINUTE / 60, 7 * DAY + TICK])
def test_durations_out_of_their_limits_are_refused(duration: Any) -> None:
    """A pause must last from 1 minute to 7 days."""
    with pytest.raises(InvalidValue) as caught:
        PauseSchedule("0 22 1 * *", duration)
    assert "duration" == caught.value.field


@pytest.mark.parametrize("duration", [True, "60", 60.0, None])
def test_durations_are_spans_or_minutes(duration: Any) -> None:
    """A duration must be a timedelta or a whole number of minutes."""
    with pytest.raises(InvalidValue) as caught:
        PauseSchedule("0 22 * * *", duration)
    assert "duration" == caught.value.field


@pytest.mark.parametrize("tz", ["", "Mars/Olympus", "Europe", "/etc/localtime", "../UTC", "UTC\0", "Ä", 7, None])
def test_unknown_zones_are_refused(tz: Any) -> None:
    """A zone must be an IANA name that this machine knows."""
    with pytest.raises(InvalidValue) as caught:
        PauseSchedule("0 22 * * *", HOUR, tz)
    assert "tz" == caught.value.field


@pytest.mark.parametrize("instant", [datetime(2025, 1, 1), "2025-01-01", None])  # noqa: DTZ001 - naive on purpose
def test_instants_are_aware(instant: Any) -> None:
    """Both methods refuse an instant that is not an aware datetime."""
    schedule = PauseSchedule("0 22 * * *", HOUR)
    for ask in (schedule.is_paused, schedule.paused_until):
        with pytest.raises(InvalidValue) as caught:
            ask(instant)
        assert "instant" == caught.value.field


# --- plain days


def test_ends_are_exclusive_and_beginnings_inclusive() -> None:
    """A pause includes its first instant and excludes its end."""
    schedule = PauseSchedule("0 22 * * *", 8 * 60)
    begin, end = utc("2025-01-01 22:00"), utc("2025-01-02 06:00")
    probes = [begin - TICK, begin, end - TICK, end]
    assert [False, True, True, False] == [schedule.is_paused(probe) for probe in probes]
    assert [None, end, end, None] == [schedule.paused_until(probe) for probe in probes]


def test_seconds_count_in_a_duration_set_in_code() -> None:
    """A duration set in code may have seconds, for example 90 seconds."""
    schedule = PauseSchedule("0 22 * * *", 1.5 * MINUTE)
    assert utc("2025-01-01 22:01:30") == schedule.paused_until(utc("2025-01-01 22:00:59.5"))


def test_zone_moves_the_pause() -> None:
    """The schedule is read in its zone, and its end is returned in UTC."""
    end = PauseSchedule("0 22 * * *", HOUR, "Asia/Kathmandu").paused_until(utc("2025-01-01 16:15"))
    assert (utc("2025-01-01 17:15"), UTC) == (end, end and end.tzinfo)


def test_any_zone_may_ask() -> None:
    """The answer does not depend on the zone of the instant that is asked for."""
    schedule = PauseSchedule("0 22 * * *", HOUR, BERLIN)
    there = utc("2025-01-01 21:30").astimezone(ZoneInfo("America/New_York"))
    assert utc("2025-01-01 22:00") == schedule.paused_until(there)


def test_overlapping_windows_are_one_pause() -> None:
    """Windows of 90 minutes at 22:00 and 23:00 are one pause until 00:30."""
    schedule = PauseSchedule("0 22,23 * * *", 90)
    assert [("01-01 22:00", "01-02 00:30")] == windows(schedule, "2025-01-01 12:00", "2025-01-02 12:00")
    assert utc("2025-01-02 00:30") == schedule.paused_until(utc("2025-01-01 22:00"))


def test_touching_windows_are_one_pause() -> None:
    """Windows that touch are one pause."""
    schedule = PauseSchedule("0 22,23 * * *", 60)
    assert utc("2025-01-02 00:00") == schedule.paused_until(utc("2025-01-01 22:10"))


def test_weekly_windows() -> None:
    """A window from Friday 18:00 to Monday 09:00 is one pause, also over the end of a year."""
    schedule = PauseSchedule("0 18 * * 5", 63 * 60, BERLIN)
    assert [("12-26 17:00", "12-29 08:00"), ("01-02 17:00", "01-05 08:00")] == windows(
        schedule, "2025-12-26 12:00", "2026-01-05 12:00"
    )
    assert utc("2026-01-05 08:00") == schedule.paused_until(utc("2026-01-03 12:00"))


def test_longest_pause_that_ends() -> None:
    """A weekly pause of a week less one minute leaves a gap of that minute."""
    schedule = PauseSchedule("0 0 * * 0", 10_079)
    gap = utc("2025-01-04 23:59")
    assert [True, False, False, True] == [
        schedule.is_paused(probe) for probe in (gap - TICK, gap, gap + MINUTE - TICK, gap + MINUTE)
    ]
    assert gap == schedule.paused_until(utc("2024-12-29 00:00"))


# --- summer time

SPRING = ("2025-03-29 20:00", "2025-03-30 20:00")
AUTUMN = ("2025-10-25 20:00", "2025-10-26 20:00")
CHANGES: list[tuple[str, int, str, tuple[str, str], list[tuple[str, str]]]] = [
    # Berlin, 30 March 2025: 02:00 to 03:00 does not occur; 01:00 UTC is the change.
    ("30 2 * * *", 60, BERLIN, SPRING, [("03-30 01:00", "03-30 01:30")]),
    ("15 2 * * *", 30, BERLIN, SPRING, []),
    ("0 2 * * *", 60, BERLIN, SPRING, []),
    ("30 1 * * *", 60, BERLIN, SPRING, [("03-30 00:30", "03-30 01:00")]),
    ("0 1 * * *", 180, BERLIN, SPRING, [("03-30 00:00", "03-30 02:00")]),
    ("0 3 * * *", 60, BERLIN, SPRING, [("03-30 01:00", "03-30 02:00")]),
    ("0 22 * * *", 480, BERLIN, SPRING, [("03-29 21:00", "03-30 04:00")]),
    # Berlin, 26 October 2025: 02:00 to 03:00 occurs twice; 01:00 UTC is the change.
    ("30 2 * * *", 30, BERLIN, AUTUMN, [("10-26 00:30", "10-26 01:00"), ("10-26 01:30", "10-26 02:00")]),
    ("15 2 * * *", 30, BERLIN, AUTUMN, [("10-26 00:15", "10-26 00:45"), ("10-26 01:15", "10-26 01:45")]),
    ("0 2 * * *", 60, BERLIN, AUTUMN, [("10-26 00:00", "10-26 02:00")]),
    ("30 1 * * *", 120, BERLIN, AUTUMN, [("10-25 23:30", "10-26 02:30")]),
    ("30 1 * * *", 45, BERLIN, AUTUMN, [("10-25 23:30", "10-26 00:15"), ("10-26 01:00", "10-26 01:15")]),
    ("0 22 * * *", 480, BERLIN, AUTUMN, [("10-25 20:00", "10-26 05:00")]),
    # Lord Howe changes by half an hour: on 6 April 2025 at 15:00 UTC from 02:00 back to 01:30.
    ("30 1 * * *", 30, LORD_HOWE, ("2025-04-05 12:00", "2025-04-05 20:00"), [("04-05 14:30", "04-05 15:30")]),
    (
        "45 1 * * *",
        30,
        LORD_HOWE,
        ("2025-04-05 12:00", "2025-04-05 20:00"),
        [("04-05 14:45", "04-05 15:00"), ("04-05 15:15", "04-05 15:45")],
    ),
    # And on 5 October 2025 at 15:30 UTC from 02:00 on to 02:30.
    ("0 2 * * *", 45, LORD_HOWE, ("2025-10-04 12:00", "2025-10-04 20:00"), [("10-04 15:30", "10-04 15:45")]),
    ("0 2 * * *", 30, LORD_HOWE, ("2025-10-04 12:00", "2025-10-04 20:00"), []),
    ("45 1 * * *", 60, LORD_HOWE, ("2025-10-04 12:00", "2025-10-04 20:00"), [("10-04 15:15", "10-04 15:45")]),
]


@pytest.mark.parametrize(("cron", "minutes", "tz", "span", "expected"), CHANGES)
def test_pauses_where_the_clock_changes(
    cron: str, minutes: int, tz: str, span: tuple[str, str], expected: list[tuple[str, str]]
) -> None:
    """Clock readings that spring skips never pause; readings that autumn repeats pause both times."""
    schedule = PauseSchedule(cron, minutes, tz)
    assert expected == windows(schedule, *span)
    for begin, end in expected:
        began, ended = utc(f"2025-{begin}"), utc(f"2025-{end}")
        assert [ended] * 3 == [schedule.paused_until(at) for at in (began, began + (ended - began) / 3, ended - TICK)]
        assert [False, False] == [schedule.is_paused(at) for at in (began - TICK, ended)]


# --- compared with the definition

NUMBER = st.integers
MINUTES = st.lists(NUMBER(0, 59), min_size=1, max_size=3, unique=True)
HOURS = st.lists(NUMBER(0, 23), min_size=1, max_size=3, unique=True)
WEEKDAYS = st.none() | st.lists(NUMBER(0, 6), min_size=1, max_size=3, unique=True)
ZONES = st.sampled_from([BERLIN, LORD_HOWE, "UTC", "America/St_Johns", "Africa/Casablanca", "Pacific/Apia"])
TURNS = [
    utc("2025-03-30 01:00"),
    utc("2025-10-26 01:00"),
    utc("2025-04-05 15:00"),
    utc("2025-10-04 15:30"),
    utc("2025-02-23 02:00"),
    utc("2025-11-02 04:30"),
    utc("2011-12-30 10:00"),
]
INSTANTS = st.builds(lambda turn, offset: turn + offset, st.sampled_from(TURNS), st.timedeltas(-30 * HOUR, 30 * HOUR))


class Case:
    """A schedule, and a direct implementation of its definition."""

    def __init__(
        self, minutes: list[int], hours: list[int], weekdays: list[int] | None, duration: int, tz: str
    ) -> None:
        self.minutes, self.hours, self.weekdays = set(minutes), set(hours), weekdays
        self.duration, self.tz = duration, tz
        days = "*" if weekdays is None else ",".join(map(str, weekdays))
        cron = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * {days}"
        self.schedule = PauseSchedule(cron, duration, tz)

    def __repr__(self) -> str:
        return repr(self.schedule)

    def matches(self, reading: datetime) -> bool:
        """Return True if the cron expression matches this minute."""
        on_day = self.weekdays is None or reading.isoweekday() % 7 in self.weekdays
        return on_day and reading.hour in self.hours and reading.minute in self.minutes

    def defined(self, instant: datetime) -> bool:
        """Return True if m <= w < m + duration for some match m, trying every possible minute m."""
        reading = instant.astimezone(ZoneInfo(self.tz)).replace(tzinfo=None)
        minute = reading.replace(second=0, microsecond=0)
        candidates = (minute - back * MINUTE for back in range(self.duration + 1))
        return any(m <= reading < m + self.duration * MINUTE for m in candidates if self.matches(m))


CASES = st.builds(Case, MINUTES, HOURS, WEEKDAYS, NUMBER(1, 240), ZONES)


@given(CASES, st.lists(INSTANTS, min_size=1, max_size=10))
def test_is_paused_is_the_definition(case: Case, instants: list[datetime]) -> None:
    """``is_paused`` equals the definition, minute by minute, on naive readings."""
    assert [case.defined(instant) for instant in instants] == [case.schedule.is_paused(one) for one in instants]


@given(CASES, INSTANTS, st.lists(st.floats(0, 1, exclude_max=True), max_size=8))
def test_paused_until_is_the_first_instant_after(case: Case, instant: datetime, probes: list[float]) -> None:
    """Every instant before ``paused_until`` is paused, and this instant is not; None means that nothing is paused."""
    until = case.schedule.paused_until(instant)
    if until is None:
        assert not case.defined(instant)
        return
    span = until - instant
    assert not case.defined(until)
    assert [] == [probe for probe in (0.0, 1.0, *probes) if not case.defined(min(instant + span * probe, until - TICK))]
    change = [turn for turn in TURNS if instant <= turn < until]
    assert [] == [turn for turn in change if not case.defined(turn)]


@given(st.lists(NUMBER(0, 6), min_size=1, max_size=2, unique=True), NUMBER(240, 10_079), ZONES, INSTANTS)
def test_long_pauses_keep_the_definition(weekdays: list[int], duration: int, tz: str, instant: datetime) -> None:
    """Pauses of several days, overlapping or not, follow the same definition."""
    try:
        case = Case([0], [18], weekdays, duration, tz)
    except InvalidValue:
        return  # schedules that never end
    until = case.schedule.paused_until(instant)
    assert case.defined(instant) == (until is not None)
    if until is not None:
        assert (True, False) == (case.defined(until - TICK), case.defined(until))


@pytest.mark.parametrize("tz", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
@pytest.mark.parametrize("cron", ["0 * * * *", "30 23 31 12 *", "0 0 29 2 sun"])
def test_instants_at_the_ends_of_time_are_told_of(cron: str, tz: str) -> None:
    """Both methods answer at the first and last datetimes; a replay may pause in the year 9998."""
    schedule = PauseSchedule(cron, 30, tz)
    late, last = datetime(9998, 12, 31, 23, 45, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for instant in (datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC), late, last - 11 * DAY, last):
        assert schedule.is_paused(instant) == (schedule.paused_until(instant) is not None)
    assert late + 15 * MINUTE == PauseSchedule("30 23 31 12 *", 30).paused_until(late)
    assert None is PauseSchedule("0 * * * *", 59).paused_until(last)
