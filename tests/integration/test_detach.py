"""Tests of attach, change, drift, repair, detach and a new attach: a detach leaves the host's table as it was."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from escalation_adapters.postgres import CannotAttach, ExistingIncidents, PostgresStore, StatusMapping, migrate
from escalation_core import Engine, InvalidValue, Retry, SettingsRouter, StoreNotReady, StoreRefused
from escalation_core.testing import RecordingNotifier, TellingNotifier

from .host_tables import ALERTS, dump, execute
from .migrations import select

STATUS = StatusMapping(column="status", open=["triggered"], acknowledged=["acked"], resolved=["closed", "canceled"])
COLUMNS = {"incident_key": "id", "severity": "priority", "first_seen": "created_at:read", "acknowledged_by": "assignee"}


async def attach(dsn: str, existing: str = "page") -> None:
    await migrate.attach(dsn, table="alerts", columns=COLUMNS, status=STATUS, existing=existing)  # type: ignore[arg-type]


async def tick(dsn: str) -> int:
    """Let a worker tick; return how many incidents it escalated."""
    async with Engine(await PostgresStore.connect(dsn), notifiers=[RecordingNotifier()], worker="w") as engine:
        return (await engine.tick()).escalated


async def test_table_ends_as_it_was(pg_dsn: str) -> None:
    """After two attaches, drift, a repair and a detach, a table of 5,000 rows has the same dump as before."""
    execute(pg_dsn, ALERTS)
    before = dump(pg_dsn)
    await attach(pg_dsn)
    assert dump(pg_dsn) != before
    assert 1250 == await tick(pg_dsn)
    await migrate.attach(pg_dsn, columns={"summary": "note:read"}, existing="page")
    execute(pg_dsn, "ALTER TABLE alerts DISABLE TRIGGER zz_escalation_host_update; DROP INDEX escalation_due")
    assert 2 == len(await migrate.check(pg_dsn))
    assert ["repaired public.alerts"] == list(await migrate.up(pg_dsn))
    assert [] == list(await migrate.check(pg_dsn))
    execute(pg_dsn, "DELETE FROM escalation_workers")
    await migrate.detach(pg_dsn)
    assert before == dump(pg_dsn)


async def test_attach_after_a_detach_goes_on_where_it_stopped(pg_dsn: str) -> None:
    """A new attach restores levels, episodes and instants, so that the engine pages no level again."""
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn)
    await tick(pg_dsn)
    execute(pg_dsn, "UPDATE alerts SET status = 'closed' WHERE note = 'alert 4'")
    execute(pg_dsn, "UPDATE alerts SET status = 'triggered' WHERE note = 'alert 4'")
    names = "escalation_level, episode, last_escalated_at, acknowledged_at, resolved_at, first_seen"
    values = f"SELECT id, {names} FROM alerts ORDER BY id"
    held = select(pg_dsn, values)
    execute(pg_dsn, "DELETE FROM escalation_workers")
    removed = await migrate.detach(pg_dsn)
    assert "escalation_level" in removed.columns
    with pytest.raises(StoreNotReady, match="is not attached to a table; run: escalation migrate attach"):
        await PostgresStore.connect(pg_dsn)
    await attach(pg_dsn, "skip")
    assert held == select(pg_dsn, values)
    assert [(0,)] == [(count,) for count in select(pg_dsn, "SELECT count(*) FROM escalation_detached")]
    await attach(pg_dsn, "page")
    assert 0 == await tick(pg_dsn)


async def test_detach_cancels_pages_and_says_what_it_removes(pg_dsn: str) -> None:
    """``plan_detach`` names triggers, indexes, columns and pages as ``detach`` does, but changes nothing.

    ``detach`` cancels the pending pages.
    """
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick(deliver=False)
    attached = dump(pg_dsn)
    execute(pg_dsn, "DELETE FROM escalation_workers")
    planned = await migrate.plan_detach(pg_dsn)
    assert attached == dump(pg_dsn)
    assert 1250 == planned.pages
    assert len(planned.triggers) == 3
    assert planned == await migrate.detach(pg_dsn)
    assert [("cancelled", "detached", 1250)] == select(
        pg_dsn, "SELECT state, reason, count(*) FROM escalation_pages GROUP BY 1, 2"
    )


async def test_another_table_gets_no_notices_of_the_old_one(pg_dsn: str) -> None:
    """Its keys may have another type, in which those of the old table cannot be read."""
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn)
    notifier = TellingNotifier("ops", answer_notice=lambda notice: Retry("down"))

    async def engine() -> Engine:
        router = SettingsRouter(default_target="ops")
        return Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier], router=router)

    async with await engine() as first:
        await first.tick()
        paged = [page.incident_key for page in notifier.pages]
        await first.acknowledge(paged[0])
        await first.tick()
        await first.acknowledge(paged[1])
    assert 1 == len(notifier.notices)
    execute(pg_dsn, "DELETE FROM escalation_workers")
    await migrate.detach(pg_dsn)
    assert [("expired", "detached")] == select(pg_dsn, "SELECT state, reason FROM escalation_notices")
    assert [0] == select(pg_dsn, "SELECT count(*) FROM escalation_changes")
    execute(pg_dsn, "CREATE TABLE faults (id bigint PRIMARY KEY, at timestamptz DEFAULT now() - interval '1 h')")
    await migrate.attach(pg_dsn, table="faults", columns={"incident_key": "id", "first_seen": "at:read"})
    execute(pg_dsn, "INSERT INTO faults VALUES (7)")
    async with await engine() as second:
        await second.tick()
    assert "7" == notifier.pages[-1].incident_key
    assert 1 == len(notifier.notices)


async def test_detach_waits_for_workers_to_stop(pg_dsn: str) -> None:
    """``detach`` refuses to run while a worker ticks; the error names the worker, and the table does not change."""
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn)
    await tick(pg_dsn)
    attached = dump(pg_dsn)
    with pytest.raises(StoreRefused, match=r"worker 'w' completed a tick \d+ s ago; stop the workers"):
        await migrate.detach(pg_dsn)
    assert attached == dump(pg_dsn)
    await migrate.detach(pg_dsn, tick_interval=timedelta())
    with pytest.raises(StoreNotReady, match="is not attached"):
        await migrate.detach(pg_dsn)


async def test_detach_that_an_object_of_the_host_prevents_changes_nothing(pg_dsn: str) -> None:
    """If a host's view uses a column that attach added, the whole detach fails, and the table does not change."""
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn)
    execute(pg_dsn, "CREATE VIEW levels AS SELECT escalation_level FROM alerts")
    attached = dump(pg_dsn)
    with pytest.raises(StoreRefused, match="other objects depend on it"):
        await migrate.detach(pg_dsn)
    assert attached == dump(pg_dsn)


async def test_a_table_that_attach_created_stays(pg_dsn: str) -> None:
    """A detach keeps the columns and rows of a table that attach created; a new attach takes the table."""
    await migrate.attach(pg_dsn, create=True)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k", severity="critical")
    columns = dump(pg_dsn, "incidents")["columns"]
    removed = await migrate.detach(pg_dsn)
    assert removed.created
    assert () == tuple(removed.columns)
    left = dump(pg_dsn, "incidents")
    assert columns == left["columns"]
    assert [] == left["triggers"]
    await migrate.attach(pg_dsn, existing="page")
    assert 1 == len(left["rows"])


async def test_a_table_is_created_only_if_asked_for(pg_dsn: str) -> None:
    """``up`` and ``attach`` create no table for a mistyped name; the error names ``--table`` and ``--create``."""
    for command in (migrate.up, migrate.attach):
        with pytest.raises(CannotAttach, match="no such table; name yours: --table NAME, or create it: --create"):
            await command(pg_dsn, table="incidnts")
    assert [0] == select(pg_dsn, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")


async def test_another_table_wants_a_detach_first(pg_dsn: str) -> None:
    """A schema has one table: the error for another table, or for other columns, names the command to run."""
    execute(pg_dsn, ALERTS + "CREATE TABLE others (LIKE alerts INCLUDING ALL);")
    await attach(pg_dsn)
    with pytest.raises(StoreRefused, match="first run: escalation migrate detach"):
        await migrate.attach(pg_dsn, table="others")
    with pytest.raises(StoreRefused, match="run escalation migrate attach"):
        await migrate.up(pg_dsn, columns={"summary": "note"})


async def test_running_worker_follows_a_renamed_column(pg_dsn: str) -> None:
    """If a host renames mapped columns, its writes succeed and ``check`` names the command to run.

    A running engine uses the new names after that attach.
    """
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick()
        execute(pg_dsn, "ALTER TABLE alerts RENAME assignee TO owner; ALTER TABLE alerts RENAME priority TO urgency")
        execute(pg_dsn, "INSERT INTO alerts (urgency, created_at) VALUES ('critical', now() - interval '2 hours')")
        found = await migrate.check(pg_dsn)
        assert 2 == len(found)
        for fault, option in zip(found, ("--column severity=NEW", "--column acknowledged_by=NEW"), strict=True):
            assert f"if it was renamed, run: escalation migrate attach {option}" in fault
        with pytest.raises(StoreNotReady, match="run: escalation migrate status"):
            await engine.history(select(pg_dsn, "SELECT id::text FROM alerts LIMIT 1")[0])
        await migrate.attach(pg_dsn, columns={"severity": "urgency", "acknowledged_by": "owner"}, existing="page")
        assert [] == list(await migrate.check(pg_dsn))
        await engine.recalc(by="host")
        assert 1 == (await engine.tick()).escalated


async def test_attach_again_asks_before_it_pages(pg_dsn: str) -> None:
    """A later attach by which incidents are due now needs a choice for them, as the first attach does.

    The choice is page or skip; only page requests a recalculation.
    """
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn, "skip")
    attached = dump(pg_dsn)
    with pytest.raises(ExistingIncidents, match="1250 of them would page now"):
        await migrate.attach(pg_dsn, columns={"summary": "note:read"})
    assert attached == dump(pg_dsn)
    with pytest.raises(InvalidValue, match="is an instant, and the table is attached already; choose page or skip"):
        await migrate.attach(pg_dsn, columns={"summary": "note:read"}, existing=datetime.now(UTC))
    requested = "SELECT requested_at IS NOT NULL FROM escalation_recalc"
    await migrate.attach(pg_dsn, columns={"summary": "note:read"}, existing="skip")
    assert [False] == select(pg_dsn, requested)
    await migrate.attach(pg_dsn, existing="page")
    assert [True] == select(pg_dsn, requested)


async def test_type_of_a_mapped_column_can_change(pg_dsn: str) -> None:
    """A host can change a mapped column's type; ``check`` names the change, and a new attach takes the new type."""
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn)
    execute(pg_dsn, "CREATE TYPE level AS ENUM ('critical', 'warning')")
    execute(pg_dsn, "ALTER TABLE alerts ALTER COLUMN priority TYPE level USING priority::level")
    assert [
        "column 'priority' of public.alerts was text and is public.level now; run: escalation migrate attach"
    ] == list(await migrate.check(pg_dsn))
    await migrate.attach(pg_dsn, existing="page")
    assert [] == list(await migrate.check(pg_dsn))
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        key = select(pg_dsn, "SELECT id::text FROM alerts WHERE note = 'alert 4'")[0]
        await engine.change_severity(key, "warning", by="host")
    assert ["warning"] == select(pg_dsn, "SELECT priority::text FROM alerts WHERE note = 'alert 4'")


LIKE = "CREATE TABLE seen (LIKE alerts INCLUDING ALL);"
BAD: Mapping[str, tuple[str, dict[str, str], str]] = {
    "view": ("CREATE VIEW seen AS SELECT * FROM alerts", {}, "it is a view; name a plain table"),
    "partitioned": ("CREATE TABLE seen (LIKE alerts) PARTITION BY LIST (status)", {}, "it is a partitioned table"),
    "partition": (
        """
        CREATE TABLE whole (LIKE alerts) PARTITION BY LIST (status);
        CREATE TABLE seen PARTITION OF whole FOR VALUES IN ('odd');
        """,
        {},
        "it is a partition of another table",
    ),
    "generated": (
        LIKE + "ALTER TABLE seen ADD g text GENERATED ALWAYS AS (note) STORED",
        {"summary": "g"},
        "column 'g' is generated",
    ),
    "composite": (
        "CREATE TYPE pair AS (a int, b int);" + LIKE + "ALTER TABLE seen ADD p pair",
        {"severity": "p"},
        r"column 'p' is composite \(public.pair\)",
    ),
    "domain": (
        "CREATE DOMAIN at AS timestamptz CHECK (VALUE > '2000-01-01');" + LIKE + "ALTER TABLE seen ADD d at",
        {"first_seen": "d"},
        "column 'd' is public.at; it must be timestamp with time zone",
    ),
    "missing": (LIKE, {"first_seen": "opened"}, "it has no column 'opened'"),
    "missing and no default name": (LIKE, {"level": "tier"}, "it has no column 'tier', which level is mapped to"),
    "missing to read": (LIKE, {"first_seen": "opened:read"}, "it has no column 'opened' to read"),
}


@pytest.mark.parametrize("bad", list(BAD))
async def test_bad_mapping_is_refused_and_changes_nothing(pg_dsn: str, bad: str) -> None:
    """``attach`` refuses each bad mapping with its own message, and creates no table of the engine."""
    made, columns, fault = BAD[bad]
    execute(pg_dsn, ALERTS + made)
    mapping = {"incident_key": "id", "first_seen": "created_at", **columns}
    with pytest.raises(CannotAttach, match=fault):
        await migrate.attach(pg_dsn, table="seen", columns=mapping)
    assert [0] == select(pg_dsn, "SELECT count(*) FROM pg_class WHERE starts_with(relname, 'escalation')")


@pytest.mark.parametrize("reads", ["created_at", "created_at:read"])
async def test_opening_again_writes_created_at_only_if_it_is_mapped_to_be_written(pg_dsn: str, reads: str) -> None:
    """If ``first_seen`` is mapped read-only, the engine keeps its own instant and never writes the host's column."""
    execute(pg_dsn, ALERTS)
    await migrate.attach(pg_dsn, table="alerts", columns={"incident_key": "id", "first_seen": reads}, existing="skip")
    ids = "SELECT id::text, created_at FROM alerts WHERE note = 'alert 4'"
    [(key, created)] = select(pg_dsn, ids)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        loaded = (await engine.history(key)).incident
        assert loaded is not None
        assert loaded.first_seen == created
        await engine.resolve(key, by="host")
        again = await engine.open(key, severity="critical")
        assert again.first_seen > created
    execute(pg_dsn, "UPDATE alerts SET resolved_at = now() WHERE note = 'alert 4'")
    execute(pg_dsn, "UPDATE alerts SET resolved_at = NULL WHERE note = 'alert 4'")
    assert (created == select(pg_dsn, ids)[0][1]) == reads.endswith(":read")


async def test_assignee_is_never_cleared_as_a_side_effect(pg_dsn: str) -> None:
    """The host's ``acknowledged_by`` column keeps its value through changes of severity, snoozes and drains."""
    execute(pg_dsn, ALERTS)
    await migrate.attach(pg_dsn, table="alerts", columns=COLUMNS, existing="page")
    [(key, before)] = select(pg_dsn, "SELECT id::text, assignee FROM alerts WHERE note = 'alert 4'")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick()
        await engine.change_severity(key, "warning", by="host")
        await engine.drain(key, by="host")
    execute(pg_dsn, "UPDATE alerts SET priority = 'critical', snoozed_until = now() WHERE note = 'alert 4'")
    execute(pg_dsn, "UPDATE alerts SET acknowledged_at = now() WHERE note = 'alert 4'")
    execute(pg_dsn, "UPDATE alerts SET acknowledged_at = NULL WHERE note = 'alert 4'")
    assert [before] == select(pg_dsn, "SELECT assignee FROM alerts WHERE note = 'alert 4'")
