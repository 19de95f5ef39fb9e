"""Checks of what a host's writes do to the walk of an incident.

Triggers know no policy: they clear and keep columns, and a planner decides the rest.
"""

from datetime import datetime, timedelta
from typing import Any

import attrs

from ...engine.audit import read_audit
from ...model import NEEDS_REPLAN, AuditEntry, Escalation
from ...ports import Store, Transaction
from ..clock import ManualClock
from .harness import START, StoreHarness, by_key, incident, put, same

MINUTE = timedelta(minutes=1)
PIN = "ops@1a@critical"
WALK = ("policy_pin", "policy_level", "policy_since")
NONE = (None, None, None)


async def a_new_incident_has_no_walk(harness: StoreHarness) -> None:
    """A host's insert, a re-opening and a change of key clear the columns of the walk; the host's policy stays."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    walk: dict[str, Any] = {"policy_pin": PIN, "policy_level": 1, "policy_since": now}
    await put(
        store,
        incident("again", clock, policy="ops", resolved_at=now, next_due_at=None, level=2, **walk),
        incident("old", clock, policy="ops", level=2, **walk),
        incident("other", clock, policy="ops", level=2, **walk),
    )
    await host.insert("born", policy="ops", first_seen=now, **walk)
    await host.insert("copied", first_seen=now, next_due_at=now, **walk)
    await host.update("again", resolved_at=None, first_seen=now)
    await host.update("old", incident_key="new", policy_pin="x@2b@")
    await host.update("other", summary="s")
    rows = await host.rows()
    for key in ("born", "copied", "again", "new"):
        same(NONE, by_key(rows, key, *WALK), f"the walk of {key!r}")
    for key in ("born", "again", "new"):
        same("ops", rows[key]["policy"], f"the host's policy of {key!r}")
    same((PIN, 1, now), by_key(rows, "other", *WALK), "the walk of another row")


async def the_walk_is_the_engines(harness: StoreHarness) -> None:
    """A host's values in the columns of the walk are not written, whatever else the statement writes."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    walk = (PIN, 1, now)
    rows = [incident(key, clock, level=2, **dict(zip(WALK, walk, strict=True))) for key in ("a", "b", "c")]
    await put(store, *rows, incident("free", clock, acknowledged_at=now, next_due_at=None))
    theirs: dict[str, Any] = {"policy_pin": "x@2b@", "policy_level": 0, "policy_since": None}
    await host.update("a", **theirs)
    await host.update("b", severity="warning", **theirs)
    await host.update("c", next_due_at=now + MINUTE, **theirs)
    await host.update("free", severity="warning", **theirs)
    found = await host.rows()
    for key, due in (("a", now), ("b", NEEDS_REPLAN), ("c", now + MINUTE)):
        same((*walk, due), by_key(found, key, *WALK, "next_due_at"), f"the row of {key!r}")
    same((*NONE, None), by_key(found, "free", *WALK, "next_due_at"), "the row without a walk")


async def a_lowered_level_stays_in_its_walk(harness: StoreHarness) -> None:
    """A host that lowers the level leaves the walk, whose beginning is then at most the new level, and at least 0."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    for key, begin, level, expected in (
        ("above", 3, 1, 1),
        ("below", 1, 2, 1),
        ("none", None, 1, None),
        ("odd", 3, -1, 0),
        ("own", 3, 1, 1),
    ):
        await put(store, incident(key, clock, level=4, policy_pin=PIN, policy_level=begin, policy_since=now))
        await host.update(key, level=level, **({"episode": 7} if key == "own" else {}))
        row = by_key(await host.rows(), key, *WALK, "episode", "next_due_at")
        same((PIN, expected, now, 7 if key == "own" else 2, NEEDS_REPLAN), row, f"the row of {key!r}")


async def a_hosts_policy_is_watched(harness: StoreHarness) -> None:
    """A changed policy makes the engine plan the row again, and is noted in the audit."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    await put(store, incident("a", clock, policy_pin=PIN), incident("long", clock))
    for policy in ("ops", "ops", None):
        await host.update("a", policy=policy)
    await host.update("long", policy="x" * 100_000)
    rows = await host.rows()
    same((PIN, NEEDS_REPLAN), by_key(rows, "a", "policy_pin", "next_due_at"), "the row")
    said = [note.reason or "" for note in await _notes(store, "a", "change_policy")]
    same(2, len(said), "one note for each change")
    assert all(text.startswith("by SQL") for text in said), "the notes say that it was done by SQL"
    same({"ops", "none"}, {text.rpartition(": ")[2] for text in said}, "the notes end with the policy")
    (note,) = await _notes(store, "long", "change_policy")
    assert len(note.reason or "") < 2000, "the note of a long policy is cut"
    same(now, (await host.rows())["a"]["first_seen"] + 5 * MINUTE, "the episode goes on")


async def an_acknowledgement_taken_back_marks_the_pin(harness: StoreHarness) -> None:
    """A host that takes an acknowledgement back puts one ``!`` before the pin, which a later write leaves there."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    acked: dict[str, Any] = {"acknowledged_at": now, "acknowledged_by": "x", "next_due_at": None}
    await put(
        store,
        incident("a", clock, policy_pin=PIN, policy_level=1, **acked),
        incident("b", clock, policy_pin=f"!{PIN}", **acked),
        incident("free", clock, **acked),
        incident("own", clock, policy_pin=PIN, **acked),
        incident("done", clock, policy_pin=PIN, resolved_at=now, **acked),
        incident("later", clock, policy_pin=PIN, **acked),
    )
    for key in ("a", "b", "free", "done"):
        await host.update(key, acknowledged_at=None)
    await host.update("own", acknowledged_at=None, next_due_at=now + MINUTE)
    await host.update("later", resolved_at=now, acknowledged_at=None)
    rows = await host.rows()
    for key, pin, due in (
        ("a", f"!{PIN}", NEEDS_REPLAN),
        ("b", f"!{PIN}", NEEDS_REPLAN),
        ("free", None, NEEDS_REPLAN),
        ("own", f"!{PIN}", now + MINUTE),
        ("done", PIN, None),
        ("later", PIN, None),
    ):
        same((pin, due), by_key(rows, key, "policy_pin", "next_due_at"), f"the row of {key!r}")
    for columns in ({"severity": "warning"}, {"acknowledged_at": now}, {"acknowledged_at": None}):
        await host.update("a", **columns)
        same((f"!{PIN}", 1), by_key(await host.rows(), "a", "policy_pin", "policy_level"), f"after {columns}")


async def an_acknowledged_row_is_planned(harness: StoreHarness) -> None:
    """A host's write that leaves a row acknowledged has it planned if it is pinned, new, or waits to be planned."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    idle: dict[str, Any] = {"acknowledged_at": now, "next_due_at": None}
    await put(
        store,
        incident("pinned", clock, policy_pin=PIN),
        incident("pinned acked", clock, policy_pin=PIN, **idle),
        incident("free", clock),
        incident("free acked", clock, **idle),
        incident("marked", clock, next_due_at=NEEDS_REPLAN),
        incident("old", clock, **idle),
        incident("done", clock, resolved_at=now, next_due_at=None),
        incident("pinned done", clock, policy_pin=PIN, **idle),
    )
    for key in ("pinned", "free", "marked"):
        await host.update(key, acknowledged_at=now)
    for key in ("pinned acked", "free acked"):
        await host.update(key, policy="ops")
    await host.insert("born", acknowledged_at=now)
    await host.insert("born done", acknowledged_at=now, resolved_at=now)
    await host.update("old", incident_key="other")
    await host.update("done", resolved_at=None, acknowledged_at=now, first_seen=now)
    await host.update("pinned done", resolved_at=now)
    rows = await host.rows()
    planned = {key for key, row in rows.items() if row["next_due_at"] == NEEDS_REPLAN}
    same({"pinned", "pinned acked", "marked", "born", "other", "done"}, planned, "planned")
    idle_rows = {key for key, row in rows.items() if row["next_due_at"] is None}
    same({"free", "free acked", "born done", "pinned done"}, idle_rows, "not planned")


async def rows_that_no_trigger_saw_keep_no_other_walk(harness: StoreHarness) -> None:
    """``mark_unseen`` clears the walk of a row that was reopened, and caps the walk of one behind the ledger."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    walk: dict[str, Any] = {"policy_pin": PIN, "policy_level": 2, "policy_since": now}
    rows = [incident(key, clock, level=1, next_due_at=None, **walk) for key in ("again", "behind", "same")]
    await put(store, *rows, incident("higher", clock, level=3, next_due_at=None, **walk))
    resolved = AuditEntry(at=now, action="resolve", incident_key="again", episode=1)
    steps = [Escalation(incident_key="behind", episode=1, level=n, created_at=now) for n in (1, 2)]
    steps += [Escalation(incident_key="higher", episode=4, level=1, created_at=now)]

    async def mark(tx: Transaction) -> None:
        await tx.journal.note([resolved])
        await tx.ledger.record(steps)
        await tx.incidents.mark_unseen(["again", "behind", "same", "higher"])

    await store.transact(mark)
    found = await harness.host(store).rows()
    same((*NONE, 2, 0), by_key(found, "again", *WALK, "episode", "level"), "the reopened row")
    same((PIN, 1, now, 2, 1), by_key(found, "behind", *WALK, "episode", "level"), "the row behind the ledger")
    same((PIN, 2, now, 5, 3), by_key(found, "higher", *WALK, "episode", "level"), "the row of an older episode")
    same((PIN, 2, now, 1, 1), by_key(found, "same", *WALK, "episode", "level"), "the other row")


async def _notes(store: Store, key: str, action: str, since: datetime = NEEDS_REPLAN) -> list[AuditEntry]:
    notes = await store.read(lambda tx: read_audit(tx, since=since, limit=99, incident_key=key))
    return [attrs.evolve(note, cursor=None) for note in notes if note.action == action]


CHECKS = (
    a_new_incident_has_no_walk,
    the_walk_is_the_engines,
    a_lowered_level_stays_in_its_walk,
    a_hosts_policy_is_watched,
    an_acknowledgement_taken_back_marks_the_pin,
    an_acknowledged_row_is_planned,
    rows_that_no_trigger_saw_keep_no_other_walk,
)
