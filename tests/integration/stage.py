"""An engine whose clock stands still until a test advances it; the test changes the database as hosts do."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, Outcome, Page, Settings
from escalation_core.testing import ManualClock, RecordingNotifier

MINUTE = timedelta(minutes=1)
Paged = tuple[str, int, int]
"""Key, episode and level of a page."""


@attrs.define
class Stage:
    """One database with one engine, and the statements of the test's host."""

    dsn: str
    clock: ManualClock
    notifier: RecordingNotifier
    engine: Engine

    def sql(self, *statements: str, **values: object) -> None:
        """Run a host's statements in one transaction. ``%(now)s`` is the engine's instant."""
        with psycopg.connect(self.dsn) as connection:
            for statement in statements:
                connection.execute(statement.encode(), {"now": self.clock(), **values} if "%(" in statement else None)

    def rows(self, statement: str, **values: object) -> list[Any]:
        """Return the rows of a query; if it has one column, return that column's values."""
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(statement.encode(), values or None).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def incident(self, *keys: str, age: timedelta = 10 * MINUTE) -> None:
        """Let the host insert critical incidents of this age; by default they are due."""
        for key in keys:
            self.sql(
                "INSERT INTO incidents (incident_key, severity, first_seen) VALUES (%(key)s, 'critical', %(seen)s)",
                key=key,
                seen=self.clock() - age,
            )

    async def tick(self, after: timedelta = timedelta()) -> list[Paged]:
        """Advance the clock, tick and deliver; return the new pages."""
        self.clock.advance(after)
        before = len(self.notifier.pages)
        await self.engine.tick()
        return paged(self.notifier.pages[before:])

    def pages(self, key: str) -> list[tuple[int, str, str | None]]:
        """Return the level, the state and the reason of each recorded page of a key."""
        statement = "SELECT level, state, reason FROM escalation_pages WHERE incident_key = %(key)s ORDER BY id"
        return self.rows(statement, key=key)

    def due(self, key: str) -> datetime | None:
        """Return the row's next due instant."""
        found: list[datetime | None] = self.rows(
            "SELECT next_due_at FROM incidents WHERE incident_key = %(key)s", key=key
        )
        return found[0]


def paged(pages: list[Page]) -> list[Paged]:
    """Return the key, episode and level of each of these pages, sorted."""
    return sorted((page.incident.incident_key, page.episode, page.level) for page in pages)


@asynccontextmanager
async def staged(
    dsn: str,
    *,
    settings: Settings | None = None,
    answer: Callable[[Page], Outcome] | None = None,
    store_dsn: str | None = None,
    **how: Any,
) -> AsyncIterator[Stage]:
    """Open an engine on a migrated database; with ``store_dsn`` the engine has another role than the host."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT date_trunc('second', now() AT TIME ZONE 'UTC')").fetchone()
    assert row is not None
    clock = ManualClock(row[0].replace(tzinfo=UTC))
    notifier = RecordingNotifier() if answer is None else RecordingNotifier(answer=answer)
    store = await PostgresStore.connect(store_dsn or dsn, clock=clock)
    async with Engine(store, settings=settings or Settings(), notifiers=[notifier], **how) as engine:
        yield Stage(dsn, clock, notifier, engine)


@contextmanager
def role(dsn: str, options: str = "", grants: str = "") -> Iterator[tuple[str, str]]:
    """Create a role, run ``grants`` with its name for ``{role}``, yield its name and its DSN, and drop the role."""
    name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(6)
    quoted = sql.Identifier(name)
    with psycopg.connect(dsn, autocommit=True) as owner:
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} ").format(quoted, sql.Literal(password))
        owner.execute(create.as_bytes(owner) + options.encode())
        try:
            if grants:
                owner.execute(grants.replace("{role}", name).encode())
            yield name, make_conninfo(dsn, user=name, password=password)
        finally:
            owner.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(quoted))
            owner.execute(sql.SQL("DROP OWNED BY {}").format(quoted))
            owner.execute(sql.SQL("DROP ROLE {}").format(quoted))


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Check the condition again and again until it is true, for at most this many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition reads a server, or has no event
            await asyncio.sleep(0.01)
