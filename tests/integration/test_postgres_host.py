"""A host that writes to its incidents with plain SQL alone: each row is looked at by the next tick."""

import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import attrs
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from escalation_adapters.auth.rate_limit import Limit
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.limiter import PostgresLimiter
from escalation_core import Delivered, Engine, Retry, TickReport, TransitionRefused, idempotency_key
from escalation_core.model import NEEDS_REPLAN, PageState
from escalation_core.testing import ManualClock, RecordingNotifier

MINUTE = timedelta(minutes=1)
DUE: LiteralString = "SELECT next_due_at FROM incidents WHERE incident_key = %(key)s"
Paged = tuple[str, int, int]
"""Key, episode and level of a page."""


@attrs.define
class Scene:
    """An engine whose clock stands still at first, and the host's own connection."""

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
        """Return a row as it stands."""
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
        """Return how many rows wait for another look."""
        return int(self.value("SELECT count(*) FROM incidents WHERE next_due_at = 'epoch'"))

    async def tick(self, after: timedelta = timedelta()) -> list[Paged]:
        """Let time pass and tick; return who was paged by that, and check each page's dedup key."""
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


@pytest.fixture
async def scene(migrated_dsn: str) -> AsyncIterator[Scene]:
    """An engine on a migrated database of its own."""
    made = await scene_of(migrated_dsn)
    async with made.engine:
        yield made


def insert(scene: Scene, key: str, severity: str = "critical", age: timedelta = timedelta()) -> None:
    scene.sql(
        "INSERT INTO incidents (incident_key, severity, first_seen) VALUES (%(key)s, %(severity)s, %(first_seen)s)",
        key=key,
        severity=severity,
        first_seen=scene.clock() - age,
    )


# --- one row at a time


async def test_inserted_row_gets_its_instant_and_pages_at_it(scene: Scene) -> None:
    """An inserted row is planned by the next tick without paging, and pages when its window is over."""
    insert(scene, "k")
    assert (NEEDS_REPLAN, 1) == (scene.row("k")["next_due_at"], scene.row("k")["episode"])
    assert [] == await scene.tick()
    assert {"not_due": 1} == scene.report.rescheduled
    assert scene.clock() + 5 * MINUTE == scene.row("k")["next_due_at"]
    assert [] == await scene.tick(5 * MINUTE - timedelta(microseconds=1))
    assert [("k", 1, 1)] == await scene.tick(timedelta(microseconds=1))
    assert [("k", 1, 2)] == await scene.tick(30 * MINUTE)


async def test_overdue_row_pages_at_the_next_tick(scene: Scene) -> None:
    """A row that is inserted late pages at once, one level only, and has no lateness."""
    insert(scene, "k", age=timedelta(hours=5))
    assert [("k", 1, 1)] == await scene.tick()
    assert scene.report.latest is None
    assert [] == await scene.tick()


@pytest.mark.parametrize("labels", ['{"n": 1e5000}', '{"a": ' + "[" * 3000 + "]" * 3000 + "}"])
async def test_labels_that_python_cannot_read_stop_no_other_row(labels: str, scene: Scene) -> None:
    """A row whose labels PostgreSQL holds and Python cannot read is deferred and listed; every other one is paged."""
    insert(scene, "good", age=timedelta(hours=1))
    insert(scene, "bad", age=timedelta(hours=1))
    scene.sql("UPDATE incidents SET labels = %(labels)s::jsonb WHERE incident_key = 'bad'", labels=labels)
    paged = await scene.tick()
    listed = [key for key, _ in (await scene.engine.health()).stats.unreadable_examples]
    # How deep Python reads is another with each version: never silent is what counts.
    assert ["bad", "good"] == sorted([*(key for key, _, _ in paged), *listed])
    assert "good" not in listed
    scene.sql("UPDATE incidents SET labels = '{}', severity = 'warning' WHERE incident_key = 'bad'")
    assert [("bad", 1, 1)] == [*paged[:-1], *await scene.tick()]


async def test_acknowledged_row_is_left_alone(scene: Scene) -> None:
    """An acknowledgement by SQL ends paging: the page that was not claimed yet is cancelled, and no other follows."""
    insert(scene, "k", age=timedelta(hours=1))
    await scene.engine.tick(deliver=False)
    scene.sql("UPDATE incidents SET acknowledged_at = %(now)s, acknowledged_by = 'ann' WHERE incident_key = 'k'")
    assert (None, "ann") == (scene.row("k")["next_due_at"], scene.row("k")["acknowledged_by"])
    assert [] == await scene.tick()
    assert [] == await scene.tick(timedelta(hours=9))
    pages = (await scene.engine.history("k")).pages
    assert [(PageState.CANCELLED, "acknowledged")] == [(page.state, page.reason) for page in pages]


async def test_unacknowledged_row_goes_on_where_it_was(scene: Scene) -> None:
    """Taking an acknowledgement back by SQL continues the episode at its level, and forgets who had it."""
    insert(scene, "k", age=timedelta(hours=1))
    assert [("k", 1, 1)] == await scene.tick()
    scene.sql("UPDATE incidents SET acknowledged_at = %(now)s, acknowledged_by = 'ann'")
    assert [] == await scene.tick(29 * MINUTE)
    scene.sql("UPDATE incidents SET acknowledged_at = NULL")
    row = scene.row("k")
    assert (NEEDS_REPLAN, None, 1, 1) == tuple(
        row[name] for name in ("next_due_at", "acknowledged_by", "episode", "escalation_level")
    )
    assert [] == await scene.tick()
    assert [("k", 1, 2)] == await scene.tick(MINUTE)


async def test_changed_severity_counts_at_once(scene: Scene) -> None:
    """A severity that is changed by SQL brings another window from the next tick on, for better and for worse."""
    insert(scene, "up", "warning")
    insert(scene, "down", "critical")
    assert [] == await scene.tick()
    scene.sql("UPDATE incidents SET severity = 'critical' WHERE incident_key = 'up'")
    scene.sql("UPDATE incidents SET severity = 'warning' WHERE incident_key = 'down'")
    assert [("up", 1, 1)] == await scene.tick(6 * MINUTE)
    assert [("down", 1, 1)] == await scene.tick(9 * MINUTE)


async def test_lowered_level_is_heard_again(scene: Scene) -> None:
    """The runbook's drain by SQL begins an episode one level lower, whose page has a name of its own."""
    drain: LiteralString = "UPDATE incidents SET escalation_level = GREATEST(escalation_level - 1, 0)"
    insert(scene, "k", age=timedelta(hours=1))
    assert [("k", 1, 1)] == await scene.tick()
    assert [("k", 1, 2)] == await scene.tick(30 * MINUTE)
    scene.sql(drain)
    assert (2, 1, NEEDS_REPLAN) == tuple(
        scene.row("k")[name] for name in ("episode", "escalation_level", "next_due_at")
    )
    assert [] == await scene.tick()
    assert [("k", 2, 2)] == await scene.tick(30 * MINUTE)
    scene.sql(drain)
    scene.sql(drain)
    assert (4, 0) == (scene.row("k")["episode"], scene.row("k")["escalation_level"])
    assert [("k", 4, 1)] == await scene.tick(30 * MINUTE)


async def test_drain_at_level_zero_changes_nothing(scene: Scene) -> None:
    """The runbook's drain of an incident at level 0 leaves its row as it is."""
    insert(scene, "k")
    assert [] == await scene.tick()
    before = scene.row("k")
    scene.sql("UPDATE incidents SET escalation_level = GREATEST(escalation_level - 1, 0)")
    assert before == scene.row("k")


async def test_drain_cancels_the_page_of_the_level_taken_back(scene: Scene) -> None:
    """A page that waits when the level is lowered by SQL belongs to an episode that is over, and is not sent."""
    insert(scene, "k", age=timedelta(hours=1))
    await scene.engine.tick(deliver=False)
    scene.sql("UPDATE incidents SET escalation_level = 0")
    assert [] == await scene.tick()
    pages = (await scene.engine.history("k")).pages
    assert [(PageState.CANCELLED, "episode ended")] == [(page.state, page.reason) for page in pages]


async def test_opened_again_row_begins_a_new_episode(scene: Scene) -> None:
    """A row whose resolved_at goes back to NULL starts over: a new episode at level 0, seen now, not acknowledged."""
    insert(scene, "k", age=timedelta(hours=1))
    assert [("k", 1, 1)] == await scene.tick()
    scene.sql(
        "UPDATE incidents SET acknowledged_at = %(now)s, acknowledged_by = 'ann', snoozed_until = %(now)s,"
        " resolved_at = %(now)s"
    )
    assert scene.row("k")["next_due_at"] is None
    assert [] == await scene.tick(timedelta(hours=2))
    scene.sql("UPDATE incidents SET resolved_at = NULL")
    row = scene.row("k")
    cleared = ("last_escalated_at", "acknowledged_at", "acknowledged_by", "snoozed_until")
    assert 2 == row["episode"]
    assert 0 == row["escalation_level"]
    assert [None] * 4 == [row[name] for name in cleared]
    assert timedelta() <= datetime.now(UTC) - row["first_seen"] < MINUTE
    assert [("k", 2, 1)] == await scene.tick()


async def test_opened_again_row_keeps_what_the_host_says(scene: Scene) -> None:
    """What the statement that opens a row again sets itself is kept."""
    insert(scene, "k", age=timedelta(hours=1))
    scene.sql("UPDATE incidents SET resolved_at = %(now)s")
    scene.sql(
        "UPDATE incidents SET resolved_at = NULL, escalation_level = 3, first_seen = %(now)s, severity = 'warning'"
    )
    row = scene.row("k")
    assert 2 == row["episode"]
    assert 3 == row["escalation_level"]
    assert scene.clock() == row["first_seen"]
    assert [] == await scene.tick(59 * MINUTE)
    assert [("k", 2, 4)] == await scene.tick(MINUTE)


async def test_deleted_row_is_silent_and_its_return_is_heard(scene: Scene) -> None:
    """A deleted row's waiting page is cancelled, and the same key inserted again pages in an episode of its own."""
    insert(scene, "k", age=timedelta(hours=1))
    insert(scene, "gone", age=timedelta(hours=1))
    await scene.engine.tick(deliver=False)
    scene.sql("DELETE FROM incidents")
    insert(scene, "k", age=timedelta(hours=1))
    assert 2 == scene.row("k")["episode"]
    assert [("k", 2, 1)] == await scene.tick()
    pages = (await scene.engine.history("gone")).pages
    assert [(PageState.CANCELLED, "deleted")] == [(page.state, page.reason) for page in pages]


async def test_upsert_has_what_it_changes_planned_anew(scene: Scene) -> None:
    """An upsert inserts a new row, has a row that it changes planned anew, and leaves an unchanged one alone."""
    upsert: LiteralString = (
        "INSERT INTO incidents (incident_key, severity, first_seen, summary)"
        " VALUES ('k', %(severity)s, %(now)s, %(summary)s)"
        " ON CONFLICT (incident_key) DO UPDATE SET severity = excluded.severity, summary = excluded.summary"
    )
    scene.sql(upsert, severity="warning", summary="one")
    assert [] == await scene.tick()
    born = scene.row("k")
    scene.clock.advance(6 * MINUTE)
    scene.sql(upsert, severity="warning", summary="two")
    assert born | {"summary": "two"} == scene.row("k")
    assert [] == await scene.tick()
    scene.sql(upsert, severity="critical", summary="three")
    assert born | {"summary": "three", "severity": "critical", "next_due_at": NEEDS_REPLAN} == scene.row("k")
    assert [("k", 1, 1)] == await scene.tick()
    scene.sql(upsert, severity="warning", summary="four")
    assert (1, 1) == (scene.row("k")["episode"], scene.row("k")["escalation_level"])
    assert [] == await scene.tick()


async def test_snooze_and_future_escalation_by_sql(scene: Scene) -> None:
    """A snooze that the host writes holds the next level back, and a last_escalated_at in the future counts as now."""
    insert(scene, "snoozed", age=timedelta(hours=1))
    insert(scene, "future", age=timedelta(hours=1))
    scene.sql("UPDATE incidents SET snoozed_until = %(at)s WHERE incident_key = 'snoozed'", at=scene.clock() + MINUTE)
    scene.sql(
        "UPDATE incidents SET last_escalated_at = %(at)s WHERE incident_key = 'future'", at=scene.clock() + 99 * MINUTE
    )
    assert [] == await scene.tick()
    assert [("snoozed", 1, 1)] == await scene.tick(MINUTE)
    assert [("future", 1, 1)] == await scene.tick(29 * MINUTE)


# --- many rows at a time


async def test_bulk_insert_pages_exactly_those_that_are_due(scene: Scene) -> None:
    """Of 2,000 rows inserted by one statement the due half is paged, once each, and the rest gets its instant."""
    scene.sql(
        "INSERT INTO incidents (incident_key, severity, first_seen)"
        " SELECT 'k' || n, 'critical', %(now)s - make_interval(mins => CASE n %% 2 WHEN 0 THEN 6 ELSE 4 END)"
        " FROM generate_series(1, 2000) AS n"
    )
    assert 2000 == scene.to_replan()
    assert sorted((f"k{n}", 1, 1) for n in range(2, 2001, 2)) == await scene.tick()
    assert (1000, 1000) == (scene.report.escalated, scene.report.rescheduled["not_due"])
    assert [] == await scene.tick()
    assert sorted((f"k{n}", 1, 1) for n in range(1, 2001, 2)) == await scene.tick(MINUTE)
    assert 2000 == scene.value("SELECT count(*) FROM escalation_events")


async def test_bulk_acknowledgement_and_drain_reach_every_row(scene: Scene) -> None:
    """One statement that acknowledges every row and one that drains every row are heard row by row."""
    scene.sql(
        "INSERT INTO incidents (incident_key, severity, first_seen)"
        " SELECT 'k' || n, 'critical', %(now)s - interval '1 hour' FROM generate_series(1, 50) AS n"
    )
    assert 50 == len(await scene.tick())
    scene.sql("UPDATE incidents SET acknowledged_at = %(now)s WHERE incident_key <= 'k25'")
    scene.sql("UPDATE incidents SET escalation_level = GREATEST(escalation_level - 1, 0)")
    expected = sorted((f"k{n}", 2, 1) for n in range(1, 51) if f"k{n}" > "k25")
    assert [] == await scene.tick()
    assert expected == await scene.tick(30 * MINUTE)


async def test_the_engines_own_statements_are_no_host_writes(scene: Scene) -> None:
    """Neither ticks nor verbs nor a recalculation nor putting back unreadable rows counts as a host's write."""
    scene.sql("ALTER TABLE incidents ALTER escalation_level DROP NOT NULL")
    insert(scene, "poison", age=timedelta(hours=1))
    scene.sql("UPDATE incidents SET escalation_level = NULL")
    for key in ("a", "b", "c"):
        await scene.engine.open(key, severity="warning", first_seen=scene.clock() - timedelta(hours=1))
    verbs = (
        lambda: scene.engine.acknowledge("a"),
        lambda: scene.engine.acknowledge("a"),
        lambda: scene.engine.unacknowledge("a"),
        lambda: scene.engine.change_severity("b", "critical"),
        lambda: scene.engine.snooze("b", scene.clock() + MINUTE),
        lambda: scene.engine.snooze("b", None),
        lambda: scene.engine.drain("c"),
        lambda: scene.engine.resolve("b"),
        lambda: scene.engine.open("b"),
        scene.engine.recalc,
    )
    assert [(key, 1, 1) for key in "abc"] == await scene.tick()
    for verb in verbs:
        await verb()
        assert 0 == scene.to_replan()
    assert [("a", 1, 2), ("b", 2, 1), ("c", 2, 1)] == await scene.tick(timedelta(hours=1))


# --- rows that cannot be read or planned


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


async def test_unreadable_rows_are_listed_and_hold_up_no_other_row(scene: Scene) -> None:
    """Rows that cannot be read or planned are listed in health with their faults, and all others are paged."""
    insert(scene, "before", age=timedelta(hours=1))
    insert_unreadable(scene)
    insert(scene, "after", age=timedelta(hours=1))
    assert [("after", 1, 1), ("before", 1, 1)] == await scene.tick()
    assert {"unreadable": len(UNREADABLE)} == scene.report.skipped
    stats = (await scene.engine.health()).stats
    faults = dict(stats.unreadable_examples)
    assert (len(UNREADABLE), sorted(UNREADABLE)) == (stats.unreadable, sorted(faults))
    assert [] == [(key, faults[key]) for key, (_, fault) in UNREADABLE.items() if not faults[key].startswith(fault)]
    assert 0 == stats.overdue


async def test_unreadable_rows_are_put_back_for_longer_each_time(scene: Scene) -> None:
    """A row that stays unreadable is looked at after 1, 2, 4 minutes and so on, and after an hour at most."""
    insert_unreadable(scene)
    waits = []
    for _ in range(9):
        assert [] == await scene.tick()
        dues = {scene.value(DUE, key=key) for key in UNREADABLE}
        assert 1 == len(dues)
        waits.append((dues.pop() - scene.clock()) // MINUTE)
        assert {"unreadable": len(UNREADABLE)} == scene.report.skipped
        scene.clock.advance(timedelta(minutes=waits[-1]) - timedelta(microseconds=1))
        assert [] == await scene.tick()
        assert {} == scene.report.skipped
        scene.clock.advance(timedelta(microseconds=1))
    assert [1, 2, 4, 8, 16, 32, 60, 60, 60] == waits


async def test_mended_row_is_heard(scene: Scene) -> None:
    """A row that the host mends is paged at the next tick and leaves health's list, as does one that it deletes."""
    insert_unreadable(scene)
    assert [] == await scene.tick()
    scene.sql(
        "UPDATE incidents SET first_seen = %(now)s - interval '6 minutes', escalation_level = 0, snoozed_until = NULL"
        " WHERE incident_key <> 'infinity'"
    )
    scene.sql("DELETE FROM incidents WHERE incident_key = 'infinity'")
    # That a level went down to -1 was a drain.
    episodes = dict.fromkeys(UNREADABLE, 1) | {"negative-level": 2}
    assert sorted((key, episode, 1) for key, episode in episodes.items() if key != "infinity") == await scene.tick()
    stats = (await scene.engine.health()).stats
    assert (0, ()) == (stats.unreadable, tuple(stats.unreadable_examples))


async def test_keys_that_are_none_hold_up_no_other_row(scene: Scene) -> None:
    """Keys that no incident can have are listed like other unreadable rows; a good row beside them is paged."""
    illegal = ["", "tab\tkey", "x" * 513, "é" * 257]
    for key in (*illegal, "good", "é" * 256):
        insert(scene, key, age=timedelta(hours=1))
    assert [("good", 1, 1), ("é" * 256, 1, 1)] == await scene.tick()
    stats = (await scene.engine.health()).stats
    assert sorted(illegal) == sorted(key for key, _ in stats.unreadable_examples)
    assert {"incident_key"} == {fault.partition(":")[0] for _, fault in stats.unreadable_examples}


async def test_dry_run_tells_the_same_and_changes_nothing(scene: Scene) -> None:
    """A dry run over new, due and unreadable rows reports what a tick then does, and leaves every row as it is."""
    insert_unreadable(scene)
    scene.sql(
        "INSERT INTO incidents (incident_key, severity, first_seen)"
        " SELECT 'k' || n, 'critical', %(now)s - make_interval(mins => n) FROM generate_series(1, 10) AS n"
    )
    rows: LiteralString = "SELECT string_agg(i::text || i.xmin::text, ',' ORDER BY incident_key) FROM incidents i"
    before = scene.value(rows)
    report = await scene.engine.tick(dry_run=True)
    assert (before, 0) == (scene.value(rows), scene.value("SELECT count(*) FROM escalation_unreadable"))
    assert 6 == len(await scene.tick())
    assert report.escalated == scene.report.escalated
    assert report.rescheduled == scene.report.rescheduled
    assert report.skipped == scene.report.skipped


async def test_verb_on_an_unreadable_row_names_the_fault(scene: Scene) -> None:
    """A verb on a row that cannot be read is refused with the column's name, and recalc passes the row by."""
    insert_unreadable(scene)
    await scene.tick()
    for verb in (scene.engine.acknowledge, scene.engine.open):
        with pytest.raises(TransitionRefused, match=r"first_seen: is infinite, or outside the years 1 to 9999"):
            await verb("year-20000")
    assert len(UNREADABLE) == await scene.engine.recalc()
    assert 0 == scene.to_replan()


# --- the database's own settings


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Pacific/Kiritimati"])
async def test_the_databases_time_zone_changes_nothing(migrated_dsn: str, zone: str) -> None:
    """Instants, unreadable ones among them, are the same whatever the sessions' time zone and style of dates."""
    name = conninfo_to_dict(migrated_dsn)["dbname"]
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        for setting in (f"timezone TO '{zone}'", "datestyle TO 'SQL, DMY'", "intervalstyle TO 'sql_standard'"):
            connection.execute(f'ALTER DATABASE "{name}" SET {setting}'.encode())
    scene = await scene_of(migrated_dsn)
    scene.dsn = make_conninfo(migrated_dsn, options="-c datestyle=ISO")  # the driver itself reads no other
    async with scene.engine:
        start = scene.clock()
        insert(scene, "k")
        insert_unreadable(scene)
        assert [] == await scene.tick()
        assert start + 5 * MINUTE == scene.row("k")["next_due_at"]
        scene.notifier.answer = lambda page: Retry("busy", after=MINUTE)
        assert [("k", 1, 1)] == await scene.tick(5 * MINUTE)
        assert [MINUTE] == [page.tried_for for page in (await scene.engine.history("k")).pages]
        scene.notifier.answer = lambda page: Delivered()
        assert [("k", 1, 1)] == await scene.tick(MINUTE)
        end = datetime.max.replace(microsecond=0, tzinfo=UTC)
        assert end == (await scene.engine.snooze("k", end)).next_due_at
        history = await scene.engine.history("k")
        assert history.incident is not None
        assert (start, end) == (history.incident.first_seen, history.incident.snoozed_until)
        assert [start + 5 * MINUTE] == [escalation.created_at for escalation in history.escalations]
        told = [entry for entry in await scene.engine.audit(start) if not str(entry.reason).startswith("by SQL")]
        assert {start + 5 * MINUTE, start + 6 * MINUTE} == {entry.at for entry in told}
        health = await scene.engine.health()
        assert (start + 6 * MINUTE, len(UNREADABLE)) == (health.at, health.stats.unreadable)


async def test_the_databases_own_clock_decides(migrated_dsn: str) -> None:
    """Without a clock of its own the store takes the database's instant, in UTC."""
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[notifier]) as engine:
        with psycopg.connect(migrated_dsn, autocommit=True) as connection:
            connection.execute("SET timezone TO 'Asia/Kolkata'")
            connection.execute(
                "INSERT INTO incidents (incident_key, severity, first_seen) VALUES"
                " ('due', 'critical', now() - interval '5 minutes'), ('not', 'critical', now() - interval '4 minutes')"
            )
            before = connection.execute("SELECT now()").fetchone()
            report = await engine.tick()
            after = connection.execute("SELECT now()").fetchone()
    assert before is not None
    assert after is not None
    assert report.at is not None
    assert before[0] <= report.at <= after[0]
    assert ["due"] == [page.incident.incident_key for page in notifier.pages]


async def test_host_needs_no_rights_on_the_engines_tables(scene: Scene) -> None:
    """A role that may only write incidents inserts, changes and inserts again, and each write is heard."""
    role = f"host_{secrets.token_hex(6)}"
    name = sql.Identifier(role)
    password = secrets.token_hex(6)
    with psycopg.connect(scene.dsn, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(password)))
        try:
            owner.execute(sql.SQL("GRANT INSERT, UPDATE, DELETE ON incidents TO {}").format(name))
            owner.execute(sql.SQL("GRANT SELECT (incident_key, escalation_level) ON incidents TO {}").format(name))
            host = Scene(
                make_conninfo(scene.dsn, user=role, password=password), scene.clock, scene.notifier, scene.engine
            )
            insert(host, "k", age=timedelta(hours=1))
            assert [("k", 1, 1)] == await scene.tick()
            host.sql("UPDATE incidents SET escalation_level = GREATEST(escalation_level - 1, 0)")
            assert [("k", 2, 1)] == await scene.tick(30 * MINUTE)
            host.sql("DELETE FROM incidents WHERE incident_key = 'k'")
            insert(host, "k", age=timedelta(hours=1))
            assert [("k", 3, 1)] == await scene.tick()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                host.value("SELECT count(*) FROM escalation_events")
        finally:
            owner.execute(sql.SQL("DROP OWNED BY {}").format(name))
            owner.execute(sql.SQL("DROP ROLE {}").format(name))


async def test_worker_needs_no_more_rights_than_the_docs_say(scene: Scene) -> None:
    """A role with exactly the documented rights ticks, delivers, pauses, prunes, proves, and counts requests."""
    page = (Path(__file__).parents[2] / "docs/how-to/migrate-and-attach.md").read_text(encoding="utf-8")
    [grants] = [block for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "GRANT" in block]
    role, password = f"worker_{secrets.token_hex(6)}", secrets.token_hex(6)
    name = sql.Identifier(role)
    with psycopg.connect(scene.dsn, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(password)))
        try:
            owner.execute(grants.replace("CURRENT_USER", role).encode())
            insert(scene, "k", age=timedelta(hours=1))
            store = await PostgresStore.connect(make_conninfo(scene.dsn, user=role, password=password))
            async with Engine(store, notifiers=[RecordingNotifier()]) as engine:
                assert 1 == (await engine.tick()).escalated
                await engine.open("other", severity="critical")
                await engine.pause(timedelta(minutes=1), by="ada")
                await engine.resume(by="ada")
                await engine.acknowledge("k")
                await engine.resolve("k")
                await engine.recalc()
                await engine.retry_dead()
                assert await engine.remember_request("m", expires=datetime.now(UTC) + timedelta(minutes=5))
                assert (await PostgresLimiter(store).hit("k", Limit(1))).allowed
                await engine.prune(timedelta(days=1))
                assert (await engine.prove()).holds
                assert (await engine.health()).ok
                assert await engine.audit(datetime(2000, 1, 1, tzinfo=UTC))
        finally:
            owner.execute(sql.SQL("DROP OWNED BY {}").format(name))
            owner.execute(sql.SQL("DROP ROLE {}").format(name))
