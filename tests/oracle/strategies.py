"""Strategies: policies files as plain mappings, settings, and scripts of steps for one incident."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from .hours import DAYS
from .ladder import Settings, read_ladder

NIGHTS = {
    "Europe/Berlin, March": datetime(2026, 3, 29, 1, tzinfo=UTC),
    "Europe/Berlin, October": datetime(2026, 10, 25, 1, tzinfo=UTC),
    "America/New_York, March": datetime(2026, 3, 8, 7, tzinfo=UTC),
    "America/New_York, November": datetime(2026, 11, 1, 6, tzinfo=UTC),
    "Australia/Lord_Howe, October": datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    "Australia/Lord_Howe, April": datetime(2026, 4, 4, 15, tzinfo=UTC),
    "Pacific/Apia, the day that does not exist": datetime(2011, 12, 30, 10, tzinfo=UTC),
}
"""The instants at which clocks change."""
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"),
    *("America/St_Johns", "Pacific/Chatham", "Africa/Casablanca", "Pacific/Kiritimati"),
)
NAMES = ("ops", "slow", "day", "default")
HOURS = ("office", "night")
SEVERITIES = ("critical", " Critical", "sev3", "warning")
MINUTE = timedelta(minutes=1)
STEP = 5
"""Ends of windows and changes of clocks are whole multiples of this many minutes."""
TARGETS = ("slack:ops", "slack:lead", "email:bob")


def one_of(names: Sequence[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


def minutes(least: int, most: int) -> st.SearchStrategy[str]:
    """Return spans as text, of whole minutes, now and then in seconds or hours."""
    whole = st.integers(least, most)
    return whole.map("{}m".format) | whole.map(lambda each: f"{60 * each}s") | whole.map(lambda each: f"{each * 60}s")


def days() -> st.SearchStrategy[str]:
    part = one_of(DAYS) | st.tuples(one_of(DAYS), one_of(DAYS)).map("-".join)
    return one_of(("mon-sun", "mon-fri")) | st.lists(part, min_size=1, max_size=2).map(",".join)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, str]:
    """Return a window of half an hour or more, mostly within a day or into the next one."""
    begin = draw(st.integers(0, 24 * 60 // STEP - 1))
    length = draw(st.integers(30 // STEP, 24 * 60 // STEP))
    ends = (begin * STEP, (begin + length) * STEP % (24 * 60))
    first, last = (f"{end // 60:02}:{end % 60:02}" for end in ends)
    found = {"from": first, "to": last}
    return found | {"days": draw(days())} if draw(st.booleans()) else found


def dates() -> st.SearchStrategy[date]:
    """Return a date within two days of a night on which clocks change."""
    return st.tuples(st.sampled_from(sorted(NIGHTS)), st.integers(-2, 2)).map(
        lambda drawn: NIGHTS[drawn[0]].date() + timedelta(days=drawn[1])
    )


def hours() -> st.SearchStrategy[dict[str, Any]]:
    """Return hours that open at least half an hour each week."""
    return st.fixed_dictionaries(
        {"zone": one_of(ZONES), "windows": st.lists(windows(), min_size=1, max_size=3)},
        optional={"closed": st.lists(dates().map(date.isoformat), max_size=3, unique=True)},
    )


def levels() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"after": st.just("0m") | minutes(0, 30) | minutes(30, 120)},
        optional={"to": st.lists(one_of(TARGETS), min_size=1, max_size=3), "deliver": one_of(HOURS)},
    )


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """Return a policy that a file may have."""
    policy: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"levels": st.lists(levels(), min_size=1, max_size=4)},
            optional={
                "anchor": one_of(("previous", "first_seen")),
                "min_gap": minutes(1, 60),
                "clock": one_of(HOURS),
                "ack_timeout": minutes(1, 180),
                "on_ack_expiry": one_of(("resume", "restart")),
            },
        )
    )
    times = draw(st.integers(0, 3))
    if times:
        policy["repeat"] = {"times": times}
        if policy["levels"][0]["after"] in {"0m", "0s"} or draw(st.booleans()):
            policy["repeat"]["after"] = draw(minutes(1, 120))
    if policy.get("anchor") == "first_seen" and "min_gap" not in policy:
        ladder = read_ladder("", policy | {"anchor": "previous"}, dict.fromkeys(HOURS, EMPTY))
        if not any(ladder.gap(n) for n in range(1, ladder.total + 1)):
            policy["min_gap"] = draw(minutes(1, 60))
    return policy


EMPTY: dict[str, Any] = {"zone": "UTC", "windows": []}


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """Return a policies file with some of the names, both hours, and rules of assignment."""
    named = draw(st.dictionaries(one_of(NAMES), policies(), min_size=1, max_size=3))
    rule = st.fixed_dictionaries(
        {"policy": one_of((*named, "builtin"))},
        optional={"severity": one_of(SEVERITIES), "labels": st.just({"team": "db"}) | st.just({"team": "web"})},
    )
    return {
        "policies": named,
        "hours": {name: draw(hours()) for name in HOURS},
        "assign": draw(st.lists(rule, max_size=4)),
    }


def settings() -> st.SearchStrategy[Settings]:
    """Return settings of the built-in policy."""
    spans = st.integers(1, 40).map(lambda each: each * MINUTE)
    return st.builds(
        Settings,
        windows=st.dictionaries(one_of(("critical", "sev3")), spans, max_size=2),
        window=spans,
        max_level=st.none() | st.integers(1, 10),
        snooze=st.integers(0, 30).map(lambda each: each * MINUTE),
        tick=st.sampled_from((timedelta(seconds=1), MINUTE, 10 * MINUTE)),
    )


def waits() -> st.SearchStrategy[timedelta]:
    """Return the time before a step: mostly minutes, now and then an outage, a microsecond, or a step back."""
    return (
        st.integers(0, 15).map(lambda each: each * MINUTE)
        | st.integers(0, 15).map(lambda each: each * MINUTE)
        | st.integers(0, 48).map(lambda each: timedelta(hours=each))
        | st.sampled_from((timedelta(microseconds=1), timedelta(seconds=59), -MINUTE, timedelta(hours=-3)))
    )


INSTANTS = {"acknowledged_at", "resolved_at", "snoozed_until", "first_seen", "last_escalated_at", "until"}
"""Arguments that a script has as instants; strategies draw them as spans from the instant of their step."""
LABELS = st.sampled_from(({}, {"team": "db"}, {"team": "web"}))
POLICY = one_of((*NAMES, "builtin", "unknown"))


def near(least: int, most: int) -> st.SearchStrategy[timedelta]:
    return st.integers(least, most).map(lambda each: each * MINUTE)


def columns() -> st.SearchStrategy[dict[str, Any]]:
    """Return the columns that a host's own SQL sets."""
    return st.fixed_dictionaries(
        {},
        optional={
            "severity": one_of(SEVERITIES) | st.none(),
            "policy": POLICY | st.none(),
            "level": st.integers(0, 6),
            "acknowledged_at": st.none() | near(-90, 0),
            "resolved_at": st.none() | near(-10, 0),
            "snoozed_until": st.none() | near(-30, 90),
            "first_seen": near(-300, 0),
        },
    ).filter(bool)


def actions(base: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a step without its instant; ``base`` draws the files that may come into force."""

    def step(do: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({"do": st.just(do)}, optional=arguments)

    tick = st.just({"do": "tick"})
    verbs = st.one_of(
        step("open", severity=one_of(SEVERITIES), policy=POLICY, labels=LABELS, first_seen=near(-300, 60)),
        step("acknowledge", by=one_of(("ann", "bob"))),
        step("acknowledge"),
        step("unacknowledge"),
        step("resolve"),
        one_of(SEVERITIES).map(lambda severity: {"do": "change_severity", "severity": severity}),
        (st.none() | near(0, 90)).map(lambda until: {"do": "snooze", "until": until}),
        step("drain"),
        step("rebind", restart=st.booleans()),
    )
    rest = st.one_of(
        columns().map(lambda drawn: {"do": "host_write", **drawn}),
        step("deliver"),
        step("recalc"),
        (st.none() | base).map(lambda file: {"do": "file", "file": file}),
        st.tuples(one_of(("enabled", "v1", "paused", "dry_run", "inside")), st.booleans()).map(
            lambda drawn: {"do": "switch", drawn[0]: drawn[1]}
        ),
        step("lose_texts"),
    )
    return st.one_of(tick, tick, tick, verbs, verbs, rest)


def scripts(base: st.SearchStrategy[dict[str, Any]] | None = None) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return the steps of a night in which clocks change: an ``open`` first, then whatever comes."""
    timed = st.lists(st.tuples(waits(), actions(files() if base is None else base)), max_size=40)
    return st.tuples(st.sampled_from(sorted(NIGHTS)), st.integers(-300, 300), one_of(SEVERITIES), timed).map(
        lambda drawn: _script(NIGHTS[drawn[0]] + drawn[1] * MINUTE, drawn[2], drawn[3])
    )


def _script(at: datetime, severity: str, timed: Sequence[tuple[timedelta, dict[str, Any]]]) -> list[dict[str, Any]]:
    script: list[dict[str, Any]] = [{"do": "open", "at": at, "severity": severity}]
    for wait, action in timed:
        at += wait
        instants = {key: at + value for key, value in action.items() if key in INSTANTS and value is not None}
        script.append({"at": at, **action, **instants})
    return script
