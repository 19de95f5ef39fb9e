"""Checks of what a store tells of its targets: the last attempts, and the pages that wait or have ended."""

from datetime import datetime, timedelta

import attrs

from ...model import LastAttempts, NewPage, Pace, PageState, TargetRecord
from ..clock import ManualClock
from .harness import START, StoreHarness, incident, put, same

SECOND = timedelta(seconds=1)


def _at(seconds: int | None) -> datetime | None:
    return None if seconds is None else START + seconds * SECOND


def _last(target: str, delivered: int | None, failed: int | None, error: str | None = None) -> LastAttempts:
    return LastAttempts(target=target, delivered_at=_at(delivered), failed_at=_at(failed), error=error)


async def the_last_attempts_are_kept(harness: StoreHarness) -> None:
    """``record_attempts`` keeps the later instants, each with its own error, and moves them after a step back."""
    store = await harness.open(ManualClock(START))

    async def record(*latest: LastAttempts, now: int = 100, step: int = 0) -> None:
        at = START + now * SECOND
        await store.transact(lambda tx: tx.journal.record_attempts(latest, now=at, step=step * SECOND))

    async def kept() -> dict[str, LastAttempts]:
        return {one.target: one.attempts for one in await store.read(lambda tx: tx.journal.targets())}

    await record(_last("b", 5, None), _last("a", None, 3, "é refused"))
    same({"a": _last("a", None, 3, "é refused"), "b": _last("b", 5, None)}, await kept(), "made")
    same(["a", "b"], list(await kept()), "sorted by name")
    await record(_last("a", 4, None), _last("b", 4, 1, "early"))
    same({"a": _last("a", 4, 3, "é refused"), "b": _last("b", 5, 1, "early")}, await kept(), "each value by itself")
    await record(_last("a", 6, 2, "older"), _last("b", None, 9, "newer"))
    same({"a": _last("a", 6, 3, "é refused"), "b": _last("b", 5, 9, "newer")}, await kept(), "the later ones")
    await record(_last("b", None, 9, "same instant"))
    same(_last("b", 5, 9, "same instant"), (await kept())["b"], "written last")
    await record(now=5, step=2)
    same({"a": _last("a", 4, 3, "é refused"), "b": _last("b", 5, 5, "same instant")}, await kept(), "after a step")
    await record(_last("a", 5, None), now=5, step=2)
    same(_last("a", 5, 3, "é refused"), (await kept())["a"], "recorded after the step")


async def targets_are_told_with_their_pages(harness: StoreHarness) -> None:
    """``targets`` returns those with a row or unsettled pages, with their number and the oldest one's instant."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("k", clock))
    for level, target in ((1, "t"), (2, "t"), (3, "t"), (4, "u"), (5, "v")):
        page = NewPage(incident_key="k", episode=1, level=level, target=target, dedup_key="d")
        await store.transact(lambda tx, page=page: tx.outbox.enqueue([page], clock()))  # type: ignore[misc]
        clock.advance(SECOND)
    first, _, third, fourth, _ = await store.read(lambda tx: tx.outbox.pages(limit=9))
    changed = ((first, PageState.DELIVERED), (third, PageState.LEASED), (fourth, PageState.DEAD))
    await store.transact(lambda tx: tx.outbox.write([attrs.evolve(page, state=state) for page, state in changed]))
    await store.transact(lambda tx: tx.outbox.throttle_target("w", START))
    same(
        [
            TargetRecord(
                target="t", pace=Pace(target="t"), attempts=_last("t", None, None), backlog=2, oldest_page=_at(1)
            ),
            TargetRecord(
                target="v", pace=Pace(target="v"), attempts=_last("v", None, None), backlog=1, oldest_page=_at(4)
            ),
            TargetRecord(
                target="w",
                pace=Pace(target="w", held_until=START, refused=True),
                attempts=_last("w", None, None),
            ),
        ],
        list(await store.read(lambda tx: tx.journal.targets())),
        "the targets",
    )


async def pages_are_found_by_target(harness: StoreHarness) -> None:
    """``pages`` returns the pages of a target, also of one state, in the order of their ids."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("k", clock))
    pages = [
        NewPage(
            incident_key="k",
            episode=1,
            level=level,
            target="t" if level % 2 else "u",
            dedup_key="d",
            undeliverable_reason="x" if level > 4 else None,
        )
        for level in range(1, 9)
    ]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, clock()))

    async def levels(
        limit: int = 9, after: int = 0, key: str | None = None, state: PageState | None = None
    ) -> list[int]:
        found = await store.read(
            lambda tx: tx.outbox.pages(after=after, limit=limit, incident_key=key, state=state, target="t")
        )
        return [page.level for page in found]

    same([1, 3, 5, 7], await levels(), "all")
    same([1, 3, 5, 7], await levels(key="k"), "of a key")
    same([], await levels(key="j"), "of another key")
    for state, expected in ((PageState.PENDING, [1, 3]), (PageState.DEAD, [5, 7]), (PageState.DELIVERED, [])):
        same(expected, await levels(state=state), state)
    same([1, 3, 5], await levels(3), "with a limit")
    [_, _, third, *_] = await store.read(lambda tx: tx.outbox.pages(limit=9))
    same([5, 7], await levels(after=third.id), "behind a page")
    same([7], await levels(1, third.id + 2, state=PageState.DEAD), "behind a dead page")


CHECKS = (the_last_attempts_are_kept, targets_are_told_with_their_pages, pages_are_found_by_target)
