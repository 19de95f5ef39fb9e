"""The Outbox port of MemoryStore."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import attrs

from ...model import CANCELS, AuditRange, ClaimedPage, DueTarget, NewPage, Pace, PageRecord, PageState
from ...rules.retry import due_after_step, throttled_after_step
from .state import State, Undo, newest, read_row

UNSETTLED = (PageState.PENDING, PageState.LEASED, PageState.CANCELLING)


@attrs.frozen
class Outbox:
    """The pages."""

    store: State
    undo: Undo

    async def enqueue(self, pages: Sequence[NewPage], now: datetime) -> None:
        for page in pages:
            identity = (page.incident_key, page.episode, page.level, page.target)
            if identity in self.store.page_ids:
                continue
            number = next(self.store.numbers["pages"])
            self.undo.put(self.store.page_ids, identity, number)
            self._put(
                PageRecord(
                    id=number,
                    incident_key=page.incident_key,
                    episode=page.episode,
                    level=page.level,
                    target=page.target,
                    dedup_key=page.dedup_key,
                    state=PageState.PENDING if page.undeliverable_reason is None else PageState.DEAD,
                    created_at=now,
                    due_at=now,
                    reason=page.undeliverable_reason,
                    via=page.via,
                    schedule_digest=page.schedule_digest,
                )
            )

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        cancelled = 0
        for number in list(self.store.unsettled):
            page = self.store.pages[number]
            if page.incident_key != incident_key or page.state not in CANCELS:
                continue
            due_at = now if page.state is PageState.PENDING else page.due_at
            self._put(attrs.evolve(page, state=CANCELS[page.state], due_at=due_at, reason=reason))
            cancelled += 1
        return cancelled

    async def claim(self, capacity: Mapping[str, int], *, now: datetime, until: datetime) -> Sequence[ClaimedPage]:
        free = {target: count for target, count in capacity.items() if (self._held_until(target) or now) <= now}
        claimed: list[ClaimedPage] = []
        for page in sorted(self._unsettled(), key=lambda page: (page.due_at, page.id)):
            if page.due_at <= until and free.get(page.target, 0) > 0:
                free[page.target] -= 1
                claimed.append(self._claimed(page))
        return claimed

    async def due_targets(self) -> Mapping[str, DueTarget]:
        return self.targets()

    async def lock_targets(self, targets: Sequence[str]) -> Mapping[str, Pace]:
        return {target: self.store.paces.get(target, Pace(target=target)) for target in targets}

    async def write_paces(self, paces: Sequence[Pace]) -> None:
        for pace in paces:
            before = self.store.paces.get(pace.target, Pace(target=pace.target))
            self.undo.put(self.store.paces, pace.target, attrs.evolve(pace, held_until=before.held_until))

    async def lock(self, ids: Sequence[int]) -> Sequence[ClaimedPage]:
        return [self._claimed(self.store.pages[number]) for number in ids if number in self.store.pages]

    async def write(self, pages: Sequence[PageRecord]) -> None:
        for page in pages:
            self._put(page)

    async def settle(self, pages: Sequence[PageRecord]) -> AbstractSet[int]:
        owned = [page for page in pages if page.id in self.store.pages]
        owned = [page for page in owned if self.store.pages[page.id].fence == page.fence - 1]
        await self.write(owned)
        return {page.id for page in owned}

    async def fences(self, ids: Sequence[int]) -> Mapping[int, int]:
        return {number: self.store.pages[number].fence for number in ids if number in self.store.pages}

    async def bring_forward(
        self, targets: Sequence[str] | None, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
    ) -> int:
        moved = 0
        for page in list(self._unsettled()):
            due_at = due_after_step(page, now=now, step=step, beyond=beyond, lease_ends=lease_ends)
            if due_at != page.due_at and (targets is None or page.target in targets):
                self._put(attrs.evolve(page, due_at=due_at))
                moved += 1
        for target, pace in list(self.store.paces.items()):
            if pace.held_until is not None:
                earlier = throttled_after_step(pace.held_until, now=now, step=step, beyond=beyond)
                self.undo.put(self.store.paces, target, attrs.evolve(pace, held_until=earlier))
        return moved

    async def throttle_target(self, target: str, until: datetime) -> None:
        pace = self.store.paces.get(target, Pace(target=target))
        self.undo.put(self.store.paces, target, pace.throttled(until))

    def targets(self) -> Mapping[str, DueTarget]:
        found: dict[str, DueTarget] = {}
        for page in self._unsettled():
            due_at = min(page.due_at, found[page.target].due_at) if page.target in found else page.due_at
            found[page.target] = DueTarget(due_at=due_at, pace=self.store.paces.get(page.target))
        return found

    def _held_until(self, target: str) -> datetime | None:
        pace = self.store.paces.get(target)
        return None if pace is None else pace.held_until

    async def settled(self, reach: AuditRange, *, limit: int, incident_key: str | None = None) -> Sequence[PageRecord]:
        found = [
            page
            for number, page in self.store.pages.items()
            if number not in self.store.unsettled and incident_key in (None, page.incident_key)
        ]
        return newest(found, lambda page: (page.due_at, page.id), reach, limit)

    async def pages(
        self, *, after: int = 0, limit: int, incident_key: str | None = None, state: PageState | None = None
    ) -> Sequence[PageRecord]:
        found = [
            page
            for number, page in self.store.pages.items()
            if number > after and incident_key in (None, page.incident_key) and state in (None, page.state)
        ]
        return found[:limit]

    async def pages_of(self, episodes: Sequence[tuple[str, int]]) -> Sequence[PageRecord]:
        wanted = set(episodes)
        return [page for page in self.store.pages.values() if (page.incident_key, page.episode) in wanted]

    def _unsettled(self) -> Iterator[PageRecord]:
        return (self.store.pages[number] for number in self.store.unsettled)

    def _put(self, page: PageRecord) -> None:
        self.undo.put(self.store.pages, page.id, page)
        if page.state in UNSETTLED:
            self.undo.put(self.store.unsettled, page.id, None)
        else:
            self.undo.drop(self.store.unsettled, page.id)

    def _claimed(self, page: PageRecord) -> ClaimedPage:
        row = self.store.rows.get(page.incident_key)
        incident, fault = (None, None) if row is None else read_row(row)
        return ClaimedPage(page=page, incident=incident, fault=fault)
