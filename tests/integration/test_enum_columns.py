"""A host's severity or status is an enum, or becomes one, or stops being one, while the engine runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, StatusMapping, migrate
from escalation_core import Engine, InvalidValue, StoreNotReady
from escalation_core.testing import RecordingNotifier

from .host_tables import execute
from .migrations import select

STATUS = StatusMapping(column="status", open="open", acknowledged="acked", resolved="done")
RENAME = "ALTER TYPE state RENAME VALUE 'acked' TO 'seen'"
LATE = "VALUES (%s, 'critical', 'open', now() - interval '1 hour')"


@asynccontextmanager
async def engine_on(dsn: str) -> AsyncIterator[Engine]:
    async with Engine(await PostgresStore.connect(dsn), notifiers=[RecordingNotifier()]) as engine:
        yield engine


@pytest.fixture
async def severities(pg_dsn: str) -> str:
    """A database whose severity is an enum, without the word that ``open`` writes by default."""
    execute(
        pg_dsn,
        """
        CREATE TYPE grave AS ENUM ('minor', 'critical');
        CREATE TABLE incidents (incident_key text PRIMARY KEY, severity grave, first_seen timestamptz NOT NULL);
        """,
    )
    await migrate.up(pg_dsn, existing="page", create=True)
    return pg_dsn


@pytest.fixture
async def states(pg_dsn: str) -> str:
    """A database whose status is an enum."""
    execute(
        pg_dsn,
        """
        CREATE TYPE state AS ENUM ('open', 'acked', 'done');
        CREATE TABLE incidents (
            incident_key text PRIMARY KEY, severity text, status state, first_seen timestamptz NOT NULL);
        """,
    )
    await migrate.attach(pg_dsn, status=STATUS, existing="page")
    return pg_dsn


def written(dsn: str) -> list[int]:
    """Return how many rows each table holds that a verb writes."""
    tables = ("incidents", "escalation_audit", "escalation_pages", "escalation_events")
    return [select(dsn, f"SELECT count(*) FROM {table}")[0] for table in tables]


async def test_severity_that_the_enum_lacks(severities: str) -> None:
    """A severity that the enum lacks, given or by default, is refused with the enum's words. Nothing is written."""
    words = "severity: '{}' is not a word of public.grave, .*; give one of 'minor', 'critical'"
    async with engine_on(severities) as engine:
        with pytest.raises(InvalidValue, match=words.format("nope")):
            await engine.open("k", severity="nope")
        with pytest.raises(InvalidValue, match=words.format("warning")):
            await engine.open("k")
        assert [0, 0, 0, 0] == written(severities)
        await engine.open("k", severity="minor")
        before = written(severities)
        for verb in (engine.change_severity("k", "nope"), engine.open("k", severity="nope", summary="Disk full")):
            with pytest.raises(InvalidValue, match=words.format("nope")):
                await verb
        assert before == written(severities)
        assert "critical" == (await engine.change_severity("k", "critical")).severity


async def test_refusal_leaves_the_hosts_transaction_usable(severities: str) -> None:
    """In the host's transaction the refusal undoes nothing of the host's, and the transaction goes on."""
    async with engine_on(severities) as engine, await psycopg.AsyncConnection.connect(severities) as connection:
        verbs = engine.using(connection)
        await connection.execute("INSERT INTO incidents VALUES ('mine', 'minor', now())")
        with pytest.raises(InvalidValue, match="give one of"):
            await verbs.open("k")
        await verbs.open("k", severity="critical")
    assert ["k", "mine"] == select(severities, "SELECT incident_key FROM incidents ORDER BY 1")


async def test_severity_is_retyped_while_the_engine_runs(severities: str) -> None:
    """A verb after an ALTER TYPE reads the new type: enum, text, another enum, words renamed and added."""
    alter = "ALTER TABLE incidents ALTER severity TYPE {0} USING severity::text::{0}"
    async with engine_on(severities) as engine, await psycopg.AsyncConnection.connect(severities) as connection:
        await engine.open("a", severity="critical")
        execute(severities, alter.format("text"))
        await engine.open("b", severity="critical", summary="Disk full")
        await engine.change_severity("a", "minor")
        execute(severities, "CREATE TYPE other AS ENUM ('minor', 'critical')")
        execute(severities, alter.format("other"))
        assert "critical" == (await engine.change_severity("a", "critical")).severity
        execute(severities, alter.format("grave"))
        await engine.using(connection).open("c", severity="minor")
        await connection.commit()
        execute(severities, "ALTER TYPE grave RENAME VALUE 'critical' TO 'fatal'")
        with pytest.raises(InvalidValue, match="give one of 'minor', 'fatal'"):
            await engine.open("d", severity="critical")
        execute(severities, "ALTER TYPE grave ADD VALUE 'critical'")
        await engine.open("d", severity="critical")
        assert "fatal" == (await engine.acknowledge("a")).severity
    assert [("a", "fatal"), ("b", "fatal"), ("c", "minor"), ("d", "critical")] == select(
        severities, "SELECT incident_key, severity::text FROM incidents ORDER BY 1"
    )


async def test_host_transaction_meets_a_new_type(severities: str) -> None:
    """A verb in the host's transaction reads the type anew, if another transaction has changed it."""
    async with engine_on(severities) as engine:
        execute(severities, "CREATE TYPE other AS ENUM ('minor', 'critical')")
        execute(severities, "ALTER TABLE incidents ALTER severity TYPE other USING severity::text::other")
        async with await psycopg.AsyncConnection.connect(severities) as connection:
            await engine.using(connection).open("k", severity="critical")
    assert ["k"] == select(severities, "SELECT incident_key FROM incidents")


async def test_status_word_is_renamed(states: str) -> None:
    """Every call names the lost word, the enum's words and the remedy. The host's own writes go on, and are found."""
    remedy = r"no longer has the mapped words 'acked': its enum has 'open', 'seen', 'done'; .* --status status"
    async with engine_on(states) as engine:
        await engine.open("a", severity="critical")
        before = written(states)
        execute(states, RENAME)
        for call in (engine.acknowledge("a"), engine.open("b"), engine.tick(), engine.health()):
            with pytest.raises(StoreNotReady, match=remedy):
                await call
        assert before == written(states)
        with pytest.raises(StoreNotReady, match=remedy):
            await PostgresStore.connect(states)
        [fault] = await migrate.check(states)
        assert "no longer has the mapped words 'acked'" in fault
        execute(states, f"INSERT INTO incidents (incident_key, severity, status, first_seen) {LATE}", "late")
        execute(states, "UPDATE incidents SET status = 'seen' WHERE incident_key = 'a'")
        seen = StatusMapping(column="status", open="open", acknowledged="seen", resolved="done")
        await migrate.attach(states, status=seen, existing="page")
        history = await engine.history("a")
        assert history.incident is not None
        assert "acknowledged" == history.incident.state
    async with engine_on(states) as engine:  # the first tick of a worker finds rows that no trigger saw
        assert 1 == sum([(await engine.tick()).escalated for _ in range(2)])


async def test_status_becomes_text(states: str) -> None:
    """After the status became text, the host's writes and the verbs go on; ``migrate.check`` names the remedy."""
    async with engine_on(states) as engine:
        await engine.open("a", severity="critical")
        with pytest.raises(
            psycopg.errors.UndefinedFunction
        ):  # PostgreSQL refuses, because of the index, and changes nothing
            execute(states, "ALTER TABLE incidents ALTER status TYPE text")
        execute(states, "DROP INDEX escalation_unseen; ALTER TABLE incidents ALTER status TYPE text")
        execute(states, f"INSERT INTO incidents (incident_key, severity, status, first_seen) {LATE}", "late")
        assert "acknowledged" == (await engine.acknowledge("a")).state
        faults = await migrate.check(states)
        assert "column 'status' of public.incidents was public.state and is text now" in faults[0]
        await migrate.attach(states, status=STATUS, existing="page")
        assert [] == list(await migrate.check(states))
        assert 1 == sum([(await engine.tick()).escalated for _ in range(2)])
