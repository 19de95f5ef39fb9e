"""Tests of attach and detach within the host's transaction, by a call or by printed SQL.

Both forms have the same result as an attach or a detach with its own connections.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import psycopg
import pytest

from escalation_adapters.blocking_verbs import finish
from escalation_adapters.postgres import CannotAttach, ExistingIncidents, PostgresStore, StatusMapping, migrate
from escalation_adapters.postgres.existing import Existing
from escalation_core import Engine, EscalationError, InvalidValue, StoreNotReady, StoreRefused, StoreUnavailable
from escalation_core.testing import RecordingNotifier

from .host_tables import ALERTS, dump, execute
from .migrations import select
from .test_verbs_in_host_transaction import psycopg_async, psycopg_sync

pytestmark = pytest.mark.direct("the host's own connection does not go through the pooler")
STATUS = StatusMapping(column="status", open=["triggered"], acknowledged=["acked"], resolved=["closed", "canceled"])
COLUMNS = {"incident_key": "id", "severity": "priority", "first_seen": "created_at:read", "acknowledged_by": "assignee"}
HOW: dict[str, Any] = {"table": "alerts", "columns": COLUMNS, "status": STATUS}
OURS = """
    SELECT name, CASE WHEN name = 'incidents' THEN value - 'revision' WHEN starts_with(name, 'status word') THEN NULL
        ELSE value END
    FROM escalation_meta
    UNION ALL SELECT name, to_jsonb(checksum) FROM escalation_migrations
    UNION ALL SELECT 'held', to_jsonb(
        CASE WHEN held_before > now() - interval '1 minute' THEN 'now' ELSE held_before::text END)
    FROM escalation_recalc ORDER BY 1
"""
"""All that an attach records. The revision is a random number, and a word of the status has the instant it was met."""
WORKERS_ARE_GONE = "DELETE FROM escalation_workers"


def attach_by_call(dsn: str, existing: Existing = "page") -> None:
    with psycopg_sync(dsn) as (connection, _):
        finish(migrate.attach_within(connection, existing=existing, **HOW))


def attach_by_sql(dsn: str, existing: Existing = "page") -> None:
    execute(dsn, migrate.print_sql(existing=existing, types={"status": "public.alert_status"}, **HOW))


def detach_by_call(dsn: str) -> None:
    with psycopg_sync(dsn) as (connection, _):
        finish(migrate.detach_within(connection, drop_tables=True))


def detach_by_sql(dsn: str) -> None:
    execute(dsn, migrate.print_detach_sql(drop_tables=True, **HOW))


def engine_tables(dsn: str) -> list[Any]:
    return select(
        dsn, "SELECT relname FROM pg_class WHERE starts_with(relname, 'escalation') AND relkind = 'r' ORDER BY 1"
    )


@pytest.mark.parametrize("attach", [attach_by_call, attach_by_sql])
@pytest.mark.parametrize("detach", [detach_by_call, detach_by_sql])
async def test_attach_and_detach_leave_nothing(
    pg_dsn: str, attach: Callable[[str], None], detach: Callable[[str], None]
) -> None:
    """After attach and detach the host's table is as before, and no engine table is left. A second round works too."""
    execute(pg_dsn, ALERTS)
    before = dump(pg_dsn)
    for _ in range(2):
        attach(pg_dsn)
        assert [] == list(await migrate.check(pg_dsn))
        async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
            assert 1250 == (await engine.tick(deliver=False)).escalated
        execute(pg_dsn, WORKERS_ARE_GONE)
        detach(pg_dsn)
        assert before == dump(pg_dsn)
        assert [] == engine_tables(pg_dsn)


@pytest.mark.parametrize("existing", ["page", "skip", datetime(2025, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("by_sql", [True, False])
async def test_result_is_that_of_attach(pg_dsn: str, existing: Any, by_sql: bool) -> None:
    """Both forms give the same table, triggers, indexes and records as an attach with its own connections."""
    execute(pg_dsn, f"{ALERTS}; UPDATE alerts SET status = 'odd' WHERE note = 'alert 7'")
    before = dump(pg_dsn)
    await migrate.attach(pg_dsn, existing=existing, **HOW)
    wanted = dump(pg_dsn), select(pg_dsn, OURS)
    await migrate.detach(pg_dsn, drop_tables=True)
    assert before == dump(pg_dsn)
    (attach_by_sql if by_sql else attach_by_call)(pg_dsn, existing)
    assert wanted == (dump(pg_dsn), select(pg_dsn, OURS))


async def test_later_writes_of_the_same_transaction_run_the_triggers(pg_dsn: str) -> None:
    """A migration may insert rows after the printed attach: the triggers set them to be planned."""
    execute(pg_dsn, ALERTS)
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(migrate.print_sql(existing="skip", types={"status": "public.alert_status"}, **HOW).encode())
        connection.execute("INSERT INTO alerts (note, priority) VALUES ('late', 'critical')")
        late = "SELECT next_due_at IS NOT NULL FROM alerts WHERE note = 'late'"
        assert (True,) == connection.execute(late).fetchone()


@pytest.mark.parametrize("by_sql", [True, False])
async def test_detach_knows_the_tick_interval(pg_dsn: str, by_sql: bool) -> None:
    """A worker that ticks every ten minutes may run although its last tick was five minutes ago."""
    execute(pg_dsn, ALERTS)
    attach_by_call(pg_dsn)
    execute(
        pg_dsn,
        "INSERT INTO escalation_workers (worker, ticked_at, version) VALUES ('w', now() - interval '5 minutes', '1')",
    )
    interval = timedelta(minutes=10)
    if by_sql:
        with pytest.raises(psycopg.errors.RaiseException, match="a worker completed a tick in the last 1200 s"):
            execute(pg_dsn, migrate.print_detach_sql(tick_interval=interval, **HOW))
    else:
        async with psycopg_async(pg_dsn) as (connection, _):
            with pytest.raises(StoreRefused, match="run the command again after 1200 s"):
                await migrate.detach_within(connection, tick_interval=interval)
    detach_by_sql(pg_dsn) if by_sql else detach_by_call(pg_dsn)
    assert [] == engine_tables(pg_dsn)


async def test_interrupted_index_and_refused_row_within_a_transaction(pg_dsn: str) -> None:
    """An index that an earlier build left invalid is built anew, and a row that the host refuses stops nothing."""
    execute(pg_dsn, ALERTS)
    attach_by_call(pg_dsn)
    execute(pg_dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'escalation_due'::regclass")
    execute(pg_dsn, "UPDATE alerts SET next_due_at = NULL")
    execute(pg_dsn, "ALTER TABLE alerts ADD CONSTRAINT refuse CHECK (next_due_at IS NULL) NOT VALID")
    with psycopg_sync(pg_dsn) as (connection, _):
        finish(migrate.detach_within(connection))
        connection.execute("ALTER TABLE alerts ADD COLUMN next_due_at timestamptz")
        connection.execute("ALTER TABLE alerts ADD CONSTRAINT refuse CHECK (next_due_at IS NULL)")
        finish(migrate.attach_within(connection, existing="page", **HOW))
    assert [] == list(await migrate.check(pg_dsn))


@pytest.mark.parametrize("attach", [attach_by_call, attach_by_sql])
async def test_values_come_back_with_the_next_attach(pg_dsn: str, attach: Callable[[str], None]) -> None:
    """A detach that keeps the engine's tables keeps the engine's values; each form of attach restores the values."""
    execute(pg_dsn, ALERTS)
    attach(pg_dsn)
    values = "SELECT id, escalation_level, episode, last_escalated_at FROM alerts ORDER BY id"
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick(deliver=False)
    held = select(pg_dsn, values)
    execute(pg_dsn, WORKERS_ARE_GONE)
    with psycopg_sync(pg_dsn) as (connection, _):
        finish(migrate.detach_within(connection))
    attach(pg_dsn)
    assert held == select(pg_dsn, values)


async def test_rollback_undoes_an_attach(pg_dsn: str) -> None:
    """After the host rolls back on an asynchronous connection, its table is as before, and no engine table is left."""
    execute(pg_dsn, ALERTS)
    before = dump(pg_dsn)
    async with psycopg_async(pg_dsn) as (connection, host):
        await host("CREATE TABLE of_this_revision (id int)")
        assert "attached to public.alerts" in await migrate.attach_within(connection, existing="skip", **HOW)
        await connection.rollback()
    assert before == dump(pg_dsn)
    assert [] == engine_tables(pg_dsn)


async def test_settings_of_the_host_come_back_after_an_attach(pg_dsn: str) -> None:
    """After an attach, the host's next write in the transaction runs the triggers, with the host's own timeouts."""
    execute(pg_dsn, ALERTS)
    async with psycopg_async(pg_dsn) as (connection, host):
        await migrate.attach_within(connection, existing="skip", **HOW)
        await host("UPDATE alerts SET status = 'acked' WHERE note = 'alert 4'")
        found = await host("SELECT current_setting('lock_timeout'), count(*) FROM escalation_audit")
        assert [("0", 1)] == await found.fetchall()
        await connection.commit()


@pytest.mark.parametrize(
    ("how", "error", "told"),
    [
        ({"table": "nothing", "existing": "page"}, CannotAttach, "there is no such table"),
        ({"columns": {**COLUMNS, "summary": "wrong"}, "existing": "page"}, CannotAttach, "no column 'wrong'"),
        ({}, ExistingIncidents, "choose which of them the engine plans"),
        (
            {"existing": "page", "status": StatusMapping(column="status", open=["triggered"], resolved=["over"])},
            CannotAttach,
            "the status word 'over' is not a valid",
        ),
    ],
)
async def test_refused_attach_leaves_the_transaction_usable(
    pg_dsn: str, how: dict[str, Any], error: type[EscalationError], told: str
) -> None:
    """A refusal undoes only the attach: the host's transaction continues, and commits the host's own statements."""
    execute(pg_dsn, ALERTS)
    async with psycopg_async(pg_dsn) as (connection, host):
        await host("CREATE TABLE of_this_revision (id int)")
        with pytest.raises(error, match=told):
            await migrate.attach_within(connection, **HOW | how)
        await connection.commit()
    assert [] == engine_tables(pg_dsn)
    assert [] == select(pg_dsn, "SELECT id FROM of_this_revision")


async def test_attached_schema_is_not_detached_while_a_worker_runs(pg_dsn: str) -> None:
    """Both forms of detach refuse the schema if a worker completed a tick recently, and change nothing."""
    execute(pg_dsn, ALERTS)
    attach_by_call(pg_dsn)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick(deliver=False)
    with pytest.raises(StoreRefused, match=r"completed a tick .* ago; stop the workers"):
        detach_by_call(pg_dsn)
    with pytest.raises(psycopg.errors.RaiseException, match="a worker completed a tick in the last 120 s"):
        detach_by_sql(pg_dsn)
    assert [] == list(await migrate.check(pg_dsn))


async def test_printed_sql_refuses_a_second_run(pg_dsn: str) -> None:
    """The printed SQL of an attach fails on a schema that is attached already, and changes nothing."""
    execute(pg_dsn, ALERTS)
    attach_by_sql(pg_dsn)
    before = dump(pg_dsn), select(pg_dsn, OURS)
    with pytest.raises(psycopg.Error):
        attach_by_sql(pg_dsn)
    assert before == (dump(pg_dsn), select(pg_dsn, OURS))


async def test_printed_sql_refuses_another_version(pg_dsn: str) -> None:
    """The printed SQL of an attach refuses a schema that another release has migrated, and the error says so."""
    execute(pg_dsn, ALERTS)
    attach_by_call(pg_dsn)
    with psycopg_sync(pg_dsn) as (connection, _):
        finish(migrate.detach_within(connection))
    execute(pg_dsn, "UPDATE escalation_migrations SET version = 99 WHERE version = 2")
    with pytest.raises(psycopg.errors.RaiseException, match="the schema is at another version"):
        attach_by_sql(pg_dsn)


def test_printed_sql_needs_a_choice() -> None:
    """Without a choice for open incidents ``print_sql`` prints nothing: the operator must ask for a flood of pages."""
    with pytest.raises(InvalidValue, match="existing: is missing; choose page or skip, or create"):
        migrate.print_sql()


def test_printed_sql_needs_types_with_their_schema() -> None:
    """``print_sql`` refuses a host's type without a schema, since the triggers have a search path of their own."""
    with pytest.raises(InvalidValue, match=r"types: 'alert_status', the type of status, names no schema; write schema"):
        migrate.print_sql(existing="page", types={"status": "alert_status"}, **HOW)


async def test_sound_indexes_are_not_built_again(pg_dsn: str) -> None:
    """A second attach with the same mapping builds no index again.

    An attach with other status words rebuilds ``escalation_unseen``, and not ``escalation_due``.
    """
    execute(pg_dsn, ALERTS)
    attach_by_call(pg_dsn)
    files = (
        "SELECT relname, relfilenode FROM pg_class WHERE relname IN ('escalation_due', 'escalation_unseen') ORDER BY 1"
    )
    before = select(pg_dsn, files)
    attach_by_call(pg_dsn)
    assert before == select(pg_dsn, files)
    words = attrs.evolve(STATUS, acknowledged=["acked", "odd"])
    await migrate.attach(pg_dsn, status=words, existing="page")
    after = select(pg_dsn, files)
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert [] == list(await migrate.check(pg_dsn))


@pytest.mark.parametrize("by_sql", [True, False])
async def test_created_table_stays(pg_dsn: str, by_sql: bool) -> None:
    """A table that attach created has all columns, and stays when a detach drops the engine's own tables."""
    if by_sql:
        execute(pg_dsn, migrate.print_sql(create=True, schema="ops"))
    else:
        with psycopg_sync(pg_dsn) as (connection, _):
            finish(migrate.attach_within(connection, create=True, schema="ops"))
    async with Engine(await PostgresStore.connect(pg_dsn, schema="ops")) as engine:
        await engine.open("k", summary="kept")
    if by_sql:
        execute(pg_dsn, migrate.print_detach_sql(create=True, drop_tables=True, schema="ops"))
    else:
        await migrate.detach(pg_dsn, drop_tables=True, schema="ops")
    assert [] == engine_tables(pg_dsn)
    assert ["kept"] == select(pg_dsn, "SELECT summary FROM ops.incidents")


@pytest.mark.parametrize("attach", [attach_by_call, attach_by_sql])
@pytest.mark.parametrize("detach", [detach_by_call, detach_by_sql])
async def test_events_of_the_worker_before_are_never_dropped(
    pg_dsn: str, attach: Callable[[str], None], detach: Callable[[str], None]
) -> None:
    """A detach never drops an ``escalation_events`` table from before the first migration: the host's rows stay."""
    execute(
        pg_dsn,
        f"{ALERTS}; CREATE TABLE escalation_events (id bigserial PRIMARY KEY, incident_key text NOT NULL,"
        " level int NOT NULL, unique_hash text NOT NULL UNIQUE, created_at timestamptz NOT NULL DEFAULT now());"
        " INSERT INTO escalation_events (incident_key, level, unique_hash) VALUES ('old', 1, 'hash')",
    )
    attach(pg_dsn)
    detach(pg_dsn)
    assert ["escalation_events"] == engine_tables(pg_dsn)
    assert ["hash"] == select(pg_dsn, "SELECT unique_hash FROM escalation_events")


async def test_another_migration_is_not_waited_for(pg_dsn: str) -> None:
    """If two transactions attach at once, the second attach fails, since it could wait for ever for the first."""
    execute(pg_dsn, ALERTS)
    async with psycopg_async(pg_dsn) as (first, _), psycopg_async(pg_dsn) as (second, host):
        await migrate.attach_within(first, existing="page", **HOW)
        with pytest.raises(StoreUnavailable, match="another process migrates the schema 'public' at this moment"):
            await migrate.attach_within(second, existing="page", **HOW)
        await host("SELECT 1")
        await first.commit()
    assert [] == list(await migrate.check(pg_dsn))


async def test_locked_table_is_not_waited_for_long(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another transaction locks the table, the attach fails after one try, and the host's transaction continues."""
    monkeypatch.setattr("escalation_adapters.postgres.applying.LOCK_TIMEOUT", "50ms")
    execute(pg_dsn, ALERTS)
    async with psycopg_async(pg_dsn) as (reader, lock), psycopg_async(pg_dsn) as (connection, host):
        await lock("SELECT FROM alerts LIMIT 1")
        with pytest.raises(StoreUnavailable, match="others held the lock of the incidents table"):
            await migrate.attach_within(connection, existing="page", **HOW)
        await host("SELECT 1")
        await reader.rollback()


async def test_detach_without_an_attach_is_refused(pg_dsn: str) -> None:
    """A detach of a schema that is not attached fails and names the command; the transaction stays usable."""
    async with psycopg_async(pg_dsn) as (connection, host):
        with pytest.raises(StoreNotReady, match="is not attached to a table; run: escalation migrate attach"):
            await migrate.detach_within(connection)
        await host("SELECT 1")
