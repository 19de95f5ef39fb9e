"""The whole table of verbs and states, tested through the engine."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

from escalation_core import Engine, Incident, InvalidValue, State, TransitionRefused
from escalation_core.rules.transitions import ALLOWED, Verb
from escalation_core.testing import ManualClock, MemoryStore

from ..incident_in_state import ENDS, LIVE, NOW, T10, expected, stand
from ..kit import DAY, HOUR, MINUTE, START, actions, picture, row, states

Call = Callable[[Engine], Awaitable[Incident]]
CALLS: dict[Verb, Call] = {
    Verb.OPEN: lambda engine: engine.open("k", by="op"),
    Verb.ACKNOWLEDGE: lambda engine: engine.acknowledge("k", by="op"),
    Verb.UNACKNOWLEDGE: lambda engine: engine.unacknowledge("k", by="op"),
    Verb.RESOLVE: lambda engine: engine.resolve("k", by="op"),
    Verb.CHANGE_SEVERITY: lambda engine: engine.change_severity("k", "warning", by="op"),
    Verb.SNOOZE: lambda engine: engine.snooze("k", START + 9 * HOUR, by="op"),
    Verb.DRAIN: lambda engine: engine.drain("k", by="op"),
    Verb.REBIND: lambda engine: engine.rebind("k", by="op"),
}
REFUSED = [
    *((verb, State.UNKNOWN) for verb in Verb if verb is not Verb.OPEN),
    *((verb, State.RESOLVED) for verb in Verb if verb not in (Verb.OPEN, Verb.RESOLVE)),
    (Verb.SNOOZE, State.ACKNOWLEDGED),
    (Verb.DRAIN, State.ACKNOWLEDGED),
]
NO_OPS = [
    (Verb.ACKNOWLEDGE, State.ACKNOWLEDGED),
    (Verb.UNACKNOWLEDGE, State.OPEN),
    (Verb.RESOLVE, State.RESOLVED),
    *((Verb.OPEN, state) for state in LIVE),
]


def test_table_of_the_code_is_the_table_of_the_rules() -> None:
    """The code allows exactly the pairs that the table does not refuse."""
    allowed = {(verb, state) for verb in Verb for state in ALLOWED[verb]}
    assert {(verb, state) for verb in Verb for state in State} - set(REFUSED) == allowed


@pytest.mark.parametrize(("verb", "state"), REFUSED)
async def test_refused_verbs_write_nothing(verb: Verb, state: State, store: MemoryStore, clock: ManualClock) -> None:
    """A refusal names key, state, verb and remedy, and leaves the store unchanged."""
    engine = await stand(store, clock, state)
    before = picture(store)
    with pytest.raises(TransitionRefused) as caught:
        await CALLS[verb](engine)
    refusal = caught.value
    assert "k" == refusal.incident_key
    assert state.value == refusal.state
    assert verb.value == refusal.verb
    assert f"cannot {verb.value} incident 'k': it is {state.value}; " in str(refusal)
    assert before == picture(store)


@pytest.mark.parametrize(("verb", "state"), NO_OPS)
async def test_no_ops_leave_no_trace(verb: Verb, state: State, store: MemoryStore, clock: ManualClock) -> None:
    """A verb that changes nothing returns the incident, and writes no row, page or note."""
    engine = await stand(store, clock, state)
    before = picture(store)
    result = await CALLS[verb](engine)
    assert before == picture(store)
    assert row(store) == attrs.asdict(result)


WRITES: list[tuple[str, State, Call, dict[str, Any], list[str]]] = [
    (
        "open",
        State.OPEN,
        lambda engine: engine.open("k", severity="warning", summary="new", labels={"b": "2"}, first_seen=NOW),
        {"severity": "warning", "summary": "new", "labels": {"b": "2"}, "next_due_at": T10 + 30 * MINUTE},
        ["pending"],
    ),
    (
        "open",
        State.ACKNOWLEDGED,
        lambda engine: engine.open("k", severity="warning", summary="new", labels={"b": "2"}, first_seen=NOW),
        {**ENDS[State.ACKNOWLEDGED], "severity": "warning", "summary": "new", "labels": {"b": "2"}},
        ["pending"],
    ),
    (
        "open",
        State.RESOLVED,
        lambda engine: engine.open("k"),
        {"level": 0, "episode": 2, "first_seen": NOW, "last_escalated_at": None, "next_due_at": NOW + 5 * MINUTE},
        ["cancelled"],
    ),
    (
        "open",
        State.RESOLVED,
        lambda engine: engine.open("k", severity="warning", summary="s", labels={}, first_seen=NOW - MINUTE),
        {
            "level": 0,
            "episode": 2,
            "first_seen": NOW - MINUTE,
            "last_escalated_at": None,
            "next_due_at": NOW + 14 * MINUTE,
            "severity": "warning",
            "summary": "s",
            "labels": {},
        },
        ["cancelled"],
    ),
    (
        "acknowledge",
        State.OPEN,
        CALLS[Verb.ACKNOWLEDGE],
        {"acknowledged_at": NOW, "acknowledged_by": "op", "next_due_at": None},
        ["cancelled"],
    ),
    ("unacknowledge", State.ACKNOWLEDGED, CALLS[Verb.UNACKNOWLEDGE], {}, ["cancelled"]),
    ("resolve", State.OPEN, CALLS[Verb.RESOLVE], {"resolved_at": NOW, "next_due_at": None}, ["cancelled"]),
    (
        "resolve",
        State.ACKNOWLEDGED,
        CALLS[Verb.RESOLVE],
        {**ENDS[State.ACKNOWLEDGED], "resolved_at": NOW},
        ["cancelled"],
    ),
    ("change_severity", State.OPEN, CALLS[Verb.CHANGE_SEVERITY], {"severity": "warning"}, ["pending"]),
    (
        "change_severity",
        State.ACKNOWLEDGED,
        CALLS[Verb.CHANGE_SEVERITY],
        {**ENDS[State.ACKNOWLEDGED], "severity": "warning"},
        ["pending"],
    ),
    (
        "snooze",
        State.OPEN,
        CALLS[Verb.SNOOZE],
        {"snoozed_until": START + 9 * HOUR, "next_due_at": START + 9 * HOUR},
        ["pending"],
    ),
    ("drain", State.OPEN, CALLS[Verb.DRAIN], {"level": 0, "episode": 2}, ["cancelled"]),
]


@pytest.mark.parametrize(
    ("verb", "state", "call", "fields", "pages"), WRITES, ids=[f"{case[0]}-{case[1]}" for case in WRITES]
)
async def test_verbs_write_what_the_table_says(
    verb: str,
    state: State,
    call: Call,
    fields: dict[str, Any],
    pages: list[str],
    store: MemoryStore,
    clock: ManualClock,
) -> None:
    """A verb writes exactly these columns, leaves pages in these states, and adds one note."""
    engine = await stand(store, clock, state)
    noted = len(store.notes)
    result = await call(engine)
    assert expected(**fields) == row(store)
    assert row(store) == attrs.asdict(result)
    assert pages == states(store)
    assert [verb] == actions(store)[noted:]


async def test_drain_at_level_0_is_refused(store: MemoryStore) -> None:
    """A drain at level 0 is refused with key, state and verb, and writes nothing."""
    engine = Engine(store)
    await engine.open("k")
    before = picture(store)
    with pytest.raises(TransitionRefused) as caught:
        await engine.drain("k")
    assert "k" == caught.value.incident_key
    assert "at level 0" == caught.value.state
    assert "drain" == caught.value.verb
    assert before == picture(store)


BIRTHS = [
    (-365 * DAY, True),
    (-365 * DAY - timedelta(microseconds=1), False),
    (24 * HOUR, True),
    (24 * HOUR + timedelta(microseconds=1), False),
]


@pytest.mark.parametrize(("born", "legal"), BIRTHS)
@pytest.mark.parametrize("state", list(State))
async def test_first_seen_of_open_has_limits(
    born: timedelta, legal: bool, state: State, store: MemoryStore, clock: ManualClock
) -> None:
    """first_seen lies at most one year back and 24 hours ahead; else open is refused and writes nothing."""
    engine = await stand(store, clock, state)
    before = picture(store)
    if legal:
        result = await engine.open("k", first_seen=NOW + born)
        assert (START if state in LIVE else NOW + born) == result.first_seen
    else:
        with pytest.raises(InvalidValue) as caught:
            await engine.open("k", first_seen=NOW + born)
        assert "first_seen" == caught.value.field
        assert before == picture(store)
