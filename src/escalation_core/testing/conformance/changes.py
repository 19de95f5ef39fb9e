"""Checks of a store's port for notices: what happened to paged incidents, and who was paged."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from ...engine.tasks import within
from ...model import (
    Arrival,
    Change,
    NewNotice,
    NewPage,
    NoticeKind,
    NoticeRecord,
    NoticeState,
    PageState,
)
from ...ports import Notices, Store, Transaction, notices_of
from ..clock import ManualClock
from .claimants import AT_ONCE, MINUTE
from .harness import START, StoreHarness, incident, put, same


def port(tx: Transaction) -> Notices:
    """Return the port."""
    found = notices_of(tx)
    assert found is not None, "the store has the port"
    return found


def changed(key: str, kind: NoticeKind = NoticeKind.RESOLVED, episode: int = 1, minutes: int = 0) -> Change:
    """Return a change, some minutes after the start."""
    at = START + minutes * MINUTE
    return Change(kind=kind, incident_key=key, episode=episode, at=at, actor="ann", first_seen=START - MINUTE)


async def add_page(
    store: Store,
    clock: ManualClock,
    key: str,
    target: str = "t",
    episode: int = 1,
    level: int = 1,
    state: str = "pending",
    fence: int = 2,
) -> None:
    """Insert a page in this state."""
    page = NewPage(incident_key=key, episode=episode, level=level, target=target, dedup_key="d")

    async def work(tx: Transaction) -> None:
        await tx.outbox.enqueue([page], clock())
        [*_, record] = await tx.outbox.pages(limit=999, incident_key=key)
        await tx.outbox.write([attrs.evolve(record, state=PageState(state), fence=fence)])

    await store.transact(work)


async def noted(store: Store, *changes: Change) -> None:
    """Save changes."""
    await store.transact(lambda tx: port(tx).note(changes))


async def ready(store: Store, limit: int = 99, now: datetime = START) -> list[tuple[str, str]]:
    """Return the kind and the key of the changes that are ready, and write nothing."""
    found = await store.transact(lambda tx: port(tx).ready(limit, now))
    return [(one.change.kind.value, one.change.incident_key) for one in found]


async def records(store: Store, **matching: object) -> Sequence[NoticeRecord]:
    """Return notices."""
    return await store.read(lambda tx: port(tx).notices(limit=99, **matching))  # type: ignore[arg-type]


async def changes_of_paged_incidents_are_saved(harness: StoreHarness) -> None:
    """``note`` keeps what happened to incidents with a page, and ``ready`` returns it, with the incident."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock), incident("b", clock))
    await add_page(store, clock, "a", state="delivered")
    await add_page(store, clock, "gone", state="dead")
    same(False, (await store.next_due(canary=None)).changes, "changes at first")
    await noted(store, changed("a"), changed("b"), changed("gone", NoticeKind.ACK_EXPIRED))
    same(True, (await store.next_due(canary=None)).changes, "changes")
    found = await store.transact(lambda tx: port(tx).ready(9, clock()))
    same(
        [("a", "a"), ("gone", None)],
        [(one.change.incident_key, one.incident and one.incident.incident_key) for one in found],
        "keys",
    )
    same(changed("a"), attrs.evolve(found[0].change, id=0), "the change")
    same([("resolved", "a")], await ready(store, 1), "up to the limit")
    await store.transact(lambda tx: port(tx).delete_changes([one.change.id for one in found]))
    same([], await ready(store), "after the deletion")
    same(False, (await store.next_due(canary=None)).changes, "changes at last")


async def a_change_waits_for_its_pages(harness: StoreHarness) -> None:
    """While a page of the incident is on its way, its changes are not ready; the others are.

    A page in the state cancelling is on its way until its lease ends. It stays in that state if no worker serves it.
    So is a leased page of the change's episode or an earlier one, which was claimed while a host's statement ended the
    incident.
    """
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock), incident("b", clock))
    clock.advance(MINUTE)
    await add_page(store, clock, "a", state="cancelling")
    clock.advance(-MINUTE)
    await add_page(store, clock, "a", level=2, state="delivered")
    await add_page(store, clock, "b", state="pending")
    await noted(store, changed("a", NoticeKind.ACKNOWLEDGED), changed("a"), changed("b"))
    every = [("acknowledged", "a"), ("resolved", "a"), ("resolved", "b")]
    same([("resolved", "b")], await ready(store), "while a page is on its way")
    same(every, await ready(store, now=START + MINUTE), "once its lease has ended")
    [page] = await store.read(lambda tx: tx.outbox.pages(limit=9, state=PageState.CANCELLING))
    await store.transact(lambda tx: tx.outbox.write([attrs.evolve(page, state=PageState.DELIVERED)]))
    same(every, await ready(store), "afterwards")
    clock.advance(MINUTE)
    await add_page(store, clock, "b", episode=2, state="leased")
    same(every, await ready(store), "while a page of a later episode is on its way")
    await add_page(store, clock, "a", level=3, state="leased")
    same([("resolved", "b")], await ready(store), "while a leased page is on its way")
    same(every, await ready(store, now=clock()), "once the leases have ended")


async def two_makers_share_the_changes(harness: StoreHarness) -> None:
    """Changes that another transaction has locked are left out, and with them later changes of the same key."""
    if not harness.capabilities.concurrent:
        return
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    await put(store, incident("a", clock), incident("b", clock))
    for key in ("a", "b"):
        await add_page(store, clock, key, state="delivered")
    await noted(store, changed("a", NoticeKind.ACKNOWLEDGED), changed("b"), changed("a"))

    async def work(tx: Transaction) -> None:
        same(
            [("acknowledged", "a")],
            [(one.change.kind.value, one.change.incident_key) for one in await port(tx).ready(1, clock())],
            "locked",
        )
        same([("resolved", "b")], await within(AT_ONCE, ready(other)), "ready for another")

    await store.transact(work)


async def arrivals_are_pages_that_were_sent(harness: StoreHarness) -> None:
    """Of each episode and target one, of the highest delivered level, unless a notice ``resolved`` is open."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))
    for episode, level, target, state, fence in (
        (1, 1, "t", "delivered", 2),
        (1, 2, "t", "delivered", 2),
        (1, 3, "t", "dead", 2),
        (1, 1, "u", "cancelled", 0),
        (1, 2, "u", "superseded", 1),
        (1, 3, "u", "handed_over", 1),
        (2, 1, "u", "cancelled", 1),
        (2, 2, "u", "dead", 3),
        (3, 1, "u", "leased", 1),
        (4, 1, "u", "cancelling", 1),
    ):
        await add_page(store, clock, "a", target, episode, level, state, fence)

    async def arrived() -> list[Arrival]:
        found = await store.read(lambda tx: port(tx).arrivals(["a", "b"]))
        same(["a"] if found else [], list(found), "keys")
        return list(found.get("a", ()))

    first = Arrival(episode=1, level=2, target="t")
    others = [Arrival(episode=number, level=2 if number == 2 else 1, target="u", certain=False) for number in (2, 3, 4)]
    same([first, *others], await arrived(), "arrivals")
    notices = [NewNotice(change=changed("a", kind), level=1, target="t") for kind in NoticeKind]
    await store.transact(lambda tx: port(tx).enqueue(notices, clock()))
    same(others, await arrived(), "after a notice that it is resolved")
    [notice] = [one for one in await records(store) if one.kind is NoticeKind.RESOLVED]
    for state, expected in (
        ("leased", others),
        ("delivered", others),
        ("dead", [first, *others]),
        ("expired", [first, *others]),
    ):
        moved = attrs.evolve(notice, state=NoticeState(state))
        await store.transact(lambda tx, moved=moved: port(tx).write([moved]))  # type: ignore[misc]
        same(expected, await arrived(), state)


async def a_host_s_writes_are_noted(harness: StoreHarness) -> None:
    """What a host acknowledges or resolves by SQL is a change of the episode that its row was in."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    host = harness.host(store)
    keys = ("acked", "again", "both", "drained", "never", "opened", "resolved", "whole")
    await put(store, *(incident(key, clock, level=2, episode=3) for key in keys))
    for key in keys:
        if key != "never":
            await add_page(store, clock, key, episode=3, state="delivered")
    rows = await host.rows()
    clock.advance(MINUTE)
    await host.update("acked", acknowledged_at=clock(), acknowledged_by="ann")
    await host.update("acked", acknowledged_by="bob")
    await host.update("again", resolved_at=clock())
    await host.update("again", resolved_at=None, acknowledged_at=clock())
    await host.update("both", acknowledged_at=clock(), resolved_at=clock())
    await host.update("drained", level=1)
    await host.update("never", resolved_at=clock())
    await host.update("opened", severity="warning")
    await host.update("resolved", resolved_at=clock())
    await host.update("resolved", acknowledged_at=clock())
    await host.update("resolved", resolved_at=None, acknowledged_at=None)
    await host.update("whole", **{**rows["whole"], "resolved_at": clock(), "next_due_at": clock()})
    found = [one.change for one in await store.transact(lambda tx: port(tx).ready(99, clock()))]
    same(
        [
            ("acknowledged", "acked", "ann"),
            ("resolved", "again", None),
            ("resolved", "both", None),
            ("resolved", "resolved", None),
            ("resolved", "whole", None),
        ],
        [(one.kind.value, one.incident_key, one.actor) for one in found],
        "changes",
    )
    began = rows["acked"]["first_seen"]
    same({(3, began)}, {(one.episode, one.first_seen) for one in found}, "episode and first_seen")


CHECKS = (
    changes_of_paged_incidents_are_saved,
    a_change_waits_for_its_pages,
    two_makers_share_the_changes,
    arrivals_are_pages_that_were_sent,
    a_host_s_writes_are_noted,
)
