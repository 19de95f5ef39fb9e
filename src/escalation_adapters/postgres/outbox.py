"""The Outbox port on escalation_pages."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

import attrs

from escalation_core.model import (
    UNSETTLED,
    AuditRange,
    ClaimedPage,
    DueTarget,
    NewPage,
    Pace,
    PageRecord,
    PageState,
)
from escalation_core.model.micros import from_micros
from escalation_core.rules.priority import STARVED_AFTER

from .session import Session, aware, instant
from .table import read_incident

_HOUR = timedelta(hours=1)


@attrs.frozen
class Outbox:
    """The pages, in one transaction."""

    session: Session

    async def enqueue(self, pages: Sequence[NewPage], now: datetime) -> None:
        """Insert in one statement."""
        values: dict[str, object] = {
            "keys": [page.incident_key for page in pages],
            "episodes": [page.episode for page in pages],
            "levels": [page.level for page in pages],
            "targets": [page.target for page in pages],
            "dedup_keys": [page.dedup_key for page in pages],
            "reasons": [page.undeliverable_reason for page in pages],
            "vias": [page.via for page in pages],
            "digests": [page.schedule_digest for page in pages],
            "priorities": [page.priority for page in pages],
            "hand_overs": [None if page.hand_over_after is None else now + page.hand_over_after for page in pages],
            "now": now,
        }
        new = self.session.optimistic and not any(page.may_exist for page in pages)
        await self.session.later("enqueue_new" if new else "enqueue", **values)

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        """Cancel pending pages, and let leased ones finish."""
        return await self.session.run("cancel", key=incident_key, reason=reason, now=now)

    async def claim(self, capacity: Mapping[str, int], *, now: datetime, until: datetime) -> Sequence[ClaimedPage]:
        """Return due pages, up to the capacity of each target, locked. Pages that others have locked are left out."""
        rows = await self.session.rows(
            "claim_pages",
            targets=list(capacity),
            capacities=list(capacity.values()),
            now=now,
            until=until,
            starved=now - STARVED_AFTER,
        )
        return [ClaimedPage.from_row(row, instant, read_incident) for row in rows]

    async def claim_late(self, targets: Sequence[str], *, now: datetime, limit: int) -> Sequence[ClaimedPage]:
        """Return the pages that are to be handed over, locked, from their index."""
        rows = await self.session.rows("claim_late", targets=list(targets), now=now, limit=limit)
        return [ClaimedPage.from_row(row, instant, read_incident) for row in rows]

    async def find_unheard(self, since: datetime) -> Sequence[tuple[str, int, int]]:
        """Begin at the pages that ended since, by their index."""
        rows = await self.session.rows("find_unheard", suffix=b"", since=since)
        return [(key, episode, level) for key, episode, level in rows]

    async def due_targets(self) -> Mapping[str, DueTarget]:
        """Read them in one statement."""
        [[found]] = await self.session.rows("find_due_targets", suffix=b"")
        return read_due_targets(found)

    async def lock_targets(self, targets: Sequence[str]) -> Mapping[str, Pace]:
        """Lock rows in the order of their names."""
        rows = await self.session.rows("lock_targets", suffix=b"", targets=list(targets))
        return {
            target: Pace(target=target, held_until=aware(held), free_at=aware(free), rate=rate, refused=refused)
            for target, held, free, rate, refused in rows
        }

    async def write_paces(self, paces: Sequence[Pace]) -> None:
        """Write in one statement."""
        await self.session.later(
            "write_paces",
            targets=[pace.target for pace in paces],
            frees=[pace.free_at for pace in paces],
            rates=[pace.rate for pace in paces],
            refused=[pace.refused for pace in paces],
        )

    async def count_waiting(self, limits: Mapping[str, int], *, until: datetime) -> Mapping[str, int]:
        """Count in one statement."""
        values = {"targets": list(limits), "limits": list(limits.values())}
        return dict(await self.session.rows("count_waiting", suffix=b"", **values, until=until))

    async def lock_bundle(self, bundle: str) -> tuple[Sequence[ClaimedPage], bool]:
        """Lock the pages of a bundle by its index, and count them afterwards."""
        rows = await self.session.rows("lock_bundle", bundle=bundle)
        [[count]] = await self.session.rows("count_bundle", suffix=b"", bundle=bundle)
        return [ClaimedPage.from_row(row, instant, read_incident) for row in rows], count == len(rows)

    async def lock(self, ids: Sequence[int]) -> Sequence[ClaimedPage]:
        """Return pages by id, locked, except those that others have locked."""
        return [
            ClaimedPage.from_row(row, instant, read_incident)
            for row in await self.session.rows("lock_pages", ids=list(ids))
        ]

    async def write(self, pages: Sequence[PageRecord]) -> None:
        """Write in one statement."""
        if pages:
            await self.session.later(
                "write_pages",
                **_written(pages),
                hand_overs=[page.hand_over_at for page in pages],
                bundles=[page.bundle for page in pages],
            )

    async def settle(self, pages: Sequence[PageRecord]) -> AbstractSet[int]:
        """Write in one statement, which compares the fences."""
        return {row[0] for row in await self.session.rows("settle_pages", suffix=b"", **_written(pages))}

    async def fences(self, ids: Sequence[int]) -> Mapping[int, int]:
        """Return fences by id."""
        return dict(await self.session.rows("fences", suffix=b"", ids=list(ids)))

    async def bring_forward(
        self, targets: Sequence[str] | None, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
    ) -> int:
        """Find late pages by each target's index, and make them due earlier; shorten throttles as well."""
        if step:
            await self.session.later("bring_hand_overs", step=step)
        return await self.session.run(
            "bring_forward",
            targets=None if targets is None else list(targets),
            now=now,
            step=step,
            beyond=beyond,
            lease_ends=lease_ends,
            after=now if step else beyond,
        )

    async def throttle_target(self, target: str, until: datetime) -> bool:
        """Throttle a target for every worker, unless its row is locked."""
        return await self.session.row("throttle_target", target=target, until=until) is not None

    async def settled(self, reach: AuditRange, *, limit: int, incident_key: str | None = None) -> Sequence[PageRecord]:
        """Return settled pages from their index, newest first."""
        rows = await self.session.rows("settled", limit=limit, key=incident_key, **attrs.asdict(reach))
        return [PageRecord.from_row(row, instant) for row in rows]

    async def pages(
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: PageState | None = None,
        target: str | None = None,
    ) -> Sequence[PageRecord]:
        """Return pages by id."""
        within: dict[str, object] = {"after": after, "limit": limit, "target": target}
        if incident_key is not None:
            rows = await self.session.rows("pages_of", suffix=b"", **within, key=incident_key)
        elif state is PageState.DEAD:
            # Separate statements: the planner uses a partial index only if the states are constants.
            rows = await self.session.rows("pages_dead", suffix=b"", **within)
        elif state is not None:
            name = "pages_unsettled" if state in UNSETTLED else "pages_in"
            rows = await self.session.rows(name, suffix=b"", **within, state=state.value)
        else:
            rows = await self.session.rows("pages", suffix=b"", **within)
        return [page for row in rows if state in (None, (page := PageRecord.from_row(row, instant)).state)]

    async def pages_of_bundle(self, prefix: str) -> Sequence[PageRecord]:
        """Return the pages of bundles by their index."""
        rows = await self.session.rows("pages_of_bundle", suffix=b"", bundle=prefix, beyond=f"{prefix}g")
        return [PageRecord.from_row(row, instant) for row in rows]

    async def pages_of(self, episodes: Sequence[tuple[str, int]]) -> Sequence[PageRecord]:
        """Return the pages of episodes, by the unique index of pages."""
        keys, numbers = [key for key, _ in episodes], [number for _, number in episodes]
        rows = await self.session.rows("pages_of_episodes", keys=keys, episodes=numbers)
        return [PageRecord.from_row(row, instant) for row in rows]


def read_due_targets(rows: Sequence[Sequence[Any]] | None) -> Mapping[str, DueTarget]:
    """Return the targets of the statement ``due_targets``, which gives instants as microseconds."""
    found = {}
    for target, due, late, paced, held, free, rate, refused in rows or ():
        pace = None
        if paced is not None:
            pace = Pace(target=target, held_until=_instant(held), free_at=_instant(free), rate=rate, refused=refused)
        found[target] = DueTarget(due_at=from_micros(due), hand_over_at=_instant(late), pace=pace)
    return found


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _written(pages: Sequence[PageRecord]) -> dict[str, object]:
    return {
        "ids": [page.id for page in pages],
        "states": [page.state.value for page in pages],
        "dues": [page.due_at for page in pages],
        "fences": [page.fence for page in pages],
        "attempts": [page.attempts for page in pages],
        "tried": [_interval(page.tried_for) for page in pages],
        "reasons": [page.reason for page in pages],
    }


def _interval(span: timedelta) -> str:
    # In PostgreSQL 14 each number of an interval's text has 32 bits: 36 minutes as microseconds are refused.
    hours, rest = divmod(span, _HOUR)
    return f"{hours} hours {rest.seconds} seconds {rest.microseconds} microseconds"
