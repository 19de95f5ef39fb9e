"""Tests of ``migrate up`` on a table of an earlier version, and of the columns of a walk on hosts' tables."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, LiteralString

import attrs
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from escalation_adapters.postgres import CannotAttach, PostgresStore, StatusMapping, applying, migrate
from escalation_core import Engine, InvalidValue, StoreNotReady, StoreUnavailable
from escalation_core.model import By, Canary, Incident, OpenRows
from escalation_core.ports import Transaction, Walks, walks_of
from escalation_core.testing import RecordingNotifier

from .host_tables import ALERTS, dump, execute
from .migrations import MIGRATIONS, select, until

WALK = ("policy", "policy_pin", "policy_level", "policy_since")
STATUS = StatusMapping(column="status", open=["triggered"], acknowledged=["acked"], resolved=["closed", "canceled"])
COLUMNS = {"incident_key": "id", "severity": "priority", "first_seen": "created_at"}
LARGE: LiteralString = """
CREATE TABLE tickets (id bigint PRIMARY KEY, priority text, created_at timestamptz NOT NULL, note text NOT NULL);
INSERT INTO tickets SELECT n, 'warning', now() - interval '1 hour', 'ticket ' || n FROM generate_series(1, 100000) AS n;
"""


def downgrade(dsn: str, table: str) -> None:
    """Undo what this version added, so that the schema is as the version before left it."""
    execute(
        dsn,
        f"""
        ALTER TABLE {table} DROP COLUMN IF EXISTS policy, DROP COLUMN IF EXISTS policy_pin,
            DROP COLUMN IF EXISTS policy_level, DROP COLUMN IF EXISTS policy_since;
        ALTER TABLE escalation_events DROP COLUMN policy, DROP COLUMN position;
        ALTER TABLE escalation_workers DROP COLUMN policies;
        ALTER TABLE escalation_recalc DROP COLUMN reload_requested_at;
        DROP TABLE escalation_policies, escalation_overrides, escalation_changes, escalation_notices;
        ALTER TABLE escalation_events DROP COLUMN outcome;
        ALTER TABLE escalation_pages DROP COLUMN via, DROP COLUMN schedule_digest;
        DROP INDEX escalation_audit_walks;
        DELETE FROM escalation_migrations WHERE version > 2;
        UPDATE escalation_meta SET value = jsonb_set(jsonb_set(jsonb_set(value,
            '{{columns}}', (value->'columns') - ARRAY['policy', 'policy_pin', 'policy_level', 'policy_since']),
            '{{kinds}}', (value->'kinds') - ARRAY['policy', 'policy_pin', 'policy_level', 'policy_since', 'team']),
            '{{added}}', (value->'added') - ARRAY['policy', 'policy_pin', 'policy_level', 'policy_since'])
        WHERE name = 'incidents'
        """,
    )


async def attach(dsn: str, table: str, **given: Any) -> None:
    await migrate.attach(dsn, table=table, columns=COLUMNS, existing="page", **given)


async def test_columns_come_to_a_large_table_without_a_rewrite(pg_dsn: str) -> None:
    """``up`` adds four columns to 100,000 rows while a host writes: same file, same values, and workers go on."""
    execute(pg_dsn, LARGE)
    await attach(pg_dsn, "tickets")
    downgrade(pg_dsn, "tickets")
    file: LiteralString = "SELECT pg_relation_filenode('tickets')"
    content = (
        "md5(string_agg(concat_ws('|', id, priority, created_at, escalation_level, next_due_at), ',' ORDER BY id))"
    )
    rows: LiteralString = f"SELECT count(*), {content} FROM tickets"
    indexes: LiteralString = (
        "SELECT indexrelid::regclass::text, pg_relation_filenode(indexrelid) FROM pg_index"
        " WHERE indrelid = 'tickets'::regclass"
    )
    before = select(pg_dsn, file) + select(pg_dsn, rows), dict(select(pg_dsn, indexes))
    writes, done = 0, asyncio.Event()

    async def write() -> None:
        nonlocal writes
        async with await AsyncConnection.connect(pg_dsn, autocommit=True) as host:
            while not done.is_set():
                await host.execute(
                    "UPDATE tickets SET note = %s WHERE id = %s", [f"written {writes}", 1 + writes % 100]
                )
                writes += 1

    writer = asyncio.create_task(write())
    await until(lambda: _more_than(lambda: writes, 10))
    said = await migrate.up(pg_dsn)
    during = writes
    await until(lambda: _more_than(lambda: writes, during + 10))
    done.set()
    await writer
    assert [*MIGRATIONS[2:], "attached to public.tickets"] == list(said)
    assert before == (select(pg_dsn, file) + select(pg_dsn, rows), dict(select(pg_dsn, indexes)))
    columns = ", ".join(WALK)
    assert [0] == select(pg_dsn, f"SELECT count(*) FROM tickets WHERE num_nonnulls({columns}) > 0")
    assert [] == list(await migrate.check(pg_dsn))
    assert [] == list(await migrate.up(pg_dsn))
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()], batch_size=10) as engine:
        await engine.acknowledge("7", by="x")
        assert engine.store is not None
    execute(pg_dsn, "UPDATE tickets SET policy = 'ops' WHERE id = 8")
    assert [datetime(1970, 1, 1, tzinfo=UTC)] == select(pg_dsn, "SELECT next_due_at FROM tickets WHERE id = 8")


async def _more_than(count: Any, number: int) -> bool:
    return bool(count() > number)


async def test_until_then_nothing_runs(pg_dsn: str) -> None:
    """A store refuses the older schema, also one whose migration was interrupted, and names the command."""
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn, "alerts", status=STATUS)
    downgrade(pg_dsn, "alerts")
    with pytest.raises(StoreNotReady, match="is at version 2 and 9 is needed; run: escalation migrate up"):
        await PostgresStore.connect(pg_dsn)
    assert any("has no column 'policy' yet" in fault for fault in await migrate.check(pg_dsn))
    async with await AsyncConnection.connect(pg_dsn) as holder:
        await holder.execute("SELECT FROM alerts")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(applying, "LOCK_TIMEOUT", "10ms")
            patch.setattr(applying, "LOCK_TRIES", 1)
            with pytest.raises(StoreUnavailable, match="run the command again"):
                await migrate.up(pg_dsn)
    with pytest.raises(StoreNotReady, match=r"without the columns policy, .* run: escalation migrate up"):
        await PostgresStore.connect(pg_dsn)
    await migrate.up(pg_dsn)
    await (await PostgresStore.connect(pg_dsn)).aclose()


async def test_detach_after_it_leaves_the_table_as_it_was(pg_dsn: str) -> None:
    """A detach drops the columns that ``up`` added; their values come back with the next attach."""
    execute(pg_dsn, ALERTS)
    before = dump(pg_dsn)
    await attach(pg_dsn, "alerts", status=STATUS)
    downgrade(pg_dsn, "alerts")
    await migrate.up(pg_dsn)
    values = "SELECT id::text, policy, policy_pin, policy_level, policy_since FROM alerts WHERE policy_pin IS NOT NULL"
    execute(
        pg_dsn,
        "BEGIN; SET LOCAL escalation.engine = 'on';"
        " UPDATE alerts SET policy = 'ops', policy_pin = 'ops@1a@', policy_level = 2, policy_since = '2025-01-01Z'"
        " WHERE note IN ('alert 3', 'alert 4'); COMMIT",
    )
    held = sorted(select(pg_dsn, values))
    removed = await migrate.detach(pg_dsn)
    assert set(WALK) <= set(removed.columns)
    assert before == dump(pg_dsn)
    await attach(pg_dsn, "alerts", status=STATUS)
    assert 2 == len(held)
    assert held == sorted(select(pg_dsn, values))


async def test_a_column_of_the_host_is_the_policy(pg_dsn: str) -> None:
    """A host maps its own column; a column named ``policy`` of another type, or mapped already, is refused by name."""
    execute(pg_dsn, ALERTS)
    await attach(pg_dsn, "alerts", status=STATUS)
    downgrade(pg_dsn, "alerts")
    execute(pg_dsn, "ALTER TABLE alerts ADD COLUMN policy int")
    with pytest.raises(CannotAttach, match="column 'policy' is integer; it must be text"):
        await migrate.up(pg_dsn)
    execute(pg_dsn, "ALTER TABLE alerts ADD COLUMN team varchar(20)")
    await migrate.attach(pg_dsn, columns={"policy": "team"}, existing="skip")
    before = dump(pg_dsn)["columns"]
    assert ("policy_pin", "text", False, None, None) in before
    execute(pg_dsn, "UPDATE alerts SET team = 'ops' WHERE note = 'alert 4'")
    assert [1] == select(
        pg_dsn, "SELECT count(*) FROM escalation_audit WHERE action = 'change_policy' AND reason LIKE '%%: ops'"
    )
    removed = await migrate.detach(pg_dsn)
    assert {"policy_pin", "policy_level", "policy_since"} < set(removed.columns)
    assert {"policy", "team"}.isdisjoint(removed.columns)


async def test_a_name_that_is_taken_is_refused(pg_dsn: str) -> None:
    """A host that has mapped its column ``policy`` to something else must name another column for the policy."""
    execute(pg_dsn, "CREATE TABLE tickets (id int PRIMARY KEY, policy text, created_at timestamptz NOT NULL)")
    execute(pg_dsn, "ALTER TABLE tickets ADD COLUMN team text")
    columns = COLUMNS | {"severity": "policy", "policy": "team"}
    await migrate.attach(pg_dsn, table="tickets", columns=columns, existing="page")
    execute(pg_dsn, "ALTER TABLE tickets RENAME policy TO kept")
    downgrade(pg_dsn, "tickets")
    execute(pg_dsn, "ALTER TABLE tickets RENAME kept TO policy")
    with pytest.raises(InvalidValue, match="the column 'policy' is mapped twice; name another column for each"):
        await migrate.up(pg_dsn)
    await migrate.attach(pg_dsn, columns={"policy": "team"}, existing="skip")
    await (await PostgresStore.connect(pg_dsn)).aclose()


KINDS: dict[str, tuple[LiteralString, StatusMapping, LiteralString]] = {
    "text": ("text", STATUS, "'acked'"),
    "enum": ("state", STATUS, "'acked'"),
    "integer": ("int", StatusMapping(column="status", open=["1", "4"], acknowledged=["2"], resolved=["3"]), "2"),
    "without acknowledged": ("text", attrs.evolve(STATUS, acknowledged=[]), "'triggered'"),
}


@pytest.mark.parametrize("key", ["uuid", "bigint", "text"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_expiry_opens_the_row(pg_dsn: str, kind: str, key: str) -> None:
    """``move`` ends an acknowledgement of a row with a status, with any type of key; scans find acknowledged rows."""
    column, status, acked = KINDS[kind]
    ids = {"uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "bigint": "12", "text": "k"}
    execute(
        pg_dsn,
        "CREATE TYPE state AS ENUM ('triggered', 'acked', 'closed', 'canceled');"
        f"CREATE TABLE tickets (id {key} PRIMARY KEY, status {column}, created_at timestamptz NOT NULL, priority text,"
        " acknowledged_at timestamptz);",
    )
    await attach(pg_dsn, "tickets", status=status)
    execute(
        pg_dsn,
        f"INSERT INTO tickets (id, status, created_at, acknowledged_at) VALUES (%s, {acked}, now(), now())",
        ids[key],
    )
    word = select(pg_dsn, "SELECT status::text FROM tickets")
    assert [(datetime(1970, 1, 1, tzinfo=UTC), None)] == select(pg_dsn, "SELECT next_due_at, policy_pin FROM tickets")
    store = await PostgresStore.connect(pg_dsn)

    async def plan(tx: Transaction, **changes: Any) -> Incident:
        now = await tx.now()
        (row,) = await tx.incidents.claim(until=now, limit=9, canary=Canary())
        assert row.incident is not None
        assert row.incident.acknowledged_at is not None
        walks = _walks(tx)
        await walks.move([attrs.evolve(row.incident, next_due_at=now, **changes)])
        return row.incident

    first = await store.transact(lambda tx: plan(tx, policy_pin="ops@1a@", policy_level=0))
    assert word == select(pg_dsn, "SELECT status::text FROM tickets")
    again = await store.transact(lambda tx: plan(tx, acknowledged_at=None, acknowledged_by=None, episode=1))
    assert ("ops@1a@", first.acknowledged_at) == (again.policy_pin, again.acknowledged_at)
    names: LiteralString = "SELECT status::text, acknowledged_at, acknowledged_by, policy_pin FROM tickets"
    assert [(status.open[0], None, None, "ops@1a@")] == select(pg_dsn, names)
    for wait in (True, False):
        walked = await store.transact(partial(_scan, after=None, limit=1, wait=wait))
        assert [ids[key]] == [row.incident_key for row in walked.rows]
        assert ids[key] == walked.last
    pinned = await store.read(lambda tx: _walks(tx).pinned("ops", after=None, limit=9))
    assert [ids[key]] == [one.incident_key for one in pinned]
    await store.aclose()


async def test_infinite_beginnings_are_unreadable(migrated_dsn: str) -> None:
    """A row whose policy_since is infinite, or beyond the calendar, cannot be read; a row beside it is claimed."""
    execute(
        migrated_dsn,
        "BEGIN; SET LOCAL escalation.engine = 'on';"
        " INSERT INTO incidents (incident_key, first_seen, next_due_at, policy_since)"
        " VALUES ('a', now(), now(), 'infinity'), ('b', now(), now(), '-infinity'), ('c', now(), now(), '20000-01-01'),"
        " ('d', now(), now(), now()); COMMIT",
    )
    store = await PostgresStore.connect(migrated_dsn)
    rows = await store.transact(_claim)
    assert {"a": False, "b": False, "c": False, "d": True} == {
        row.incident_key: row.incident is not None for row in rows
    }
    assert all("policy_since" in (row.fault or "") for row in rows if row.incident is None)
    await store.aclose()


def _walks(tx: Transaction) -> Walks:
    found = walks_of(tx)
    assert found is not None
    return found


async def _scan(tx: Transaction, *, after: str | None, limit: int, wait: bool) -> OpenRows:
    return await tx.incidents.scan_unresolved(after, limit, wait=wait, labels=True)


async def _claim(tx: Transaction) -> Any:
    return await tx.incidents.claim(until=await tx.now() + timedelta(minutes=1), limit=9, canary=Canary())


async def test_long_labels_make_a_scan_smaller(migrated_dsn: str) -> None:
    """A scan with labels reads at most as many as a claim does, and says where it goes on; each row comes once."""
    execute(
        migrated_dsn,
        "INSERT INTO incidents (incident_key, labels)"
        " SELECT 'k' || lpad(n::text, 3, '0'), jsonb_build_object('a', repeat(md5(n::text), 1900))"
        " FROM generate_series(1, 200) AS n",
    )
    store = await PostgresStore.connect(migrated_dsn)
    for wait in (True, False):
        found: list[str] = []
        sizes: list[int] = []
        last: str | None = None
        while True:
            walked = await store.transact(partial(_scan, after=last, limit=100, wait=wait))
            assert not walked.skipped
            found += [row.incident_key for row in walked.rows]
            sizes.append(len(walked.rows))
            last = walked.last
            if last is None:
                break
        assert [f"k{n:03}" for n in range(1, 201)] == found
        assert 70 > max(sizes)
    await store.aclose()


async def test_new_tables_come_with_the_rights_that_a_worker_had(migrated_dsn: str) -> None:
    """A migration gives them for its new tables, so that an update of the library stops no worker."""
    name = f"worker_{secrets.token_hex(4)}"
    execute(migrated_dsn, f"CREATE ROLE {name}; GRANT SELECT, INSERT ON escalation_pages TO {name}")
    execute(migrated_dsn, "DROP TABLE escalation_changes, escalation_notices")
    execute(migrated_dsn, "DELETE FROM escalation_migrations WHERE name = '0009_notices'")
    await migrate.up(migrated_dsn)
    for table in ("escalation_changes", "escalation_notices"):
        rights = "has_table_privilege(%s, %s, 'INSERT'), has_table_privilege(%s, %s, 'DELETE')"
        assert [(True, False)] == select(migrated_dsn, f"SELECT {rights}", name, table, name, table)


@pytest.mark.direct("a pooler refuses the option that sets the role")
async def test_a_worker_needs_the_documented_rights_only(migrated_dsn: str) -> None:
    """A role with the documented rights keeps versions, pins rows, and asks for a reload."""
    name = f"worker_{secrets.token_hex(4)}"
    every = select(migrated_dsn, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'escalation\\_%%'")
    tables = ", ".join({*every} - {"escalation_meta", "escalation_migrations", "escalation_detached"})
    execute(
        migrated_dsn,
        f"CREATE ROLE {name}; GRANT SELECT, INSERT, UPDATE ON incidents TO {name};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {name};"
        f"GRANT SELECT ON escalation_migrations, escalation_meta TO {name};"
        f"GRANT USAGE ON SEQUENCE escalation_events_id_seq TO {name};"
        "INSERT INTO incidents (incident_key) VALUES ('a')",
    )
    store = await PostgresStore.connect(make_conninfo(migrated_dsn, options=f"-c role={name}"))

    async def work(tx: Transaction) -> None:
        walks = _walks(tx)
        now = await tx.now()
        for _ in range(2):
            await walks.keep({"1a": "text", "2b": "text"})
        (row,) = await tx.incidents.claim(until=now, limit=9, canary=Canary())
        assert row.incident is not None
        await walks.move([attrs.evolve(row.incident, policy_pin="ops@1a@", next_due_at=None)])
        await walks.record_digest("w", "1a")
        assert {"1a", "2b"} == set(await walks.versions(["1a", "2b"]))
        await walks.request_reload(By("ann"))
        assert now == (await walks.stats(now)).reload_requested_at

    await store.transact(work)
    await store.aclose()
    assert [2] == select(migrated_dsn, "SELECT count(*) FROM escalation_policies")
    execute(migrated_dsn, f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_pin_needs_a_text(pg_dsn: str) -> None:
    """A column for the pin that may be too short is refused: each incident with a policy would be unreadable."""
    execute(pg_dsn, LARGE.split(";")[0] + "; ALTER TABLE tickets ADD COLUMN policy_pin varchar(20)")
    with pytest.raises(CannotAttach, match="column 'policy_pin' is character varying; it must be text"):
        await attach(pg_dsn, "tickets")
