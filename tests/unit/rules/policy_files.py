"""Policies files that hypothesis makes: valid mappings as a reader of JSON, of TOML or of YAML returns them."""

from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
YEAR = 365 * 86400
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,60}", fullmatch=True).filter(lambda name: name != "builtin")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
TARGETS = st.from_regex(r"[a-z]{1,8}:[a-z #@-]{0,8}[a-z]", fullmatch=True).filter(
    lambda name: not name.startswith("oncall:")
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).filter(lambda text: text.strip())


@st.composite
def spans(draw: st.DrawFn, least: int = 0, most: int = YEAR) -> str:
    """Return a span of ``least`` to ``most`` seconds in some unit."""
    fitting = [unit for unit, seconds in UNITS.items() if -(-least // seconds) * seconds <= most]
    unit = draw(st.sampled_from(fitting))
    return f"{draw(st.integers(-(-least // UNITS[unit]), most // UNITS[unit]))}{unit}"


def seconds(span: str) -> int:
    """Return the seconds of a span."""
    return int(span[:-1]) * UNITS[span[-1]]


def clock_times(*, last: bool = False) -> st.SearchStrategy[str]:
    """Return times of day, with 24:00 if they end a window."""
    times = st.times().map(lambda time: time.isoformat("seconds")) | st.times().map(lambda time: f"{time:%H:%M}")
    return times | st.just("24:00") if last else times


def days() -> st.SearchStrategy[Any]:
    """Return days of the week, as a text or as a list."""
    part = st.sampled_from(DAYS) | st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).map("-".join)
    parts = st.lists(part, min_size=1, max_size=4)
    return parts | parts.map(",".join)


def windows() -> st.SearchStrategy[dict[str, Any]]:
    """Return windows."""
    return st.fixed_dictionaries({"from": clock_times(), "to": clock_times(last=True)}, optional={"days": days()})


def hours() -> st.SearchStrategy[dict[str, Any]]:
    """Return hours. They open every week, because at most 20 dates are closed and these are far from each other."""
    closed = st.lists(st.dates(date(1970, 1, 1), date(2199, 12, 31)).map(str), max_size=20)
    return st.fixed_dictionaries(
        {"zone": ZONES, "windows": st.lists(windows(), min_size=1, max_size=4)}, optional={"closed": closed}
    )


PEOPLE = st.from_regex(r"[A-Za-z](\w| \w){0,20}", fullmatch=True)


def moments(first: int = 1970, last: int = 2199) -> st.SearchStrategy[str]:
    """Return local times, with seconds or without."""
    times = st.datetimes(datetime(first, 1, 1), datetime(last, 12, 31))  # noqa: DTZ001 - local times
    return times.map(lambda each: each.isoformat(timespec="seconds")) | times.map(lambda each: f"{each:%Y-%m-%d %H:%M}")


def layers(named: list[str], first: int = 1970, last: int = 2199) -> st.SearchStrategy[dict[str, Any]]:
    """Return layers that may name the hours ``named``, and start in one of these years."""
    return st.fixed_dictionaries(
        {
            "zone": ZONES,
            "start": moments(first, last),
            "turn": spans(3600),
            "people": st.lists(PEOPLE, min_size=1, max_size=4, unique=True),
        },
        optional={"hours": st.sampled_from(named)} if named else {},
    )


@st.composite
def schedules(draw: st.DrawFn, named: list[str], people: list[str]) -> dict[str, Any]:
    """Return a schedule of one of the three kinds. Each of its layers starts in a later year than the one before."""
    kind = draw(st.sampled_from(["rotation", "layers", "ical"]))
    if kind == "ical":
        return {"ical": draw(st.sampled_from(["rota.ics", "https://calendar.example/s3cret.ics", "../rota"]))}
    years = [2000] if kind == "rotation" else [2000, 2010, 2020][: draw(st.integers(1, 3))]
    found = [draw(layers(named, year, year + 5)) for year in years]
    if draw(st.booleans()):
        found[-1]["until"] = draw(moments(2030))
    schedule: dict[str, Any] = {"rotation": found[0]} if kind == "rotation" else {"layers": found}
    if draw(st.booleans()):
        offset = st.sampled_from(["", "Z", "+05:45", "-03:30"])
        spell = st.tuples(moments(2000, 2010), offset, moments(2015), offset)
        known = st.sampled_from([*people, *found[0]["people"]])
        schedule["overrides"] = [
            {"from": begin + one, "to": end + two, "person": draw(known)}
            for begin, one, end, two in draw(st.lists(spell, max_size=3))
        ]
    return schedule


@st.composite
def policies(draw: st.DrawFn, named: list[str]) -> dict[str, Any]:
    """Return a policy that may name the hours ``named``. Under a clock its gaps are at most an hour."""
    clock = draw(st.none() | st.sampled_from(named)) if named else None
    # The shortest window lasts a second, and its hours open once a week: in five years 260 seconds.
    gap = spans(0, YEAR if clock is None else 200)
    levels: list[dict[str, Any]] = draw(
        st.lists(
            st.fixed_dictionaries(
                {"after": gap},
                optional={"to": st.lists(TARGETS, min_size=1, max_size=3) | TARGETS | NAMES.map("oncall:{}".format)}
                | ({"deliver": st.sampled_from(named)} if named else {}),
            ),
            min_size=1,
            max_size=draw(st.sampled_from([1, 2, 5, 50])),
        )
    )
    policy: dict[str, Any] = {"levels": levels}
    if clock is not None:
        policy["clock"] = clock
    times = draw(st.none() | st.integers(0, 100 // len(levels) - 1))
    if times is not None:
        policy["repeat"] = {"times": draw(st.sampled_from([times, str(times)]))}
        if (times and not seconds(levels[0]["after"])) or draw(st.booleans()):
            policy["repeat"]["after"] = draw(gap)
    if draw(st.booleans()):
        policy["anchor"] = draw(st.sampled_from(["previous", "first_seen"]))
    if policy.get("anchor") == "first_seen" or draw(st.booleans()):
        policy["min_gap"] = draw(spans(1))
    if draw(st.booleans()):
        policy["ack_timeout"] = draw(spans(60))
    if draw(st.booleans()):
        policy["on_ack_expiry"] = draw(st.sampled_from(["resume", "restart"]))
    return policy


def _named(strategy: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(NAMES, unique_by=str.casefold, min_size=least, max_size=3)
    return names.flatmap(lambda each: st.fixed_dictionaries(dict.fromkeys(each, strategy)))


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """Return a valid policies file."""
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["hours"] = draw(_named(hours()))
    named = list(found.get("hours", ()))
    found["policies"] = draw(_named(policies(named), least=1))
    if draw(st.booleans()):
        found["people"] = draw(st.dictionaries(PEOPLE, TARGETS, max_size=3))
    if draw(st.booleans()):
        found["schedules"] = draw(_named(schedules(named, list(found.get("people", ())))))
    if draw(st.booleans()):
        assignment = st.fixed_dictionaries(
            {"policy": st.sampled_from([*found["policies"], "builtin"])},
            optional={"severity": TEXTS, "labels": st.dictionaries(TEXTS, TEXTS, max_size=2)},
        )
        found["assign"] = draw(st.lists(assignment, max_size=3))
    return found


def after_of(span: str) -> timedelta:
    """Return a span as a timedelta."""
    return timedelta(seconds=seconds(span))
