"""Tests of attaching to a host's own table: its open incidents, locks and faults, and the types of its columns."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from escalation_adapters.postgres import CannotAttach, ExistingIncidents, PostgresStore, applying, migrate
from escalation_adapters.postgres.existing import Existing
from escalation_core import Engine, InvalidValue, StoreRefused, StoreUnavailable, TransitionRefused, idempotency_key
from escalation_core.testing import RecordingNotifier

from .migrations import COLUMNS, MIGRATIONS, TICKETS, catalogue, execute, select, until

TICKETS_ATTACHED = [*MIGRATIONS, "attached to app.tickets"]


# --- a host's populated table


async def attach(dsn: str, existing: Existing | None = None, columns: Mapping[str, str] | None = None) -> Sequence[str]:
    return await migrate.up(
        dsn, schema="app", table="tickets", columns=columns or COLUMNS, existing=existing, create=True
    )


async def test_open_incidents_want_a_word_first(pg_dsn: str) -> None:
    """Without a choice for open incidents ``up`` fails, counts the open and the due incidents, and changes nothing."""
    execute(pg_dsn, TICKETS)
    before = catalogue(pg_dsn)
    with pytest.raises(ExistingIncidents, match=r"app\.tickets holds 4000 open incidents, and 3000 of them") as refusal:
        await attach(pg_dsn)
    assert (4000, 3000) == (refusal.value.open_count, refusal.value.due_count)
    assert before == catalogue(pg_dsn)


@pytest.mark.parametrize(
    ("existing", "planned", "paged"),
    [("page", 4000, 3000), ("skip", 0, 0), (timedelta(minutes=30), 2000, 1000)],
    ids=["page", "skip", "since"],
)
async def test_attaching_rewrites_no_row(pg_dsn: str, existing: Existing | timedelta, planned: int, paged: int) -> None:
    """Attaching adds columns without rewriting the table, and plans only the open rows that the choice names."""
    execute(pg_dsn, TICKETS)
    file: LiteralString = "SELECT pg_relation_filenode('app.tickets')"
    rows: LiteralString = "SELECT md5(string_agg(concat_ws('|', id, sev, opened_at, acked, note), ',' ORDER BY id))"
    versions: LiteralString = "SELECT count(DISTINCT xmin::text) FROM app.tickets"
    before = select(pg_dsn, file) + select(pg_dsn, rows + " FROM app.tickets")
    said = datetime.now(UTC) - existing if isinstance(existing, timedelta) else existing
    assert TICKETS_ATTACHED == list(await attach(pg_dsn, said))
    assert before == select(pg_dsn, file) + select(pg_dsn, rows + " FROM app.tickets")
    assert [1 if planned == 0 else 2] == select(pg_dsn, versions)
    assert [planned] == select(pg_dsn, "SELECT count(*) FROM app.tickets WHERE next_due_at = 'epoch'")
    assert [5000 - planned] == select(pg_dsn, "SELECT count(*) FROM app.tickets WHERE next_due_at IS NULL")
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn, schema="app"), notifiers=[notifier]) as engine:
        report = await engine.tick(deliver=False)
        assert (paged, planned - paged) == (report.escalated, report.rescheduled.total())
        assert 5000 == await engine.recalc()
        assert 3000 - paged == (await engine.tick(deliver=False)).escalated
    assert [(1, 3000)] == select(pg_dsn, "SELECT level, count(*) FROM app.escalation_events GROUP BY level")


async def test_up_lets_writers_through_while_it_waits(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a transaction holds the table, ``up`` lets other writers through between its tries, and then finishes."""
    monkeypatch.setattr(applying, "LOCK_TIMEOUT", "200ms")
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
        assert TICKETS_ATTACHED == list(await asyncio.wait_for(up, 20))
    assert [("held", 5001)] == select(
        pg_dsn, "SELECT max(note) FILTER (WHERE note = 'held'), count(*) FROM app.tickets"
    )


async def test_up_gives_up_on_a_table_that_is_never_free(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a transaction never frees the table, ``up`` fails and says so; a later ``up`` continues where it stopped."""
    monkeypatch.setattr(applying, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(applying, "LOCK_TRIES", 1)
    execute(pg_dsn, TICKETS)
    async with await AsyncConnection.connect(pg_dsn) as holder:
        await holder.execute("LOCK TABLE app.tickets IN ROW EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="others held the lock of the incidents table"):
            await attach(pg_dsn, "skip")
    assert TICKETS_ATTACHED[-1:] == list(await attach(pg_dsn, "skip"))


async def test_attached_table_is_remembered(pg_dsn: str) -> None:
    """A later ``up`` needs no mapping, accepts the same mapping, and refuses other columns and another table."""
    execute(pg_dsn, TICKETS)
    await attach(pg_dsn, "skip")
    assert [] == list(await migrate.up(pg_dsn, schema="app", create=True))
    assert [] == list(await attach(pg_dsn))
    with pytest.raises(StoreRefused, match=r"is attached with other columns; .* run escalation migrate attach"):
        await attach(pg_dsn, columns={**COLUMNS, "severity": "note"})
    with pytest.raises(StoreRefused, match="is attached to the table 'tickets'"):
        await migrate.up(pg_dsn, schema="app", table="other", create=True)


# --- tables that cannot be attached


async def test_every_fault_of_a_table_is_named_at_once(pg_dsn: str) -> None:
    """``up`` refuses an unsuitable table with all its faults in one message, and changes nothing."""
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
        await migrate.up(pg_dsn, create=True)
    expected = [
        "it has no column 'first_seen'; say which it is: --column first_seen=COLUMN",
        "column 'escalation_level' is double precision; it must be smallint or integer or bigint",
        "column 'acknowledged_at' is timestamp without time zone; it must be timestamp with time zone",
        "column 'severity' is generated, and the engine writes it; map it read-only, drop it or rename it",
        "column 'next_due_at' is generated, and the engine writes it; map it read-only, drop it or rename it",
        (
            "column 'incident_key' has no unique index of its own; create one:"
            " the engine cannot distinguish rows of one key"
        ),
    ]
    assert sorted(expected) == sorted(refusal.value.faults)
    assert before == catalogue(pg_dsn)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("CREATE VIEW incidents AS SELECT 'k' AS incident_key, now() AS first_seen", "view"),
        (
            "CREATE TABLE incidents (incident_key text PRIMARY KEY, first_seen date) PARTITION BY HASH (incident_key)",
            "partitioned table",
        ),
    ],
    ids=["view", "partitioned"],
)
async def test_relation_that_is_not_a_plain_table_is_refused(pg_dsn: str, statement: LiteralString, kind: str) -> None:
    """The engine cannot attach to a view or a partitioned table; the refusal names its kind."""
    execute(pg_dsn, statement)
    before = catalogue(pg_dsn)
    with pytest.raises(CannotAttach, match=f"it is a {kind}; name a plain table: --table NAME"):
        await migrate.up(pg_dsn, create=True)
    assert before == catalogue(pg_dsn)


async def test_mapping_that_makes_no_sense_is_refused(pg_dsn: str) -> None:
    """``up`` refuses a mapping of a column that the engine does not have, and a mapping of one column twice."""
    with pytest.raises(InvalidValue, match="the engine has no column 'colour'"):
        await migrate.up(pg_dsn, columns={"colour": "c"}, create=True)
    with pytest.raises(InvalidValue, match="the column 'summary' is mapped twice"):
        await migrate.up(pg_dsn, columns={"severity": "summary"}, create=True)


# --- keys and severities of other types


KEYS = {
    "integer": ("41", "42", "99", ["x", "007", "2147483648"]),
    "bigint": ("-41", "9007199254740993", "99", ["x", "1.5", "9223372036854775808"]),
    "bigint GENERATED ALWAYS AS IDENTITY": ("1", "42", "99", ["x"]),
    "varchar(40)": ("db-7/disk", "db-8/disk", "db-9/disk", []),
    "uuid": (str(UUID(int=41)), str(UUID(int=42)), str(UUID(int=99)), ["x", str(UUID(int=0xABC))[1:]]),
}


@pytest.mark.parametrize("kind", KEYS)
async def test_keys_of_other_types_work_to_the_end(pg_dsn: str, kind: LiteralString) -> None:
    """Incidents with keys of each type open by SQL and API, page and end; calls take the key as text.

    The engine refuses an unknown key, and a key that is not valid for the type.
    """
    one, two, unknown, illegal = KEYS[kind]
    execute(pg_dsn, f"CREATE TABLE incidents (incident_key {kind} PRIMARY KEY, severity text, first_seen timestamptz)")
    await migrate.up(pg_dsn, create=True)
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
        assert 2 == await engine.recalc()
        health = await engine.health()
        assert (0, 0) == (health.stats.unreadable, health.stats.marked)


async def test_severity_may_be_an_enum(pg_dsn: str) -> None:
    """The engine reads and writes a severity of an enum type as text, with any ``search_path`` of the connection."""
    execute(
        pg_dsn,
        """
        CREATE TYPE grave AS ENUM ('warning', 'critical');
        CREATE SCHEMA elsewhere;
        CREATE TABLE incidents (incident_key text PRIMARY KEY, severity grave, first_seen timestamptz NOT NULL);
        INSERT INTO incidents VALUES ('old', 'critical', now() - interval '6 minutes');
        """,
    )
    await migrate.up(pg_dsn, existing="page", create=True)
    execute(
        pg_dsn, "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = elsewhere', current_database()); END$$"
    )
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        assert 1 == (await engine.tick()).escalated
        await engine.open("new", severity="critical")
        assert "warning" == (await engine.change_severity("old", "warning")).severity
        with pytest.raises(InvalidValue, match="severity: 'purple' is not a word of"):
            await engine.change_severity("old", "purple")
    assert [("new", "critical"), ("old", "warning")] == select(
        pg_dsn, "SELECT incident_key, severity::text FROM public.incidents ORDER BY incident_key"
    )
