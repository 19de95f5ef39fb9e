"""Checks of the port ``Walks``: the versions of policies are kept for as long as a row names them."""

from contextlib import suppress
from datetime import timedelta

import attrs

from ...engine.tasks import within
from ...model import Canary, KeptVersion
from ...ports import Transaction
from ..clock import ManualClock
from .claimants import AT_ONCE
from .harness import START, StoreHarness, incident, put, same, walks

MINUTE = timedelta(minutes=1)


class _Fault(Exception):
    """Raised by a check inside a transaction."""


async def a_version_is_kept_once(harness: StoreHarness) -> None:
    """``keep`` saves each text once, with the store's instant; unknown digests are left out."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await store.transact(lambda tx: walks(tx).keep({"1a": "text", "2b": "ü" * 100_000}))
    clock.advance(MINUTE)
    await store.transact(lambda tx: walks(tx).keep({"1a": "other", "3c": "third"}))
    await store.transact(lambda tx: walks(tx).keep({}))
    found = await store.read(lambda tx: walks(tx).versions(["1a", "2b", "3c", "4d"]))
    third = KeptVersion("third", now + MINUTE)
    same({"1a": KeptVersion("text", now), "2b": KeptVersion("ü" * 100_000, now), "3c": third}, dict(found), "kept")
    same({}, dict(await store.read(lambda tx: walks(tx).versions([]))), "none")


async def keeping_waits_for_nobody(harness: StoreHarness) -> None:
    """Two transactions keep one text at once: neither waits, and it is kept whichever of them fails."""
    if not harness.capabilities.concurrent:
        return
    store = await harness.open(ManualClock(START))
    other = await harness.again(store)

    async def both(tx: Transaction, digests: tuple[str, str]) -> None:
        for digest in digests:
            await walks(tx).keep({digest: "text"})
            await within(AT_ONCE, other.transact(lambda tx, digest=digest: walks(tx).keep({digest: "text"})))  # type: ignore[misc]
        if digests[0] == "1a":
            raise _Fault

    with suppress(_Fault):
        await store.transact(lambda tx: both(tx, ("1a", "2b")))
    await store.transact(lambda tx: both(tx, ("3c", "4d")))
    found = await store.read(lambda tx: walks(tx).versions(["1a", "2b", "3c", "4d"]))
    same({"1a", "2b", "3c", "4d"}, set(found), "kept")
    same({"text"}, {one.text for one in found.values()}, "the texts")


async def a_version_in_use_is_not_deleted(harness: StoreHarness) -> None:
    """``delete_unused`` leaves versions that a row's pin names, resolved rows too, and those kept at the instant."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(
        store,
        incident("a", clock, policy_pin="!ops@1a@x"),
        incident("b", clock, policy_pin="x@2b@", resolved_at=now, next_due_at=None),
        incident("c", clock, policy_pin="nonsense"),
        incident("d", clock, policy_pin="ops@6f@a@b@"),
    )
    await store.transact(lambda tx: walks(tx).keep(dict.fromkeys(("1a", "2b", "3c", "5e", "6f"), "text")))
    clock.advance(MINUTE)
    await store.transact(lambda tx: walks(tx).keep({"4d": "text"}))
    same(0, await store.transact(lambda tx: walks(tx).delete_unused(before=now)), "before they were kept")
    same(2, await store.transact(lambda tx: walks(tx).delete_unused(before=now + MINUTE)), "deleted")
    left = await store.read(lambda tx: walks(tx).versions(["1a", "2b", "3c", "4d", "5e", "6f"]))
    same({"1a", "2b", "4d", "6f"}, set(left), "left")


async def a_version_that_is_pinned_meanwhile_stays(harness: StoreHarness) -> None:
    """A transaction keeps a version and pins a row to it, while another one deletes unused versions: it stays."""
    if not harness.capabilities.concurrent:
        return
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    one = incident("a", clock)
    await put(store, one)
    await store.transact(lambda tx: walks(tx).keep({"1a": "text", "2b": "text"}))
    clock.advance(MINUTE)

    async def pin(tx: Transaction, digest: str) -> None:
        await walks(tx).keep({digest: "text"})
        await tx.incidents.claim(until=clock(), limit=9, canary=Canary())
        await walks(tx).move([attrs.evolve(one, policy_pin=f"ops@{digest}@")])

    async def delete_while(tx: Transaction) -> None:
        await pin(tx, "1a")
        await within(AT_ONCE, other.transact(lambda tx: walks(tx).delete_unused(before=clock())))

    async def pin_while(tx: Transaction) -> None:
        await walks(tx).delete_unused(before=clock() + MINUTE)
        await within(AT_ONCE, other.transact(lambda tx: pin(tx, "2b")))

    await store.transact(delete_while)
    same({"1a"}, set(await store.read(lambda tx: walks(tx).versions(["1a", "2b"]))), "kept by the pin")
    await store.transact(lambda tx: walks(tx).keep({"2b": "text"}))
    await store.transact(pin_while)
    same({"2b"}, set(await store.read(lambda tx: walks(tx).versions(["2b"]))), "kept again")


CHECKS = (
    a_version_is_kept_once,
    keeping_waits_for_nobody,
    a_version_in_use_is_not_deleted,
    a_version_that_is_pinned_meanwhile_stays,
)
