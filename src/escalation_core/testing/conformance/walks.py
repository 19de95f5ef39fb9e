"""Checks of the port ``Walks``, which a store need not have: the walks of incidents, and the counts for health."""

from datetime import timedelta
from typing import Any

import attrs

from ...model import (
    MAX_NAME_CHARS,
    WORKER_RUNS,
    AuditEntry,
    By,
    Canary,
    Deferral,
    Escalation,
    Incident,
    LevelOutcome,
    WalkStats,
)
from ...ports import Store, Transaction
from ..clock import ManualClock
from .harness import START, StoreHarness, beat, by_key, incident, put, same, walks

MINUTE = timedelta(minutes=1)
PIN = "ops@1a@critical"


async def walks_come_back(harness: StoreHarness) -> None:
    """Rows and escalations come back with their policies; a claim finds acknowledged rows whose instant has come."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    walk: dict[str, Any] = {
        "policy": "öps",
        "policy_pin": PIN,
        "policy_level": 2,
        "policy_since": now - timedelta(microseconds=1),
    }
    whole, plain = incident("a", clock, level=3, acknowledged_at=now, **walk), incident("b", clock)
    await put(store, whole, plain)
    same(whole, await store.read(lambda tx: tx.incidents.load("a", lock=False)), "inserted")
    found = await store.transact(lambda tx: tx.incidents.claim(until=now, limit=9, canary=Canary()))
    same({"a": whole, "b": plain}, {row.incident_key: row.incident for row in found}, "claimed")
    other = attrs.evolve(whole, policy=None, policy_pin=None, policy_level=None, policy_since=None)
    for one in (other, whole):

        async def save(tx: Transaction, one: Incident = one) -> None:
            await tx.incidents.load("a")
            await tx.incidents.save(one)

        await store.transact(save)
        same(one, await store.read(lambda tx: tx.incidents.load("a", lock=False)), "saved")
    steps = [
        Escalation(incident_key="a", episode=1, level=1, created_at=now),
        Escalation(incident_key="a", episode=1, level=2, created_at=now, policy="öps", position=1),
        Escalation(incident_key="a", episode=1, level=3, created_at=now, outcome=LevelOutcome.NOBODY),
        Escalation(incident_key="a", episode=1, level=4, created_at=now, outcome=LevelOutcome.DEFAULT),
    ]
    await store.transact(lambda tx: tx.ledger.record(steps))
    same(steps, [one for _, one in await store.read(lambda tx: tx.ledger.escalations(limit=9))], "the escalations")
    same(
        steps,
        [one for _, one in await store.read(lambda tx: tx.ledger.escalations(limit=9, incident_key="a"))],
        "the escalations of one key",
    )


async def a_move_writes_what_a_planning_changes(harness: StoreHarness) -> None:
    """``move`` writes level, episode, instants, acknowledgement and walk, and nothing else of the row."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    long = "ü" * 2 * MAX_NAME_CHARS
    first = incident("a", clock, acknowledged_at=now, acknowledged_by=long, policy=long, labels={"k": "v"})
    second = incident("b", clock, acknowledged_at=now, acknowledged_by="x", policy_pin=PIN, summary="s", policy="ops")
    third = incident("c", clock)
    await put(store, first, second, third)
    refused = [Deferral(incident_key="c", fault="odd", attempts=1, until=now)]
    await store.transact(lambda tx: tx.incidents.defer_unreadable(refused, now))
    walk: dict[str, Any] = {"policy_pin": PIN, "policy_level": 1, "policy_since": now + MINUTE, "policy": "not written"}
    ended: dict[str, Any] = {"acknowledged_at": None, "acknowledged_by": None}
    moves: dict[str, Any] = {
        "level": 1,
        "episode": 2,
        "last_escalated_at": now,
        "next_due_at": now + MINUTE,
        "severity": "not written",
        "labels": {},
    }

    async def move(tx: Transaction) -> None:
        rows = await tx.incidents.claim(until=now, limit=9, canary=Canary())
        a, b, c = (row.incident for row in sorted(rows, key=lambda row: row.incident_key))
        assert a is not None, "it can be read"
        assert b is not None, "it can be read"
        assert c is not None, "it can be read"
        moved = [attrs.evolve(a, **walk), attrs.evolve(b, **moves, **ended, policy_pin=None), attrs.evolve(c, **moves)]
        await walks(tx).move(moved)
        await walks(tx).move([])

    await store.transact(move)
    kept = {"severity": "critical"}
    expected = [
        attrs.evolve(first, **walk | {"policy": long}),
        attrs.evolve(second, **moves | kept, **ended, policy_pin=None),
        attrs.evolve(third, **moves | kept),
    ]
    for one in expected:
        key = one.incident_key
        found = await store.read(lambda tx, key=key: tx.incidents.load(key, lock=False))  # type: ignore[misc]
        same(one, found, f"the row of {key!r}")
    same({"a", "b", "c"}, set(await host.rows()), "the rows")
    stats = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary()))
    same(0, stats.unreadable, "no deferral is left")


async def positions_of_each_policy_are_known(harness: StoreHarness) -> None:
    """``positions`` returns the position of each policy's highest level; without a policy it is the built-in's."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    steps = [(1, None, None), (2, "ops", 1), (3, "builtin", 5), (4, "ops", 2), (6, "x", 1), (5, "x", 9)]
    await store.transact(
        lambda tx: tx.ledger.record(
            [
                Escalation(incident_key="a", episode=2, level=level, created_at=now, policy=policy, position=position)
                for level, policy, position in steps
            ]
        )
    )
    old = Escalation(incident_key="a", episode=1, level=7, created_at=now)
    await store.transact(lambda tx: tx.ledger.record([old]))
    asked = [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
    found = await store.read(lambda tx: walks(tx).positions(asked))
    expected = {("a", 1): {"builtin": 7}, ("a", 2): {"ops": 2, "builtin": 5, "x": 1}}
    same(expected, {episode: dict(each) for episode, each in found.items()}, "the positions")
    same({}, dict(await store.read(lambda tx: walks(tx).positions([]))), "none")


async def pinned_incidents_come_page_by_page(harness: StoreHarness) -> None:
    """``pinned`` returns unresolved, readable rows of one policy by key, also those with a ``!`` before the pin."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    pins = ("o_s@1a@x", "!o_s@@x", "o_s@2b@", "o_s2@1a@x", "O_S@1a@x", "oxs@1a@x", "o_s", "@o_s@1a", "o_s@1a@a@b", None)
    rows = [incident(f"k{n}", clock, policy_pin=pin) for n, pin in enumerate(pins)]
    acked = incident("k8acked", clock, policy_pin="o_s@1a@", acknowledged_at=now, next_due_at=None)
    done = incident("k9", clock, policy_pin="o_s@1a@", resolved_at=now, next_due_at=None)
    await put(store, *rows[:-1], acked, done)
    for key in ("k1odd", "k2odd", "k8odd", "k8odder"):
        await harness.host(store).past_triggers(key, policy_pin="o_s@1a@x", level=-1)
    found: list[str] = []
    last: str | None = None
    while True:
        batch = await store.read(lambda tx, after=last: walks(tx).pinned("o_s", after=after, limit=2))  # type: ignore[misc]
        found += [one.incident_key for one in batch]
        if len(batch) < 2:
            break
        last = found[-1]
    same(["k0", "k1", "k2", "k8", "k8acked"], found, "pinned")
    same([], list(await store.read(lambda tx: walks(tx).pinned("o_s", after="k8acked", limit=9))), "beyond")


async def odd_walks_stop_nobody(harness: StoreHarness) -> None:
    """A row with an invalid policy_level is unreadable; long texts are cut; any pin is read. The others are claimed."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    await put(store, incident("good", clock, policy_pin=PIN))
    long = "x" * 1_000_000
    for key, columns in (
        ("level", {"policy_level": -1}),
        ("long", {"policy": long, "policy_pin": long}),
        ("nonsense", {"policy": "", "policy_pin": "@@!"}),
    ):
        await host.past_triggers(key, first_seen=now, next_due_at=now, **columns)
    rows = await store.transact(lambda tx: tx.incidents.claim(until=now, limit=9, canary=Canary()))
    found = {row.incident_key: row.incident for row in rows}
    same({"good", "level", "long", "nonsense"}, set(found), "claimed")
    fault = next(row.fault for row in rows if row.incident_key == "level") or ""
    assert "policy_level" in fault, "the fault names the column"
    same(None, found["level"], "the incident of the odd row")
    cut, odd = found["long"], found["nonsense"]
    assert cut is not None, "a long row can be read"
    assert odd is not None, "a row with a nonsensical pin can be read"
    same((long[:MAX_NAME_CHARS],) * 2, (cut.policy, cut.policy_pin), "the long texts")
    same(("", "@@!"), (odd.policy, odd.policy_pin), "the nonsense")
    scanned = await store.transact(lambda tx: tx.incidents.scan_unresolved(None, 9, labels=True))
    same({"good", "long", "nonsense"}, {row.incident_key for row in scanned.rows if row.incident}, "scanned")


async def a_reload_is_told_to_each_worker(harness: StoreHarness) -> None:
    """``record_digest`` saves a worker's policies file beside its heartbeat, and returns the last request to reload."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    now = START + MINUTE
    for worker in ("gone", "one", "two", "three"):
        await beat(store, clock, worker, now - WORKER_RUNS if worker == "gone" else now)
    digests = {"one": "1a", "two": "", "three": "1a", "gone": "9z", "never": "9z"}
    for worker, digest in digests.items():
        asked = await store.transact(lambda tx, w=worker, d=digest: walks(tx).record_digest(w, d))  # type: ignore[misc]
        same(None, asked, "before a request")
    same({"1a": 2, "": 1}, dict((await _stats(store)).worker_digests), "the workers' files")
    clock.set(now + MINUTE)
    asked = await store.transact(lambda tx: walks(tx).request_reload(By("ann", "new file")))
    same(clock(), asked, "the store's instant")
    same(asked, await store.transact(lambda tx: walks(tx).record_digest("two", "2b")), "the worker's answer")
    await beat(store, clock, "two", clock())
    stats = await _stats(store)
    same(({"1a": 2, "2b": 1}, asked), (dict(stats.worker_digests), stats.reload_requested_at), "afterwards")
    later = await store.transact(lambda tx: walks(tx).request_reload(By()))
    same(later, (await _stats(store)).reload_requested_at, "asked again")


async def walks_are_counted(harness: StoreHarness) -> None:
    """``stats`` counts unknown names that rows still have, rows that were put off twice, and notes of the last day."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    same(WalkStats(), await _stats(store), "an empty store")
    names = {"a": "ops", "b": "ops", "c": "x", "acked": "x", "done": "ops", "known": "x", "fits": "x"}
    ends: dict[str, dict[str, Any]] = {key: {"policy_pin": "day@1a@warning"} for key in names}
    ends["acked"]["acknowledged_at"] = ends["done"]["resolved_at"] = now
    ends["b"]["policy_pin"] = "!day@1a@warning"
    ends["c"]["policy_pin"] = None
    ends["fits"]["policy_pin"] = "!x@1a@warning"
    await put(store, *(incident(key, clock, policy=name, **ends.get(key, {})) for key, name in names.items()))

    def note(key: str, action: str, reason: str | None = None, level: int = 0, **ago: float) -> AuditEntry:
        at = now - timedelta(**ago)
        return AuditEntry(at=at, action=action, incident_key=key, episode=1, level=level, reason=reason)

    notes = [note(key, "unknown_policy", name) for key, name in names.items() if key != "known"]
    notes += [
        note("a", "unknown_policy", "ops"),
        note("c", "unknown_policy", "other"),
        note("gone", "unknown_policy", "x"),
    ]
    once, twice = {"a": "day"}, {"b": "day", "acked": "day", "fits": "day", "c": "day"}
    notes += [note(key, "put_off", reason) for key, reason in [*once.items(), *twice.items(), *twice.items()]]
    notes += [note("a", "put_off", "day", level=1), note("a", "rebind", hours=23), note("a", "rebind", days=1)]
    notes += [note("a", "lost_version"), note("a", "ack_expired"), note("a", "ack_expired"), note("a", "open")]
    await store.transact(lambda tx: tx.journal.note(notes))
    stats = await _stats(store)
    same({"ops": 2, "x": 2}, dict(stats.unknown_policies), "unknown names")
    same(1, stats.put_off, "put off")
    same(
        {"unknown_policy": 9, "rebind": 1, "lost_version": 1, "ack_expired": 2},
        dict(stats.lately),
        "noted within a day",
    )
    await host.past_triggers("a", policy="x")
    await host.past_triggers("b", episode=2)
    stats = await _stats(store)
    same(({"x": 2}, 0), (dict(stats.unknown_policies), stats.put_off), "after the rows changed")
    more = [incident(f"n{n:02}", clock, policy=f"p{n:02}") for n in range(25)]
    await put(store, *more)
    noted = [note(one.incident_key, "unknown_policy", one.policy) for one in more]
    await store.transact(lambda tx: tx.journal.note(noted))
    many = (await _stats(store)).unknown_policies
    same((20, 2, "p18"), (len(many), many.get("x"), max(many, key=lambda name: (name[0] == "p", name))), "20 names")
    same((None,) * 3, by_key(await host.rows(), "c", "policy_pin", "policy_level", "policy_since"), "the row itself")


async def _stats(store: Store) -> WalkStats:
    async def count(tx: Transaction) -> WalkStats:
        return await walks(tx).stats(await tx.now())

    return await store.read(count)


CHECKS = (
    walks_come_back,
    a_move_writes_what_a_planning_changes,
    positions_of_each_policy_are_known,
    pinned_incidents_come_page_by_page,
    odd_walks_stop_nobody,
    a_reload_is_told_to_each_worker,
    walks_are_counted,
)
