"""Checks of the port ``Walks``: a version of a policy is kept once, without a wait."""

from contextlib import suppress
from datetime import timedelta

from ...engine.tasks import within
from ...model import KeptVersion
from ...ports import Transaction
from ..clock import ManualClock
from .claimants import AT_ONCE
from .harness import START, StoreHarness, same, walks

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


CHECKS = (
    a_version_is_kept_once,
    keeping_waits_for_nobody,
)
