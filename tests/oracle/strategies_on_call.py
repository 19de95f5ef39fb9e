"""Strategies: nights with schedules, people and overrides, beside the nights of ``strategies``."""

from datetime import datetime, timedelta
from functools import cache
from typing import Any

from hypothesis import strategies as st

from .ladder import Settings
from .oncall import PREFIX, Roster, Shifts
from .strategies import (
    BOTH_HOURS,
    FILES,
    HOURS,
    MINUTE,
    TARGETS,
    Step,
    actions,
    files,
    near,
    one_of,
    recipients,
    scripts,
    settings,
    waits,
)

SCHEDULES = ("primary", "secondary", "tertiary")
PEOPLE = ("ann", "bob", "cid")
GONE = "slack:gone"
"""A target that no notifier serves."""
SERVED = frozenset({*TARGETS, "slack:@ann", "router"})
TO = (*(PREFIX + name for name in SCHEDULES), *(PREFIX + name for name in SCHEDULES), "slack:ops", GONE)
"""The recipients of levels; schedules are the usual case."""
FIRST = {"after": "0m", "to": ["oncall:primary"]}
Span = tuple[timedelta, timedelta, str]


@cache
def spans() -> st.SearchStrategy[list[Span]]:
    """Return who is on call from when for how long; two people may be at once."""
    return st.lists(st.tuples(near(-120, 60), near(60, 480), one_of(PEOPLE)), min_size=1, max_size=3)


@cache
def horizons() -> st.SearchStrategy[timedelta | None]:
    """Return the end of what a schedule knows; three times out of four it knows all."""
    return st.one_of(st.none(), st.none(), st.none(), near(-60, 600))


@st.composite
def rosters(draw: st.DrawFn, begin: datetime) -> Roster:
    """Return schedules around an instant, some of which are missing, unreadable or at their end."""
    schedules: dict[str, Shifts | None] = {}
    for name in SCHEDULES:
        kind = draw(one_of(("empty", "empty", "spans", "spans", "spans", "unreadable", "missing")))
        if kind == "unreadable":
            schedules[name] = None
        elif kind != "missing":
            found = draw(spans()) if kind == "spans" else ()
            horizon = draw(horizons())
            schedules[name] = Shifts(
                tuple((begin + offset, begin + offset + length, person) for offset, length, person in found),
                None if horizon is None else begin + horizon,
            )
    people = {"ann": "slack:@ann", "bob": draw(one_of(("email:bob", "slack:@ann", "slack:ops")))}
    if draw(st.booleans()):
        people["cid"] = GONE
    return Roster(
        people,
        schedules,
        SERVED,
        default=draw(st.sampled_from((None, "slack:lead", "slack:lead", GONE))),
        router=draw(st.sampled_from((("router",), ("router", "slack:ops"), (GONE,), ()))),
    )


@cache
def changes() -> st.SearchStrategy[list[Step]]:
    """Return a step that concerns who is on call, or one that leaves the level behind its events."""
    override = st.fixed_dictionaries(
        {
            "do": st.just("override"),
            "schedule": one_of(SCHEDULES),
            "person": one_of(PEOPLE),
            "begin": near(-30, 60),
            "end": near(61, 180),
        }
    )
    back = st.integers(1, 4).map(lambda levels: [{"do": "set_back", "levels": levels}, {"do": "tick", "wait": MINUTE}])
    return st.one_of(override.map(lambda step: [step]), st.just([{"do": "replace_roster"}]), back)


@cache
def levels_on_call() -> st.SearchStrategy[dict[str, Any]]:
    """Return a level that mostly pages by schedules alone, and seldom waits for hours."""
    one = one_of(tuple(PREFIX + name for name in SCHEDULES)).map(lambda name: [name])
    return st.tuples(
        one_of(("0m", "1m", "5m", "20m")),
        st.one_of(one, one, recipients(TO), st.none()),
        st.sampled_from((None, None, None, None, None, *HOURS)),
    ).map(
        lambda drawn: {
            name: value for name, value in zip(("after", "to", "deliver"), drawn, strict=True) if value is not None
        }
    )


@cache
def files_on_call() -> st.SearchStrategy[dict[str, Any]]:
    """Return a file whose only policy has a level at once, and some more."""
    policy = st.fixed_dictionaries(
        {"levels": st.lists(levels_on_call(), min_size=1, max_size=4).map(lambda drawn: [FIRST, *drawn])},
        optional={
            "repeat": st.fixed_dictionaries({"times": st.integers(1, 3), "after": st.just("10m")}),
            "ack_timeout": st.just("20m"),
        },
    )
    return st.fixed_dictionaries(
        {
            "policies": st.fixed_dictionaries({"ops": policy}),
            "hours": BOTH_HOURS,
            "assign": st.just([{"policy": "ops"}]),
        }
    )


TIMED = st.tuples(waits(), st.one_of(actions(), *[changes()] * 3))
CHOICES = st.lists(st.one_of(files(TO), files_on_call(), files_on_call()), min_size=1, max_size=FILES)


@st.composite
def nights_on_call(draw: st.DrawFn) -> tuple[Settings, Step, list[Step], Roster]:
    """Return settings, the file at first, a script in which files and rosters change, and the roster at first."""
    choices: list[Step | None] = [*draw(CHOICES), None]
    script: list[dict[str, Any]] = draw(scripts(choices, TIMED))
    begin = script[0]["at"]
    # Most nights have few ticks; one at the beginning lets most incidents escalate.
    script.insert(1, {"do": "tick", "at": begin})
    for step in script:
        if step["do"] == "replace_roster":
            step["roster"] = draw(rosters(begin))
    first = choices[0]
    assert first is not None
    return draw(settings()), first, script, draw(rosters(begin))
