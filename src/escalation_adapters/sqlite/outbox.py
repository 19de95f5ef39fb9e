"""The Outbox port on escalation_pages."""

import sqlite3
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

import attrs

from escalation_core.model import UNSETTLED as UNSETTLED_STATES
from escalation_core.model import AuditRange, ClaimedPage, DueTarget, NewPage, Pace, PageRecord, PageState
from escalation_core.rules.priority import STARVED_AFTER, claim_order

from .codec import Row, instant, micros, optional_instant, optional_micros, read_incident, span_micros
from .page_statements import (
    BRING_HAND_OVERS,
    CLAIM,
    END_HOLDS,
    FORWARD,
    LATE,
    OF_BUNDLE,
    ONE,
    PACE,
    PAGE,
    SETTLE,
    UNHEARD,
    UNSETTLED,
    WAITING,
)
from .session import Session


@attrs.frozen
class Outbox:
    """The pages, in one transaction."""

    session: Session

    async def enqueue(self, pages: Sequence[NewPage], now: datetime) -> None:
        """Insert pages that are not there yet."""
        at = micros(now)
        # Most pages have no schedule. A tick inserts many, and each value that is not bound makes that quicker.
        more = any(page.via is not None or page.hand_over_after is not None for page in pages)
        names, marks = (", via, schedule_digest, hand_over_at", ", ?, ?, ?") if more else ("", "")
        await self.session.run_many(
            "INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at,"
            f" reason, priority{names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?{marks})"
            " ON CONFLICT (incident_key, episode, level, target) DO NOTHING",
            [
                (
                    page.incident_key,
                    page.episode,
                    page.level,
                    page.target,
                    page.dedup_key,
                    "pending" if page.undeliverable_reason is None else "dead",
                    at,
                    at,
                    page.undeliverable_reason,
                    page.priority,
                    *((page.via, page.schedule_digest, _later(at, page.hand_over_after)) if more else ()),
                )
                for page in pages
            ],
        )

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        """Cancel pending pages, and let leased ones finish."""
        return await self.session.run(
            "UPDATE escalation_pages SET due_at = CASE state WHEN 'pending' THEN ? ELSE due_at END,"
            " state = CASE state WHEN 'pending' THEN 'cancelled' ELSE 'cancelling' END, reason = ?"
            " WHERE incident_key = ? AND state IN ('pending', 'leased')",
            (micros(now), reason, incident_key),
        )

    async def claim(self, capacity: Mapping[str, int], *, now: datetime, until: datetime) -> Sequence[ClaimedPage]:
        """Return due pages, up to the capacity of each target."""
        values = micros(until), micros(now), micros(now - STARVED_AFTER)

        def found(connection: sqlite3.Connection) -> list[Row]:
            shares = (
                connection.execute(CLAIM, (target, *values, count)).fetchall() for target, count in capacity.items()
            )
            return [row for share in shares for row in share]

        claimed = [ClaimedPage.from_row(row, instant, read_incident) for row in await self.session.in_thread(found)]
        return sorted(claimed, key=lambda found: claim_order(found.page, now))

    async def claim_late(self, targets: Sequence[str], *, now: datetime, limit: int) -> Sequence[ClaimedPage]:
        """Return the pages that are to be handed over, from their index."""

        def found(connection: sqlite3.Connection) -> list[Row]:
            values = micros(now), limit
            return [row for target in targets for row in connection.execute(LATE, (target, *values))][:limit]

        return [ClaimedPage.from_row(row, instant, read_incident) for row in await self.session.in_thread(found)]

    async def find_unheard(self, since: datetime) -> Sequence[tuple[str, int, int]]:
        """Begin at the pages that ended since, by their index."""
        rows = await self.session.rows(UNHEARD, (micros(since),))
        return [(key, episode, level) for key, episode, level in rows]

    async def count_waiting(self, limits: Mapping[str, int], *, until: datetime) -> Mapping[str, int]:
        """Count for each target."""

        def count(connection: sqlite3.Connection) -> Mapping[str, int]:
            return {
                target: connection.execute(WAITING, (target, micros(until), most)).fetchone()[0]
                for target, most in limits.items()
            }

        return await self.session.in_thread(count)

    async def lock_bundle(self, bundle: str) -> tuple[Sequence[ClaimedPage], bool]:
        """Return the pages of a bundle by its index. A transaction of SQLite has no rival."""
        rows = await self.session.rows(OF_BUNDLE, (bundle,))
        return [ClaimedPage.from_row(row, instant, read_incident) for row in rows], True

    async def lock(self, ids: Sequence[int]) -> Sequence[ClaimedPage]:
        """Return pages by id."""

        def found(connection: sqlite3.Connection) -> list[Row]:
            rows = (connection.execute(f"{ONE} WHERE p.id = ?", (number,)).fetchone() for number in ids)
            return [row for row in rows if row is not None]

        return [ClaimedPage.from_row(row, instant, read_incident) for row in await self.session.in_thread(found)]

    async def write(self, pages: Sequence[PageRecord]) -> None:
        """Write pages, one by one."""
        await self.session.run_many(
            f"{SETTLE}, hand_over_at = ?, bundle = ? WHERE id = ?",
            [(*_settled(page), optional_micros(page.hand_over_at), page.bundle, page.id) for page in pages],
        )

    async def settle(self, pages: Sequence[PageRecord]) -> AbstractSet[int]:
        """Write pages whose fence is still the one before theirs; return their ids."""

        def settled(connection: sqlite3.Connection) -> AbstractSet[int]:
            statement = f"{SETTLE} WHERE id = ? AND fence = ?"
            return {
                page.id
                for page in pages
                if connection.execute(statement, (*_settled(page), page.id, page.fence - 1)).rowcount == 1
            }

        return await self.session.in_thread(settled)

    async def fences(self, ids: Sequence[int]) -> Mapping[int, int]:
        """Return fences by id."""
        places = ", ".join("?" for _ in ids)
        return dict(
            await self.session.rows(f"SELECT id, fence FROM escalation_pages WHERE id IN ({places})", list(ids))
        )

    async def bring_forward(
        self, targets: Sequence[str] | None, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
    ) -> int:
        """Find late pages by each target's index, and make them due earlier; shorten throttles as well."""
        values = {
            "now": micros(now),
            "step": span_micros(step),
            "beyond": micros(beyond),
            "lease_ends": micros(lease_ends),
            "after": micros(now if step else beyond),
        }

        def write(connection: sqlite3.Connection) -> int:
            connection.execute(END_HOLDS, values)
            if step:
                connection.execute(BRING_HAND_OVERS, values)
            found = f"SELECT DISTINCT target FROM escalation_pages p WHERE {UNSETTLED}"
            each = [row[0] for row in connection.execute(found)] if targets is None else targets
            return sum(connection.execute(FORWARD, {**values, "target": target}).rowcount for target in each)

        return await self.session.in_thread(write)

    async def throttle_target(self, target: str, until: datetime) -> bool:
        """Throttle a target for every worker. A transaction of SQLite has no rival."""
        await self.session.run(
            "INSERT INTO escalation_targets (target, held_until, refused) VALUES (?, ?, 1) ON CONFLICT (target)"
            " DO UPDATE SET held_until = max(coalesce(held_until, 0), excluded.held_until), refused = 1",
            (target, micros(until)),
        )
        return True

    async def due_targets(self) -> Mapping[str, DueTarget]:
        """Go from target to target in their index, so that only those with unsettled pages cost anything."""
        statement = (
            f"SELECT p.target, p.priority, p.due_at, {PACE} FROM escalation_pages p"
            " LEFT JOIN escalation_targets t ON t.target = p.target"
            f" WHERE {UNSETTLED} AND (p.target, p.priority) > (?, ?) ORDER BY p.target, p.priority, p.due_at LIMIT 1"
        )
        late = (
            "SELECT min(hand_over_at) FROM escalation_pages"
            " WHERE target = ? AND state = 'pending' AND hand_over_at IS NOT NULL"
        )

        def found(connection: sqlite3.Connection) -> Mapping[str, DueTarget]:
            targets: dict[str, DueTarget] = {}
            target, priority = "", 0
            while (row := connection.execute(statement, (target, priority)).fetchone()) is not None:
                target, priority, due_at, *pace = row
                one = DueTarget(due_at=instant(due_at), pace=None if pace[0] is None else read_pace(pace))
                if target in targets:
                    targets[target] = targets[target].earliest(one)
                else:
                    [at] = connection.execute(late, (target,)).fetchone()
                    targets[target] = attrs.evolve(one, hand_over_at=optional_instant(at))
            return targets

        return await self.session.in_thread(found)

    async def lock_targets(self, targets: Sequence[str]) -> Mapping[str, Pace]:
        """Make and return rows. A transaction of SQLite has no rival."""
        await self.session.run_many(
            "INSERT INTO escalation_targets (target) VALUES (?) ON CONFLICT (target) DO NOTHING",
            [(target,) for target in targets],
        )
        places = ", ".join("?" for _ in targets)
        statement = f"SELECT {PACE} FROM escalation_targets t WHERE t.target IN ({places})"
        return {row[0]: read_pace(row) for row in await self.session.rows(statement, list(targets))}

    async def write_paces(self, paces: Sequence[Pace]) -> None:
        """Write one by one."""
        await self.session.run_many(
            "UPDATE escalation_targets SET free_at = ?, rate = ?, refused = ? WHERE target = ?",
            [(optional_micros(pace.free_at), pace.rate, pace.refused, pace.target) for pace in paces],
        )

    async def settled(self, reach: AuditRange, *, limit: int, incident_key: str | None = None) -> Sequence[PageRecord]:
        """Return settled pages from their index, newest first."""
        # A subquery lets the planner use the partial index of settled pages.
        states = "('delivered', 'cancelled', 'superseded', 'handed_over', 'dead')"
        table = f"(SELECT * FROM escalation_pages WHERE state IN {states}) AS p"
        rows = await self.session.newest(PAGE, table, "due_at", reach, limit, incident_key)
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
        where, values = ["p.id > ?"], [after]
        given: list[str] = []
        for column, value in (("incident_key", incident_key), ("target", target)):
            if value is not None:
                where.append(f"p.{column} = ?")
                given.append(value)
        if state is not None:
            # As constants, the states let the planner use the index of dead pages, or that of unsettled ones.
            where.append(f"p.state = '{state.value}'" + (f" AND {UNSETTLED}" if state in UNSETTLED_STATES else ""))
        statement = f"SELECT {PAGE} FROM escalation_pages p WHERE {' AND '.join(where)} ORDER BY p.id LIMIT ?"
        return [
            PageRecord.from_row(row, instant) for row in await self.session.rows(statement, (*values, *given, limit))
        ]

    async def pages_of_bundle(self, prefix: str) -> Sequence[PageRecord]:
        """Return the pages of bundles, by their index: g comes after every hex digit."""
        statement = f"SELECT {PAGE} FROM escalation_pages p WHERE p.bundle >= ? AND p.bundle < ? ORDER BY p.id"
        rows = await self.session.rows(statement, (prefix, f"{prefix}g"))
        return [PageRecord.from_row(row, instant) for row in rows]

    async def pages_of(self, episodes: Sequence[tuple[str, int]]) -> Sequence[PageRecord]:
        """Return the pages of episodes, by the unique index of pages."""
        statement = f"SELECT {PAGE} FROM escalation_pages p WHERE p.incident_key = ? AND p.episode = ?"

        def find(connection: sqlite3.Connection) -> list[Row]:
            return [row for episode in episodes for row in connection.execute(statement, episode)]

        pages = [PageRecord.from_row(row, instant) for row in await self.session.in_thread(find)]
        return sorted(pages, key=lambda page: page.id)


def read_pace(row: Sequence[Any]) -> Pace:
    """Return the pace in a row: the columns of ``PACE``."""
    target, held_until, free_at, rate, refused = row
    return Pace(
        target=target,
        held_until=optional_instant(held_until),
        free_at=optional_instant(free_at),
        rate=rate,
        refused=bool(refused),
    )


def _settled(page: PageRecord) -> tuple[object, ...]:
    tried = span_micros(page.tried_for)
    return (page.state.value, micros(page.due_at), page.fence, page.attempts, tried, page.reason)


def _later(at: int, span: timedelta | None) -> int | None:
    return None if span is None else at + span_micros(span)
