"""Tests of a host that writes its incidents with plain SQL only: the next tick plans each written row."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from escalation_adapters.auth.rate_limit import Limit
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.limiter import PostgresLimiter
from escalation_core import Delivered, Engine, Retry
from escalation_core.model import NEEDS_REPLAN, PageState
from escalation_core.testing import RecordingNotifier

from .scene import MINUTE, UNREADABLE, Scene, insert, insert_unreadable, scene_of

# --- one row at a time


async def test_inserted_row_gets_its_instant_and_pages_at_it(scene: Scene) -> None:
    """The next tick plans an inserted row without paging; the row pages when its window is over."""
    insert(scene, "k")
    assert (NEEDS_REPLAN, 1) == (scene.row("k")["next_due_at"], scene.row("k")["episode"])
    assert [] == await scene.tick()
    assert {"not_due": 1} == scene.report.rescheduled
    assert scene.clock() + 5 * MINUTE == scene.row("k")["next_due_at"]
    assert [] == await scene.tick(5 * MINUTE - timedelta(microseconds=1))
    assert [("k", 1, 1)] == await scene.tick(timedelta(microseconds=1))
    assert [("k", 1, 2)] == await scene.tick(30 * MINUTE)


async def test_overdue_row_pages_at_the_next_tick(scene: Scene) -> None:
    """A row that the host inserts late pages one level at the next tick, and the report has no lateness."""
    insert(scene, "k", age=timedelta(hours=5))
    assert [("k", 1, 1)] == await scene.tick()
    assert scene.report.latest is None
    assert [] == await scene.tick()


async def test_acknowledged_row_is_left_alone(scene: Scene) -> None:
    """An acknowledgement by SQL cancels the page that no worker has claimed yet, and no other page follows."""
    insert(scene, "k", age=timedelta(hours=1))
    await scene.engine.tick(deliver=False)
    scene.sql("UPDATE incidents SET acknowledged_at = %(now)s, acknowledged_by = 'ann' WHERE incident_key = 'k'")
    assert (None, "ann") == (scene.row("k")["next_due_at"], scene.row("k")["acknowledged_by"])
    assert [] == await scene.tick()
    assert [] == await scene.tick(timedelta(hours=9))
    pages = (await scene.engine.history("k")).pages
    assert [(PageState.CANCELLED, "acknowledged")] == [(page.state, page.reason) for page in pages]


async def test_unacknowledged_row_goes_on_where_it_was(scene: Scene) -> None:
    """If a host clears ``acknowledged_at``, the episode continues at its level, with no ``acknowledged_by``."""
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
    """After a change of severity by SQL the next tick applies the new severity's window, shorter or longer."""
    insert(scene, "up", "warning")
    insert(scene, "down", "critical")
    assert [] == await scene.tick()
    scene.sql("UPDATE incidents SET severity = 'critical' WHERE incident_key = 'up'")
    scene.sql("UPDATE incidents SET severity = 'warning' WHERE incident_key = 'down'")
    assert [("up", 1, 1)] == await scene.tick(6 * MINUTE)
    assert [("down", 1, 1)] == await scene.tick(9 * MINUTE)


async def test_lowered_level_is_heard_again(scene: Scene) -> None:
    """The runbook's drain by SQL begins an episode one level lower, whose page has a new dedup key."""
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
    """A host that lowers the level by SQL cancels the waiting page in its own transaction."""
    insert(scene, "k", age=timedelta(hours=1))
    await scene.engine.tick(deliver=False)
    scene.sql("UPDATE incidents SET escalation_level = 0")
    assert [] == await scene.tick()
    pages = (await scene.engine.history("k")).pages
    assert [(PageState.CANCELLED, "drained")] == [(page.state, page.reason) for page in pages]


async def test_opened_again_row_begins_a_new_episode(scene: Scene) -> None:
    """If a host sets ``resolved_at`` to NULL, a new episode begins at level 0, seen now, and not acknowledged."""
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
    """If the statement that opens a row again sets level, ``first_seen`` or severity, the row keeps these values."""
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
    """A delete cancels the row's waiting page; the same key, inserted again, pages in a new episode."""
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
    """The next tick plans a row that an upsert inserts or changes in severity, and ignores a new summary."""
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
    """A snooze by SQL delays the next level; the engine takes a ``last_escalated_at`` in the future as now."""
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
    """If one statement inserts 2,000 rows, a tick pages the due half, each row once, and plans the rest."""
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
    """A bulk acknowledgement and a bulk drain apply row by row: only rows without acknowledgement page again."""
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
    """Ticks, verbs, a recalculation and the deferral of unreadable rows do not count as a host's writes."""
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


# --- the database's own settings


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Pacific/Kiritimati"])
async def test_the_databases_time_zone_changes_nothing(migrated_dsn: str, zone: str) -> None:
    """The sessions' time zone, date style and interval style change no instant, readable or unreadable."""
    name = conninfo_to_dict(migrated_dsn)["dbname"]
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        for setting in (f"timezone TO '{zone}'", "datestyle TO 'SQL, DMY'", "intervalstyle TO 'sql_standard'"):
            connection.execute(f'ALTER DATABASE "{name}" SET {setting}'.encode())
    scene = await scene_of(migrated_dsn)
    scene.dsn = make_conninfo(migrated_dsn, options="-c datestyle=ISO")  # the driver itself reads no other date style
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
    """A store without a clock of its own takes the database's instant, in UTC."""
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
    """With rights on incidents alone, a host's role inserts, drains and deletes; the engine sees each write."""
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
