"""The Outbox port of MemoryStore."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import attrs

from ...model import CANCELS, UNSETTLED, AuditRange, ClaimedPage, DueTarget, NewPage, Pace, PageRecord, PageState
from ...rules.bundle import bundle_order, is_fresh
from ...rules.priority import claim_order
from ...rules.retry import due_after_step, newer_level, throttled_after_step
from ...rules.unheard import find_unheard
from .state import State, Undo, newest, open_episodes, read_row, unheard_steps


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
                    priority=page.priority,
                    hand_over_at=None if page.hand_over_after is None else now + page.hand_over_after,
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
        for page in sorted(self._unsettled(), key=lambda page: claim_order(page, now)):
            if page.due_at <= until and free.get(page.target, 0) > 0:
                free[page.target] -= 1
                claimed.append(self._with_newer(page))
        return claimed

    async def claim_late(self, targets: Sequence[str], *, now: datetime, limit: int) -> Sequence[ClaimedPage]:
        late = [
            (page.hand_over_at, page)
            for page in self._unsettled()
            if page.target in targets and page.state is PageState.PENDING and page.hand_over_at is not None
        ]
        late = sorted(((at, page) for at, page in late if at <= now), key=lambda one: (one[0], one[1].id))
        return [self._with_newer(page) for _, page in late[:limit]]

    async def find_unheard(self, since: datetime) -> Sequence[tuple[str, int, int]]:
        return find_unheard(
            self.store.pages.values(),
            open_episodes=open_episodes(self.store),
            since=since,
            noted=unheard_steps(self.store),
        )

    async def due_targets(self) -> Mapping[str, DueTarget]:
        return self.targets()

    async def lock_targets(self, targets: Sequence[str]) -> Mapping[str, Pace]:
        return {target: self.store.paces.get(target, Pace(target=target)) for target in targets}

    async def write_paces(self, paces: Sequence[Pace]) -> None:
        for pace in paces:
            before = self.store.paces.get(pace.target, Pace(target=pace.target))
            self.undo.put(self.store.paces, pace.target, attrs.evolve(pace, held_until=before.held_until))

    async def count_waiting(self, limits: Mapping[str, int], *, until: datetime) -> Mapping[str, int]:
        fresh = Counter(page.target for page in self._unsettled() if is_fresh(page) and page.due_at <= until)
        return {target: min(fresh[target], most) for target, most in limits.items()}

    async def lock_bundle(self, bundle: str) -> tuple[Sequence[ClaimedPage], bool]:
        found = [page for page in self._unsettled() if page.bundle == bundle]
        in_order = sorted(found, key=bundle_order)
        return [self._with_newer(page) for page in in_order], True

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
            if step and page.state is PageState.PENDING and page.hand_over_at is not None:
                page = attrs.evolve(page, hand_over_at=page.hand_over_at - step)  # noqa: PLW2901
                self._put(page)
            due_at = due_after_step(page, now=now, step=step, beyond=beyond, lease_ends=lease_ends)
            if due_at != page.due_at and (targets is None or page.target in targets):
                self._put(attrs.evolve(page, due_at=due_at))
                moved += 1
        for target, pace in list(self.store.paces.items()):
            if pace.held_until is not None:
                earlier = throttled_after_step(pace.held_until, now=now, step=step, beyond=beyond)
                self.undo.put(self.store.paces, target, attrs.evolve(pace, held_until=earlier))
        return moved

    async def throttle_target(self, target: str, until: datetime) -> bool:
        pace = self.store.paces.get(target, Pace(target=target))
        self.undo.put(self.store.paces, target, pace.throttled(until))
        return True

    def targets(self) -> Mapping[str, DueTarget]:
        found: dict[str, DueTarget] = {}
        for page in self._unsettled():
            one = DueTarget(due_at=page.due_at, pace=self.store.paces.get(page.target))
            if page.state is PageState.PENDING:
                one = attrs.evolve(one, hand_over_at=page.hand_over_at)
            found[page.target] = found[page.target].earliest(one) if page.target in found else one
        return found

    def _newer(self, page: PageRecord) -> int | None:
        row = self.store.rows.get(page.incident_key)
        numbers = (
            self.store.page_ids.get((page.incident_key, page.episode, level, page.target))
            for level in range(page.level + 1, 1 + (0 if row is None else row["level"] or 0))
        )
        return newer_level(page, [self.store.pages[number] for number in numbers if number is not None])

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
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: PageState | None = None,
        target: str | None = None,
    ) -> Sequence[PageRecord]:
        found = [
            page
            for number, page in self.store.pages.items()
            if number > after and incident_key in (None, page.incident_key)
            if state in (None, page.state) and target in (None, page.target)
        ]
        return found[:limit]

    async def pages_of_bundle(self, prefix: str) -> Sequence[PageRecord]:
        return [page for page in self.store.pages.values() if (page.bundle or "").startswith(prefix)]

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

    def _with_newer(self, page: PageRecord) -> ClaimedPage:
        return attrs.evolve(self._claimed(page), newer=self._newer(page))

    def _claimed(self, page: PageRecord) -> ClaimedPage:
        row = self.store.rows.get(page.incident_key)
        incident, fault = (None, None) if row is None else read_row(row)
        return ClaimedPage(page=page, incident=incident, fault=fault)
