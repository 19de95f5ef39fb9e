"""Strategies: policies files as plain mappings, settings, and scripts of steps for one incident."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
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


@cache
def one_of(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


@cache
def minutes(least: int, most: int) -> st.SearchStrategy[str]:
    """Return spans as text, of whole minutes, now and then in seconds or hours."""
    whole = st.integers(least, most)
    return whole.map("{}m".format) | whole.map(lambda each: f"{60 * each}s") | whole.map(lambda each: f"{each * 60}s")


@cache
def days() -> st.SearchStrategy[str]:
    part = one_of(DAYS) | st.tuples(one_of(DAYS), one_of(DAYS)).map("-".join)
    return one_of(("mon-sun", "mon-fri")) | st.lists(part, min_size=1, max_size=2).map(",".join)


@cache
@st.composite
def windows(draw: st.DrawFn) -> dict[str, str]:
    """Return a window of half an hour or more, mostly within a day or into the next one."""
    begin = draw(st.integers(0, 24 * 60 // STEP - 1))
    length = draw(st.integers(30 // STEP, 24 * 60 // STEP))
    ends = (begin * STEP, (begin + length) * STEP % (24 * 60))
    first, last = (f"{end // 60:02}:{end % 60:02}" for end in ends)
    found = {"from": first, "to": last}
    return found | {"days": draw(days())} if draw(st.booleans()) else found


@cache
def dates() -> st.SearchStrategy[date]:
    """Return a date within two days of a night on which clocks change."""
    return st.tuples(st.sampled_from(sorted(NIGHTS)), st.integers(-2, 2)).map(
        lambda drawn: NIGHTS[drawn[0]].date() + timedelta(days=drawn[1])
    )


@cache
def hours() -> st.SearchStrategy[dict[str, Any]]:
    """Return hours that open at least half an hour each week."""
    return st.fixed_dictionaries(
        {"zone": one_of(ZONES), "windows": st.lists(windows(), min_size=1, max_size=3)},
        optional={"closed": st.lists(dates().map(date.isoformat), max_size=3, unique=True)},
    )


@cache
def seldom(values: tuple[str, ...]) -> st.SearchStrategy[str | None]:
    """Return None three times out of four."""
    return st.sampled_from((None, None, None, *values))


AFTER = st.just("0m") | minutes(1, 15) | minutes(1, 120)


@cache
def recipients(targets: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(one_of(targets), min_size=1, max_size=3)


@cache
@st.composite
def levels(draw: st.DrawFn, targets: tuple[str, ...]) -> dict[str, Any]:
    level: dict[str, Any] = {"after": draw(AFTER)}
    if draw(st.booleans()):
        level["to"] = draw(recipients(targets))
    deliver = draw(seldom(HOURS))
    return level | ({} if deliver is None else {"deliver": deliver})


@cache
def ladders(targets: tuple[str, ...]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(levels(targets), min_size=1, max_size=4)


OPTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "anchor": one_of(("previous", "first_seen")),
        "min_gap": minutes(1, 20),
        "ack_timeout": minutes(1, 60),
        "on_ack_expiry": one_of(("resume", "restart")),
    },
)


@cache
@st.composite
def policies(draw: st.DrawFn, targets: tuple[str, ...]) -> dict[str, Any]:
    """Return a policy that a file may have."""
    policy: dict[str, Any] = {"levels": draw(ladders(targets))}
    clock = draw(seldom(HOURS))
    if clock is not None:
        policy["clock"] = clock
    policy |= draw(OPTIONS)
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


@cache
def named_policies(targets: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(one_of(NAMES), policies(targets), min_size=1, max_size=3)


BOTH_HOURS = st.fixed_dictionaries({name: hours() for name in HOURS})


@cache
@st.composite
def files(draw: st.DrawFn, targets: tuple[str, ...] = TARGETS) -> dict[str, Any]:
    """Return a policies file with some of the names, both hours, and rules of assignment."""
    named = draw(named_policies(targets))
    rule = st.fixed_dictionaries(
        {"policy": one_of((*named, "builtin"))},
        optional={"severity": one_of(SEVERITIES), "labels": st.just({"team": "db"}) | st.just({"team": "web"})},
    )
    return {
        "policies": named,
        "hours": draw(BOTH_HOURS),
        "assign": draw(st.lists(rule, min_size=1, max_size=4)),
    }


@cache
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


@cache
def waits() -> st.SearchStrategy[timedelta]:
    """Return the time before a step: mostly minutes, now and then an outage, a microsecond, or a step back."""
    few = near(0, 15)
    odd = st.sampled_from((timedelta(microseconds=1), timedelta(seconds=59), -MINUTE, timedelta(hours=-3)))
    return st.one_of(few, few, few, near(0, 48 * 60), odd)


@cache
def near(least: int, most: int) -> st.SearchStrategy[timedelta]:
    return st.integers(least, most).map(lambda each: each * MINUTE)


Step = dict[str, Any]
FILES = 2
"""The most files of a night."""
INSTANTS = {
    *("acknowledged_at", "resolved_at", "snoozed_until", "first_seen", "last_escalated_at", "until", "begin", "end"),
}
"""Arguments that a script has as instants; strategies draw them as spans from the instant of their step."""
LABELS = st.sampled_from(({}, {"team": "db"}, {"team": "web"}))
POLICY = one_of((*NAMES, "builtin", "unknown"))
SWITCHES = {"enabled": False, "v1": False, "inside": False, "paused": True, "dry_run": True}
"""Each switch, with its value that keeps a tick from its work."""


@cache
def columns() -> st.SearchStrategy[Step]:
    """Return the columns that a host's own SQL sets: mostly one or two."""
    one = st.one_of(
        st.fixed_dictionaries({"severity": one_of(SEVERITIES) | st.none()}),
        st.fixed_dictionaries({"policy": POLICY | st.none()}),
        st.fixed_dictionaries({"level": st.integers(0, 6)}),
        st.fixed_dictionaries({"acknowledged_at": st.none() | near(-90, 0)}),
        st.fixed_dictionaries({"resolved_at": st.none() | near(-10, 0)}),
        st.fixed_dictionaries({"snoozed_until": st.none() | near(-30, 90)}),
        st.fixed_dictionaries({"first_seen": near(-300, 0)}),
        st.fixed_dictionaries({"last_escalated_at": st.none() | near(-60, 0)}),
    )
    return one | st.tuples(one, one).map(lambda drawn: drawn[0] | drawn[1])


@cache
def runs() -> st.SearchStrategy[list[Step]]:
    """Return ticks at equal distances; each has the time since the one before as ``wait``."""
    return st.tuples(near(1, 20), st.integers(1, 12)).map(
        lambda drawn: [{"do": "tick", "wait": drawn[0]} for _ in range(drawn[1])]
    )


@cache
def actions() -> st.SearchStrategy[list[Step]]:
    """Return some steps without their instants. A step ``file`` has the number of a file."""

    def step(do: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Step]]:
        return st.fixed_dictionaries({"do": st.just(do), **arguments}).map(lambda drawn: [drawn])

    def switched(drawn: tuple[str, list[Step]]) -> list[Step]:
        name, between = drawn
        off, on = {name: SWITCHES[name]}, {name: not SWITCHES[name]}
        return [{"do": "switch", **off}, *between, {"do": "switch", **on}]

    def flaps(severities: tuple[str, str]) -> list[Step]:
        change = [{"do": "change_severity", "wait": MINUTE, "severity": severity} for severity in severities]
        return [step for each in change * 4 for step in (each, {"do": "tick"})]

    verbs = st.one_of(
        runs().map(lambda drawn: [{"do": "acknowledge"}, *drawn]),
        st.tuples(one_of(SEVERITIES), one_of(SEVERITIES)).map(flaps),
        step("acknowledge", by=one_of(("ann", "bob"))),
        step("unacknowledge"),
        step("change_severity", severity=one_of(SEVERITIES)),
        step("snooze", until=st.none() | near(0, 90)),
        step("drain"),
        step("open", severity=one_of(SEVERITIES), labels=LABELS),
        step("open", policy=POLICY),
        step("rebind", restart=st.booleans()),
    )
    hosts = columns().map(lambda drawn: [{"do": "host_write", **drawn}])
    rest = st.one_of(
        step("deliver"),
        step("recalc"),
        step("resolve"),
        step("open", first_seen=near(-300, 60)),
        step("file", file=st.integers(0, FILES)),
        st.tuples(one_of(tuple(sorted(SWITCHES))), runs()).map(switched),
        step("lose_texts"),
    )
    return st.one_of(runs(), runs(), runs(), verbs, verbs, hosts, rest)


LENGTH = st.integers(0, 25)
TIMED = st.tuples(waits(), actions())
Timed = st.SearchStrategy[tuple[timedelta, list[Step]]]


@st.composite
def scripts(draw: st.DrawFn, choices: Sequence[Step | None] = (None,), timed: Timed = TIMED) -> list[Step]:
    """Return the steps of a night in which clocks change: an ``open`` or an insert first, then whatever comes."""
    at = NIGHTS[draw(st.sampled_from(sorted(NIGHTS)))] + draw(near(-300, 300))
    first = {"do": draw(one_of(("open", "host_write"))), "at": at, "severity": draw(one_of(SEVERITIES))}
    script: list[Step] = [first]
    # Without a length drawn first, most scripts would be short.
    length = draw(LENGTH)
    for wait, steps in draw(st.lists(timed, min_size=length, max_size=length)):
        at += wait
        for step in steps:
            at += step.get("wait", timedelta())
            instants = {key: at + value for key, value in step.items() if key in INSTANTS and value is not None}
            plain = {key: value for key, value in step.items() if key != "wait"}
            if step["do"] == "file":
                plain["file"] = choices[step["file"] % len(choices)]
            script.append({"at": at, **plain, **instants})
    return script


CHOICES = st.lists(files(), min_size=1, max_size=FILES)


@st.composite
def nights(draw: st.DrawFn) -> tuple[Settings, Step | None, list[Step]]:
    """Return settings, the file at first, and a script, in which other files may come into force."""
    choices: list[Step | None] = [*draw(CHOICES), None]
    # A file is the usual case; without one there is little to see.
    first = draw(st.sampled_from((choices[0], choices[0], choices[0], None)))
    return draw(settings()), first, draw(scripts(choices))
