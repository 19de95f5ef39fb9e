"""The Notices port of MemoryStore."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import attrs

from ...model import (
    Arrival,
    Change,
    ChangedIncident,
    ClaimedNotice,
    DueTarget,
    Incident,
    NewNotice,
    NoticeKind,
    NoticeRecord,
    NoticeState,
    PageState,
)
from ...rules.notices import OPEN_NOTICE, UNSETTLED_NOTICE
from .state import State, Undo, read_row

_ON_THEIR_WAY = (PageState.LEASED, PageState.CANCELLING)
_SENT = (*_ON_THEIR_WAY, PageState.DELIVERED)


@attrs.frozen
class Notices:
    """The changes and the notices."""

    store: State
    undo: Undo

    async def note(self, changes: Sequence[Change]) -> None:
        paged = {key for key, *_ in self.store.page_ids} if changes else set()
        for change in changes:
            if change.incident_key in paged:
                number = next(self.store.numbers["changes"])
                self.undo.put(self.store.changes, number, attrs.evolve(change, id=number))

    async def ready(self, limit: int, now: datetime) -> Sequence[ChangedIncident]:
        sent = [page for page in self.store.pages.values() if page.state in _ON_THEIR_WAY and page.due_at > now]

        def waits(change: Change) -> bool:
            own = [page for page in sent if page.incident_key == change.incident_key]
            return any(page.state is PageState.CANCELLING or page.episode <= change.episode for page in own)

        found = [change for change in self.store.changes.values() if not waits(change)]
        found.sort(key=lambda change: change.id)
        return [ChangedIncident(change, self._incident(change.incident_key)) for change in found[:limit]]

    async def arrivals(self, keys: Sequence[str]) -> Mapping[str, Sequence[Arrival]]:
        best: dict[tuple[str, int, str], tuple[bool, int]] = {}
        for page in self.store.pages.values():
            if page.incident_key in keys and (page.state in _SENT or page.fence > 1):
                place = page.incident_key, page.episode, page.target
                one = page.state is PageState.DELIVERED, page.level
                best[place] = max(one, best.get(place, one))
        found: dict[str, list[Arrival]] = {}
        for (key, episode, target), (certain, level) in sorted(best.items()):
            if not self._is_resolved(key, episode, target):
                arrival = Arrival(episode=episode, level=level, target=target, certain=certain)
                found.setdefault(key, []).append(arrival)
        return found

    async def enqueue(self, notices: Sequence[NewNotice], now: datetime) -> None:
        for new in notices:
            change, key = new.change, new.dedup_key
            taken = any((one.dedup_key, one.target) == (key, new.target) for one in self.store.notices.values())
            resolved = change.kind is NoticeKind.RESOLVED
            if taken or (resolved and self._is_resolved(change.incident_key, change.episode, new.target)):
                continue
            number = next(self.store.numbers["notices"])
            self._put(
                NoticeRecord(
                    id=number,
                    kind=change.kind,
                    incident_key=change.incident_key,
                    episode=change.episode,
                    level=new.level,
                    target=new.target,
                    dedup_key=key,
                    at=change.at,
                    actor=change.actor,
                    first_seen=change.first_seen,
                    state=NoticeState.PENDING,
                    created_at=now,
                    due_at=now,
                    for_threads=new.for_threads,
                )
            )

    async def delete_changes(self, ids: Sequence[int]) -> None:
        for number in ids:
            self.undo.drop(self.store.changes, number)

    async def due_targets(self) -> Mapping[str, DueTarget]:
        return self.targets()

    async def claim(self, capacity: Mapping[str, int], *, until: datetime) -> Sequence[ClaimedNotice]:
        free, claimed = dict(capacity), list[ClaimedNotice]()
        for notice in sorted(self._unsettled(), key=lambda one: (one.due_at, one.id)):
            if notice.due_at <= until and free.get(notice.target, 0) > 0:
                free[notice.target] -= 1
                claimed.append(
                    ClaimedNotice(notice, self._incident(notice.incident_key), followed=self._is_followed(notice))
                )
        return claimed

    async def write(self, notices: Sequence[NoticeRecord]) -> None:
        for notice in notices:
            self._put(notice)

    async def settle(self, notices: Sequence[NoticeRecord]) -> AbstractSet[int]:
        known = self.store.notices
        owned = [one for one in notices if one.id in known and known[one.id].fence == one.fence - 1]
        await self.write(owned)
        return {notice.id for notice in owned}

    async def delete_notices(self, ids: Sequence[int]) -> None:
        for number in ids:
            self.undo.drop(self.store.notices, number)

    async def expire(self, *, before: datetime, resolved_before: datetime, now: datetime) -> int:
        free = [one for one in self._unsettled() if one.state is NoticeState.PENDING or one.due_at <= now]
        late = [
            notice
            for notice in free
            if notice.created_at < (resolved_before if notice.kind is NoticeKind.RESOLVED else before)
        ]
        await self.write(
            [attrs.evolve(one, state=NoticeState.EXPIRED, due_at=now, fence=one.fence + 1) for one in late]
        )
        return len(late)

    async def shift(self, now: datetime, step: timedelta) -> None:
        unsettled = self._unsettled()
        ahead = [
            attrs.evolve(one, created_at=one.created_at - step, due_at=one.due_at - step)
            for one in unsettled
            if one.created_at > now
        ]
        late = [
            attrs.evolve(one, due_at=one.due_at - step)
            for one in unsettled
            if one.created_at <= now < one.due_at and one.state is NoticeState.PENDING
        ]
        await self.write([*ahead, *late])

    async def notices(
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: NoticeState | None = None,
        target: str | None = None,
        bundle: str | None = None,
    ) -> Sequence[NoticeRecord]:
        found = [
            notice
            for number, notice in sorted(self.store.notices.items())
            if number > after
            and incident_key in (None, notice.incident_key)
            and state in (None, notice.state)
            and target in (None, notice.target)
            and (bundle is None or (notice.bundle or "").startswith(bundle))
        ]
        return found[:limit]

    async def counts(self, *, since: datetime) -> Mapping[NoticeState, int]:
        return Counter(
            notice.state
            for notice in self.store.notices.values()
            if notice.state in UNSETTLED_NOTICE or notice.due_at >= since
        )

    async def delete(self, *, before: datetime) -> int:
        paged = {(key, episode) for key, episode, *_ in self.store.page_ids}
        old = [
            one.id
            for one in self.store.notices.values()
            if one.state not in UNSETTLED_NOTICE
            and one.due_at < before
            and (one.incident_key, one.episode) not in paged
        ]
        await self.delete_notices(old)
        changes = [change.id for change in self.store.changes.values() if change.at < before]
        await self.delete_changes(changes)
        return len(old) + len(changes)

    def targets(self) -> Mapping[str, DueTarget]:
        found: dict[str, DueTarget] = {}
        for notice in self._unsettled():
            one = DueTarget(due_at=notice.due_at, pace=self.store.paces.get(notice.target))
            found[notice.target] = found[notice.target].earliest(one) if notice.target in found else one
        return found

    def _unsettled(self) -> list[NoticeRecord]:
        return [one for _, one in sorted(self.store.notices.items()) if one.state in UNSETTLED_NOTICE]

    def _is_followed(self, notice: NoticeRecord) -> bool:
        place = notice.incident_key, notice.episode, notice.target
        others = self.store.notices.values()
        return any((one.incident_key, one.episode, one.target) == place and one.id > notice.id for one in others)

    def _is_resolved(self, key: str, episode: int, target: str) -> bool:
        same = (NoticeKind.RESOLVED, key, episode, target)
        return any(
            (one.kind, one.incident_key, one.episode, one.target) == same and one.state in OPEN_NOTICE
            for one in self.store.notices.values()
        )

    def _incident(self, key: str) -> Incident | None:
        row = self.store.rows.get(key)
        return None if row is None else read_row(row)[0]

    def _put(self, notice: NoticeRecord) -> None:
        self.undo.put(self.store.notices, notice.id, notice)
