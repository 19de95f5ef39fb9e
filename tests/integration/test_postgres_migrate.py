"""Migrations and attaching to a host's own table, on a real server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from escalation_adapters.postgres import CannotAttach, ExistingIncidents, PostgresStore, migrate
from escalation_adapters.postgres.attach import Existing
from escalation_core import (
    Engine,
    InvalidValue,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
    TransitionRefused,
    idempotency_key,
)
from escalation_core.testing import RecordingNotifier

from ..postgres import Server

NAMES = [
    "0001_tables",
    "0002_incidents",
    "0003_indexes",
    "0004_host_writes",
    "0005_operations",
    "0006_upkeep",
    "0007_adopted",
    "0008_host_notes",
    "0009_books",
    "0010_unseen",
    "0011_host_triggers",
]
COLUMNS = {"incident_key": "id", "severity": "sev", "first_seen": "opened_at", "acknowledged_at": "acked"}

# Of each five tickets one is acknowledged, three are due with the default windows, and one is not due yet.
TICKETS = """
CREATE SCHEMA app;
CREATE TABLE app.tickets (
    id uuid PRIMARY KEY,
    sev text,
    opened_at timestamptz NOT NULL,
    acked timestamptz,
    note text NOT NULL DEFAULT ''
);
INSERT INTO app.tickets (id, sev, opened_at, acked, note)
SELECT md5(n::text)::uuid,
    CASE n % 5 WHEN 3 THEN 'critical' ELSE 'warning' END,
    now() - CASE WHEN n % 5 <= 2 THEN interval '1 hour' ELSE interval '6 minutes' END,
    CASE n % 5 WHEN 0 THEN now() END,
    'ticket ' || n
FROM generate_series(1, 5000) AS n;
"""


def select(dsn: str, statement: LiteralString, *values: object) -> list[Any]:
    """Return rows; of one column, its values."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(statement, values).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def execute(dsn: str, statement: LiteralString) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement)


def catalogue(dsn: str) -> list[Any]:
    """Return everything in the database that is not PostgreSQL's own: relations, columns, indexes, functions, rows."""
    return select(
        dsn,
        """
        SELECT 'namespace', nspname, '', '' FROM pg_namespace
        UNION ALL
        SELECT 'relation', n.nspname, c.relname, concat_ws(' ', c.relkind, c.relfilenode, c.relnatts, c.relhastriggers)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
        UNION ALL
        SELECT 'column', a.attrelid::regclass::text, a.attname, concat_ws(' ', a.atttypid, a.attnotnull, a.atthasdef)
        FROM pg_attribute a WHERE a.attrelid >= 16384
        UNION ALL
        SELECT 'trigger', t.tgrelid::regclass::text, t.tgname, '' FROM pg_trigger t
        UNION ALL
        SELECT 'function', p.pronamespace::regnamespace::text, p.proname, '' FROM pg_proc p WHERE p.oid >= 16384
        ORDER BY 1, 2, 3, 4
        """,
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look at the server until it is so, for ten seconds at most."""
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the server did not get there")


def as_if_only(version: int) -> LiteralString:
    """Return SQL after which the migrations from ``version`` on are not recorded."""
    statements: dict[int, LiteralString] = {
        3: "DELETE FROM escalation_migrations WHERE version >= 3",
        4: "DELETE FROM escalation_migrations WHERE version >= 4",
        7: "DELETE FROM escalation_migrations WHERE version >= 7",
    }
    return statements[version]


# --- up


async def test_up_makes_everything_once(pg_dsn: str) -> None:
    """The first up applies every migration to an empty database, and the second one none."""
    said: list[str] = []
    assert NAMES == list(await migrate.up(pg_dsn, say=said.append))
    assert [f"applying {name}" for name in NAMES] == said
    before = catalogue(pg_dsn)
    assert [] == list(await migrate.up(pg_dsn))
    assert before == catalogue(pg_dsn)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k", first_seen=datetime.now(UTC) - timedelta(minutes=16))
        assert 1 == (await engine.tick()).escalated


async def test_status_tells_what_was_applied_and_what_has_changed(pg_dsn: str) -> None:
    """Status lists each migration, when it was applied if it was, and whether its file is another one."""
    assert [(name, None) for name in NAMES] == [(at.name, at.applied_at) for at in await migrate.status(pg_dsn)]
    await migrate.up(pg_dsn)
    found = await migrate.status(pg_dsn)
    assert [] == [at for at in found if at.applied_at is None or at.changed]
    execute(pg_dsn, "UPDATE escalation_migrations SET checksum = 'other' WHERE version = 2")
    assert [2] == [at.version for at in await migrate.status(pg_dsn) if at.changed]


def test_print_sql_is_in_the_words_of_the_installation() -> None:
    """The printed SQL names each migration, and the schema, table and columns that were given."""
    text = migrate.print_sql(schema="app", table="tickets", columns=COLUMNS)
    assert [True] * len(NAMES) == [f"-- {name}\n" in text for name in NAMES]
    assert 'ALTER TABLE "app"."tickets"' in text
    assert 'ADD COLUMN IF NOT EXISTS "acked" timestamptz' in text


async def test_two_ups_at_once_migrate_once(pg_dsn: str) -> None:
    """Of two services that start at once one migrates, the other one waits, and both succeed."""
    done = await asyncio.wait_for(asyncio.gather(migrate.up(pg_dsn), migrate.up(pg_dsn)), 20)
    assert [[], NAMES] == sorted(map(list, done))
    assert [] == select(pg_dsn, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


async def test_migration_with_another_checksum_is_refused(migrated_dsn: str) -> None:
    """Up stops at a migration whose file is not the one that was applied, names it, and changes nothing."""
    execute(migrated_dsn, "UPDATE escalation_migrations SET checksum = 'other' WHERE version = 2")
    before = catalogue(migrated_dsn)
    with pytest.raises(StoreNotReady, match="0002_incidents is not the file that was applied"):
        await migrate.up(migrated_dsn)
    assert before == catalogue(migrated_dsn)


async def test_newer_schema_asks_for_an_update_of_the_library(migrated_dsn: str) -> None:
    """A schema from a later release is refused with the advice to update, at connect and by a store that runs."""
    store = await PostgresStore.connect(migrated_dsn)
    execute(migrated_dsn, "INSERT INTO escalation_migrations (version, name, checksum) VALUES (99, 'later', 'x')")
    with pytest.raises(StoreNotReady, match=r"version 99 .* update escalation-core"):
        await store.check()
    await store.aclose()
    with pytest.raises(StoreNotReady, match=r"version 99 .* update escalation-core"):
        await PostgresStore.connect(migrated_dsn)


async def test_connect_to_an_unmigrated_database_names_the_command(pg_dsn: str) -> None:
    """Connecting to an empty database, or to a half migrated one, names the command that helps."""
    with pytest.raises(StoreNotReady, match="run: escalation migrate up"):
        await PostgresStore.connect(pg_dsn)
    await migrate.up(pg_dsn)
    execute(pg_dsn, as_if_only(4))
    with pytest.raises(StoreNotReady, match=f"is at version 3 and {len(NAMES)} is needed; run: escalation migrate up"):
        await PostgresStore.connect(pg_dsn)


async def test_the_server_looks_after_the_tables(pg_dsn: str) -> None:
    """Large tables are vacuumed long before a fifth is dead, and the planner knows the rows that were there before."""
    execute(pg_dsn, TICKETS)
    await migrate.up(pg_dsn, schema="app", table="tickets", columns=COLUMNS, existing="page")
    found = dict(select(pg_dsn, "SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL"))
    assert "autovacuum_vacuum_scale_factor=0.01" in found["escalation_pages"]
    assert "autovacuum_vacuum_insert_scale_factor=0.05" in found["escalation_events"]
    known = select(pg_dsn, "SELECT count(*) FROM pg_stats WHERE tablename IN ('tickets', 'escalation_canary')")
    assert known[0] > 5


async def test_interrupted_before_its_last_step(pg_dsn: str) -> None:
    """A migration that died before its table was recorded says so, and the command completes it."""
    await migrate.up(pg_dsn)
    execute(pg_dsn, "DELETE FROM escalation_meta WHERE name = 'incidents'")
    with pytest.raises(StoreNotReady, match="was interrupted; run: escalation migrate up"):
        await PostgresStore.connect(pg_dsn)
    await migrate.up(pg_dsn)
    await (await PostgresStore.connect(pg_dsn)).aclose()


async def test_invalid_index_is_built_again(pg_dsn: str) -> None:
    """An index that an interrupted build left invalid is dropped and built again."""
    await migrate.up(pg_dsn)
    execute(pg_dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'escalation_due'::regclass")
    execute(pg_dsn, as_if_only(3))
    before = select(pg_dsn, "SELECT 'escalation_due'::regclass::oid, 'escalation_canary'::regclass::oid")
    assert NAMES[2:] == list(await migrate.up(pg_dsn))
    after = select(pg_dsn, "SELECT 'escalation_due'::regclass::oid, 'escalation_canary'::regclass::oid")
    assert (True, False) == (before[0][0] != after[0][0], before[0][1] != after[0][1])
    assert [] == select(pg_dsn, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


async def test_unique_index_that_failed_is_built_once_its_cause_is_gone(pg_dsn: str) -> None:
    """Up fails on events that are there twice, and succeeds as soon as the host has removed the copy."""
    execute(
        pg_dsn,
        """
        CREATE TABLE escalation_events (
            id bigserial PRIMARY KEY, incident_key text NOT NULL, level int NOT NULL, unique_hash text NOT NULL UNIQUE,
            created_at timestamptz NOT NULL DEFAULT now()
        );
        INSERT INTO escalation_events (incident_key, level, unique_hash) VALUES ('k', 1, 'a'), ('k', 1, 'b');
        """,
    )
    with pytest.raises(StoreRefused, match="could not create unique index"):
        await migrate.up(pg_dsn)
    execute(pg_dsn, "DELETE FROM escalation_events WHERE unique_hash = 'b'")
    assert NAMES[2:] == list(await migrate.up(pg_dsn))
    assert [True] == select(
        pg_dsn, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'escalation_events_level'::regclass"
    )


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_other_encodings_are_refused(postgres_server: Server, pg_dsn: str, encoding: LiteralString) -> None:
    """A database whose encoding is not UTF-8 is refused, by its encoding's name, and nothing is made in it."""
    name = f"{psycopg.conninfo.conninfo_to_dict(pg_dsn)['dbname']}_{encoding.lower()}"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode())
    try:
        with pytest.raises(StoreRefused, match=f"the database's encoding is {encoding};"):
            await migrate.up(postgres_server.database(name))
        with psycopg.connect(postgres_server.database(name)) as connection:
            assert (0,) == connection.execute("SELECT count(*) FROM pg_class WHERE oid >= 16384").fetchone()
    finally:
        postgres_server.drop(name)


async def test_up_without_triggers_makes_none(pg_dsn: str) -> None:
    """With trigger=False there is no trigger and no function, a later up makes none, and the API alone works."""
    made: LiteralString = "SELECT tgname FROM pg_trigger UNION SELECT proname FROM pg_proc WHERE oid >= 16384"
    assert NAMES == list(await migrate.up(pg_dsn, trigger=False))
    assert [] == select(pg_dsn, made)
    execute(pg_dsn, as_if_only(7))
    assert NAMES[6:] == list(await migrate.up(pg_dsn))
    assert [] == select(pg_dsn, made)
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        await engine.open("k", first_seen=datetime.now(UTC) - timedelta(minutes=16))
        await engine.tick()
        await engine.acknowledge("k")
        assert 0 == (await engine.tick()).escalated
    assert ["k"] == [page.incident.incident_key for page in notifier.pages]


def seed(dsn: str) -> str:
    """Make the seed's tables, in which an incident rose by one level; return the hash of that escalation."""
    old = idempotency_key("db-7/disk", 1)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            """
            CREATE TABLE incidents (
                incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL,
                escalation_level int NOT NULL DEFAULT 0, last_escalated_at timestamptz, acknowledged_at timestamptz
            );
            INSERT INTO incidents VALUES
                ('db-7/disk', 'critical', now() - interval '2 hours', 1, now() - interval '1 hour');
            CREATE TABLE IF NOT EXISTS escalation_events (
                id bigserial PRIMARY KEY,
                incident_key text NOT NULL,
                level int NOT NULL,
                unique_hash text NOT NULL UNIQUE,
                created_at timestamptz NOT NULL DEFAULT now()
            );
            """
        )
        connection.execute(
            "INSERT INTO escalation_events (incident_key, level, unique_hash) VALUES ('db-7/disk', 1, %s)", [old]
        )
    return old


async def test_events_of_old_are_kept(pg_dsn: str) -> None:
    """Events recorded without episodes keep their rows and belong to episode 1, and their ladders go on."""
    old = seed(pg_dsn)
    await migrate.up(pg_dsn, existing="page")
    events: LiteralString = "SELECT id, incident_key, episode, level, unique_hash FROM escalation_events ORDER BY id"
    assert [(1, "db-7/disk", 1, 1, old)] == select(pg_dsn, events)
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert 1 == (await engine.tick()).escalated
    assert [idempotency_key("db-7/disk", 2)] == [page.dedup_key for page in notifier.pages]
    assert [1, 2] == [level for _, _, _, level, _ in select(pg_dsn, events)]


async def test_events_of_old_do_not_break_the_promise(pg_dsn: str) -> None:
    """Events that were there before the engine have no pages and are counted apart; later ones without are a breach."""
    seed(pg_dsn)
    await migrate.up(pg_dsn, existing="page")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick()
        proof = await engine.prove()
        assert (True, 2, 1, 0) == (proof.holds, proof.escalations, proof.adopted, proof.without_page)
        execute(pg_dsn, "DELETE FROM escalation_pages")
        proof = await engine.prove()
        assert (False, 1, 1) == (proof.holds, proof.adopted, proof.without_page)


async def test_an_installation_learns_what_it_adopted(pg_dsn: str) -> None:
    """One that was migrated before that was remembered counts as adopted what was there before its first page."""
    seed(pg_dsn)
    await migrate.up(pg_dsn, existing="page")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick()
        execute(pg_dsn, "DELETE FROM escalation_meta WHERE name = 'adopted'")
        assert not (await engine.prove()).holds
        execute(pg_dsn, as_if_only(7))
        await migrate.up(pg_dsn)
        proof = await engine.prove()
        assert (True, 1) == (proof.holds, proof.adopted)


# --- a host's populated table


async def attach(dsn: str, existing: Existing | None = None, columns: Mapping[str, str] | None = None) -> Sequence[str]:
    return await migrate.up(dsn, schema="app", table="tickets", columns=columns or COLUMNS, existing=existing)


async def test_open_incidents_want_a_word_first(pg_dsn: str) -> None:
    """Without a word about open incidents up counts them, and those that would page now, and changes nothing."""
    execute(pg_dsn, TICKETS)
    before = catalogue(pg_dsn)
    with pytest.raises(ExistingIncidents, match=r"app\.tickets holds 4000 open incidents, and 3000 of them") as refusal:
        await attach(pg_dsn)
    assert (4000, 3000) == (refusal.value.open_count, refusal.value.due_count)
    assert before == catalogue(pg_dsn)


@pytest.mark.parametrize(
    ("existing", "marked", "paged"),
    [("page", 4000, 3000), ("skip", 0, 0), (timedelta(minutes=30), 2000, 1000)],
    ids=["page", "skip", "since"],
)
async def test_attaching_rewrites_no_row(pg_dsn: str, existing: Existing | timedelta, marked: int, paged: int) -> None:
    """Attaching adds columns without rewriting the table, and marks the open rows that it was told to, and no other."""
    execute(pg_dsn, TICKETS)
    file: LiteralString = "SELECT pg_relation_filenode('app.tickets')"
    rows: LiteralString = "SELECT md5(string_agg(concat_ws('|', id, sev, opened_at, acked, note), ',' ORDER BY id))"
    versions: LiteralString = "SELECT count(DISTINCT xmin::text) FROM app.tickets"
    before = select(pg_dsn, file) + select(pg_dsn, rows + " FROM app.tickets")
    said = datetime.now(UTC) - existing if isinstance(existing, timedelta) else existing
    assert NAMES == list(await attach(pg_dsn, said))
    assert before == select(pg_dsn, file) + select(pg_dsn, rows + " FROM app.tickets")
    assert [1 if marked == 0 else 2] == select(pg_dsn, versions)
    assert [marked] == select(pg_dsn, "SELECT count(*) FROM app.tickets WHERE next_due_at = 'epoch'")
    assert [5000 - marked] == select(pg_dsn, "SELECT count(*) FROM app.tickets WHERE next_due_at IS NULL")
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn, schema="app"), notifiers=[notifier]) as engine:
        report = await engine.tick(deliver=False)
        assert (paged, marked - paged) == (report.escalated, report.rescheduled.total())
        assert 4000 == await engine.recalc()
        assert 3000 - paged == (await engine.tick(deliver=False)).escalated
    assert [(1, 3000)] == select(pg_dsn, "SELECT level, count(*) FROM app.escalation_events GROUP BY level")


async def test_up_lets_writers_through_while_it_waits(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a transaction is open on the table, up gives way to other writers again and again, and then finishes."""
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "200ms")
    execute(pg_dsn, TICKETS)
    waits: LiteralString = (
        "SELECT a.query_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.relation = 'app.tickets'::regclass AND l.mode = 'AccessExclusiveLock' AND NOT l.granted"
    )
    async with (
        await AsyncConnection.connect(pg_dsn) as holder,
        await AsyncConnection.connect(pg_dsn, autocommit=True) as other,
        await AsyncConnection.connect(pg_dsn, autocommit=True) as observer,
    ):
        seen: set[datetime] = set()

        async def waits_anew() -> bool:
            found = {row[0] for row in await (await observer.execute(waits)).fetchall()} - seen
            seen.update(found)
            return bool(found)

        await holder.execute("UPDATE app.tickets SET note = 'held' WHERE id = md5('1')::uuid")
        up = asyncio.create_task(attach(pg_dsn, "skip"))
        await until(waits_anew)
        insert = "INSERT INTO app.tickets (id, opened_at) VALUES (md5('new')::uuid, now())"
        await asyncio.wait_for(other.execute(insert), 5)
        await until(waits_anew)
        assert (False, 2) == (up.done(), len(seen))
        await holder.commit()
        assert NAMES == list(await asyncio.wait_for(up, 20))
    assert [("held", 5001)] == select(
        pg_dsn, "SELECT max(note) FILTER (WHERE note = 'held'), count(*) FROM app.tickets"
    )


async def test_up_gives_up_on_a_table_that_is_never_free(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When others hold the table all the time, up says so, and a later up goes on where it stopped."""
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(migrate, "LOCK_TRIES", 1)
    execute(pg_dsn, TICKETS)
    async with await AsyncConnection.connect(pg_dsn) as holder:
        await holder.execute("LOCK TABLE app.tickets IN ROW EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="others held the lock of the incidents table"):
            await attach(pg_dsn, "skip")
    assert NAMES[1:] == list(await attach(pg_dsn, "skip"))


async def test_attached_table_is_remembered(pg_dsn: str) -> None:
    """A later up needs no mapping, takes the same one again, and refuses another."""
    execute(pg_dsn, TICKETS)
    await attach(pg_dsn, "skip")
    assert [] == list(await migrate.up(pg_dsn, schema="app"))
    assert [] == list(await attach(pg_dsn))
    with pytest.raises(StoreRefused, match="is attached to the table 'tickets'"):
        await attach(pg_dsn, columns={**COLUMNS, "severity": "note"})
    with pytest.raises(StoreRefused, match="is attached to the table 'tickets'"):
        await migrate.up(pg_dsn, schema="app", table="other")


# --- what cannot be attached


async def test_every_fault_of_a_table_is_named_at_once(pg_dsn: str) -> None:
    """A table that cannot be attached to is refused with all its faults in one message, and nothing is changed."""
    execute(
        pg_dsn,
        """
        CREATE TABLE incidents (
            incident_key text NOT NULL,
            severity text GENERATED ALWAYS AS ('critical') STORED,
            escalation_level double precision NOT NULL DEFAULT 0,
            acknowledged_at timestamp,
            next_due_at timestamptz GENERATED ALWAYS AS (timestamptz 'epoch') STORED
        );
        CREATE UNIQUE INDEX partly ON incidents (incident_key) WHERE severity IS NOT NULL;
        """,
    )
    before = catalogue(pg_dsn)
    with pytest.raises(CannotAttach, match=r"cannot attach to public\.incidents") as refusal:
        await migrate.up(pg_dsn)
    expected = [
        "it has no column 'first_seen'; say which it is: --column first_seen=COLUMN",
        "column 'escalation_level' is double precision; it must be smallint or integer or bigint",
        "column 'acknowledged_at' is timestamp without time zone; it must be timestamp with time zone",
        "column 'severity' is generated, and the engine writes it; drop it or rename it",
        "column 'next_due_at' is generated, and the engine writes it; drop it or rename it",
        "column 'incident_key' has no unique index of its own; create one: two rows of one key cannot be told apart",
    ]
    assert sorted(expected) == sorted(refusal.value.faults)
    assert before == catalogue(pg_dsn)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW incidents AS SELECT 'k' AS incident_key, now() AS first_seen",
        "CREATE TABLE incidents (incident_key text PRIMARY KEY, first_seen date) PARTITION BY HASH (incident_key)",
    ],
    ids=["view", "partitioned"],
)
async def test_what_is_no_plain_table_is_refused(pg_dsn: str, statement: LiteralString) -> None:
    """A view or a partitioned table is no table to attach to."""
    execute(pg_dsn, statement)
    before = catalogue(pg_dsn)
    with pytest.raises(CannotAttach, match="it is not a plain table"):
        await migrate.up(pg_dsn)
    assert before == catalogue(pg_dsn)


async def test_mapping_that_makes_no_sense_is_refused(pg_dsn: str) -> None:
    """A mapping of what the engine has no column for, or of one column twice, is refused."""
    with pytest.raises(InvalidValue, match="the engine has no column 'colour'"):
        await migrate.up(pg_dsn, columns={"colour": "c"})
    with pytest.raises(InvalidValue, match="one column is named twice"):
        await migrate.up(pg_dsn, columns={"severity": "summary"})


# --- keys and severities of other types


KEYS = {
    "integer": ("41", "42", "99", ["x", "007", "2147483648"]),
    "bigint": ("-41", "9007199254740993", "99", ["x", "1.5", "9223372036854775808"]),
    "bigint GENERATED ALWAYS AS IDENTITY": ("1", "42", "99", ["x"]),
    "varchar(40)": ("db-7/disk", "db-8/disk", "db-9/disk", []),
    "uuid": (str(UUID(int=41)), str(UUID(int=42)), str(UUID(int=99)), ["x", str(UUID(int=0xABC)).upper()]),
}


@pytest.mark.parametrize("kind", KEYS)
async def test_keys_of_other_types_work_to_the_end(pg_dsn: str, kind: LiteralString) -> None:
    """Keys of a host's own type are opened by SQL and by the API, paged, acknowledged and refused as their text."""
    one, two, unknown, illegal = KEYS[kind]
    execute(pg_dsn, f"CREATE TABLE incidents (incident_key {kind} PRIMARY KEY, severity text, first_seen timestamptz)")
    await migrate.up(pg_dsn)
    with psycopg.connect(pg_dsn) as connection:
        # An identity column takes no value from a plain INSERT; its first key is 1 by itself.
        columns, values = ("", "") if "IDENTITY" in kind else ("incident_key, ", "%(one)s, ")
        connection.execute(
            f"INSERT INTO incidents ({columns}severity, first_seen)"
            f" VALUES ({values}'critical', now() - interval '1 hour')".encode(),
            {"one": one},
        )
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        await engine.open(two, first_seen=datetime.now(UTC) - timedelta(hours=1))
        assert [2, 0] == [(await engine.tick()).escalated for _ in range(2)]
        assert {(key, idempotency_key(key, 1)) for key in (one, two)} == {
            (page.incident.incident_key, page.dedup_key) for page in notifier.pages
        }
        assert "oncall" == (await engine.acknowledge(one, by="oncall")).acknowledged_by
        await engine.resolve(two)
        assert 2 == (await engine.open(two)).episode
        for key in (unknown, *illegal):
            with pytest.raises(TransitionRefused, match="it is unknown"):
                await engine.acknowledge(key)
        for key in illegal:
            with pytest.raises(InvalidValue, match="incident_key: is not a valid "):
                await engine.open(key)
        assert 2 == await engine.recalc() + 1
        health = await engine.health()
        assert (0, 0) == (health.stats.unreadable, health.stats.marked)


async def test_severity_may_be_an_enum(pg_dsn: str) -> None:
    """A column of an enum type is read and written as text, whatever the search_path of a connection is."""
    execute(
        pg_dsn,
        """
        CREATE TYPE grave AS ENUM ('warning', 'critical');
        CREATE SCHEMA elsewhere;
        CREATE TABLE incidents (incident_key text PRIMARY KEY, severity grave, first_seen timestamptz NOT NULL);
        INSERT INTO incidents VALUES ('old', 'critical', now() - interval '6 minutes');
        """,
    )
    await migrate.up(pg_dsn, existing="page")
    execute(
        pg_dsn, "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = elsewhere', current_database()); END$$"
    )
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        assert 1 == (await engine.tick()).escalated
        await engine.open("new", severity="critical")
        assert "warning" == (await engine.change_severity("old", "warning")).severity
        with pytest.raises(StoreRefused, match="invalid input value for enum"):
            await engine.change_severity("old", "purple")
    assert [("new", "critical"), ("old", "warning")] == select(
        pg_dsn, "SELECT incident_key, severity::text FROM public.incidents ORDER BY incident_key"
    )
