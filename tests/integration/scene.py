"""An engine whose clock stands still until a test advances it, and a host that writes incidents with plain SQL."""

from datetime import UTC, timedelta
from typing import Any, LiteralString

import attrs
import psycopg
from psycopg.rows import dict_row

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, TickReport, idempotency_key
from escalation_core.testing import ManualClock, RecordingNotifier

Paged = tuple[str, int, int]
"""Key, episode and level of a page."""


@attrs.define
class Scene:
    """An engine whose clock stands still until a test advances it, and the host's statements on its database."""

    dsn: str
    clock: ManualClock
    notifier: RecordingNotifier
    engine: Engine
    report: TickReport = attrs.field(factory=TickReport)

    def sql(self, statement: LiteralString, **values: object) -> None:
        """Run a host's statement. ``%(now)s`` is the engine's instant."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement, {"now": self.clock(), **values})

    def row(self, key: str) -> dict[str, Any]:
        """Return all columns of the row with this key."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            found = connection.execute("SELECT * FROM incidents WHERE incident_key = %s", [key]).fetchone()
        assert found is not None
        return found

    def value(self, statement: LiteralString, **values: object) -> Any:
        """Return the one value of a query."""
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(statement, values).fetchone()
        assert found is not None
        return found[0]

    def to_replan(self) -> int:
        """Return how many rows the next tick has to plan."""
        return int(self.value("SELECT count(*) FROM incidents WHERE next_due_at = 'epoch'"))

    async def tick(self, after: timedelta = timedelta()) -> list[Paged]:
        """Advance the clock and tick; return the new pages.

        Check each page's dedup key, and that no row is left to plan.
        """
        self.clock.advance(after)
        before = len(self.notifier.pages)
        self.report = await self.engine.tick()
        assert 0 == self.to_replan()
        pages = self.notifier.pages[before:]
        named = [(page.incident.incident_key, page.episode, page.level) for page in pages]
        assert [idempotency_key(key, level, episode) for key, episode, level in named] == [p.dedup_key for p in pages]
        return sorted(named)


async def scene_of(dsn: str) -> Scene:
    with psycopg.connect(dsn) as connection:
        now = connection.execute("SELECT date_trunc('second', now() AT TIME ZONE 'UTC')").fetchone()
    assert now is not None
    clock, notifier = ManualClock(now[0].replace(tzinfo=UTC)), RecordingNotifier()
    engine = Engine(await PostgresStore.connect(dsn, clock=clock), notifiers=[notifier])
    return Scene(dsn, clock, notifier, engine)


def insert(scene: Scene, key: str, severity: str = "critical", age: timedelta = timedelta()) -> None:
    scene.sql(
        "INSERT INTO incidents (incident_key, severity, first_seen) VALUES (%(key)s, %(severity)s, %(first_seen)s)",
        key=key,
        severity=severity,
        first_seen=scene.clock() - age,
    )


UNREADABLE: dict[str, tuple[LiteralString, str]] = {
    "infinity": ("first_seen = 'infinity'", "first_seen: is infinite"),
    "minus-infinity": ("first_seen = '-infinity'", "first_seen: is infinite"),
    "year-20000": ("first_seen = '20000-01-01'", "first_seen: is infinite, or outside the years 1 to 9999"),
    "snoozed-for-ever": ("snoozed_until = 'infinity'", "snoozed_until: is infinite"),
    "null-level": ("escalation_level = NULL", "level: "),
    "negative-level": ("escalation_level = -1", "level: "),
    "never-seen": ("first_seen = NULL", "first_seen: "),
    "three-years-old": ("first_seen = %(now)s - interval '3 years'", "first_seen: is 20"),
    "not-born-yet": ("first_seen = %(now)s + interval '2 days'", "first_seen: is 20"),
}


def insert_unreadable(scene: Scene) -> None:
    scene.sql("ALTER TABLE incidents ALTER escalation_level DROP NOT NULL, ALTER first_seen DROP NOT NULL")
    for key, (assignment, _) in UNREADABLE.items():
        insert(scene, key, age=timedelta(hours=1))
        scene.sql(f"UPDATE incidents SET {assignment} WHERE incident_key = %(key)s", key=key)


MINUTE = timedelta(minutes=1)
DUE: LiteralString = "SELECT next_due_at FROM incidents WHERE incident_key = %(key)s"
