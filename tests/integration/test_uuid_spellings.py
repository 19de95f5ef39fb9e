"""Every spelling of a uuid names the same incident, and all records of it have one spelling."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine, InvalidValue, TransitionRefused, idempotency_key
from escalation_core.testing import RecordingNotifier

from .host_tables import execute

KEY = "0b6f6b0e-5d0c-4f5e-9a53-0f6f4a1d2c3b"
SPELLINGS = {
    "canonical": KEY,
    "upper case": KEY.upper(),
    "in braces": f"{{{KEY}}}",
    "without hyphens": UUID(KEY).hex,
    "a URN": UUID(KEY).urn,
    "a URN in upper case": UUID(KEY).urn.upper(),
    "other hyphens": "0b6f-6b0e-5d0c-4f5e-9a53-0f6f-4a1d-2c3b",
}
OTHERS = (
    "",
    "{" + KEY,
    KEY + "}",
    KEY[:-1],
    KEY + "0",
    KEY.replace("-", "_"),
    " " + KEY,
    KEY + "\n",
    "urn:uuid:",
    "\u0660" + KEY[1:],
)
"""Texts that are not a uuid, however alike they look."""


@pytest_asyncio.fixture
async def engine(pg_dsn: str) -> AsyncIterator[Engine]:
    """An engine on a host's table whose keys are uuids."""
    execute(pg_dsn, "CREATE TABLE tickets (id uuid PRIMARY KEY, severity text, first_seen timestamptz NOT NULL)")
    await migrate.up(pg_dsn, table="tickets", columns={"incident_key": "id"}, create=True)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        yield engine


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_every_verb_finds_it(engine: Engine, pg_dsn: str, spelling: str) -> None:
    """All verbs and the history work in any spelling on one row, and write one spelling into each table."""
    key = SPELLINGS[spelling]
    opened = await engine.open(key, severity="critical", first_seen=datetime.now(UTC) - timedelta(hours=1))
    assert KEY == opened.incident_key
    await engine.tick()
    for changed in (
        await engine.open(key, summary="again"),
        await engine.change_severity(key, "warning"),
        await engine.snooze(key, timedelta(hours=1)),
        await engine.drain(key),
        await engine.acknowledge(key),
        await engine.unacknowledge(key),
        await engine.resolve(key),
    ):
        assert KEY == changed.incident_key
    assert 3 == (await engine.open(key)).episode
    histories = [await engine.history(other) for other in SPELLINGS.values()]
    assert all(history == histories[0] for history in histories)
    assert [idempotency_key(KEY, 1)] == [page.dedup_key for page in histories[0].pages]
    tables = ("escalation_events", "escalation_pages", "escalation_audit")
    with psycopg.connect(pg_dsn) as connection:
        for table in tables:
            found = connection.execute(f"SELECT DISTINCT incident_key FROM {table}".encode()).fetchall()
            assert [(KEY,)] == found, table


async def test_the_hosts_row_is_found(engine: Engine, pg_dsn: str) -> None:
    """A row of the host's own SQL is found in any spelling, also once it is deleted or cannot be read."""
    execute(pg_dsn, "INSERT INTO tickets VALUES (%s, 'critical', now() - interval '1 hour')", KEY)
    await engine.tick()
    execute(pg_dsn, "UPDATE tickets SET first_seen = 'infinity'")
    assert "infinite" in ((await engine.history(KEY.upper())).fault or "")
    execute(pg_dsn, "DELETE FROM tickets")
    gone = await engine.history(KEY.upper())
    assert (None, [1]) == (gone.incident, [one.level for one in gone.escalations])


@pytest.mark.parametrize("other", OTHERS)
async def test_other_texts_are_unknown(engine: Engine, other: str) -> None:
    """A text that is not a uuid names no incident, and cannot be opened."""
    with pytest.raises((TransitionRefused, InvalidValue)):
        await engine.acknowledge(other)
    with pytest.raises(InvalidValue):
        await engine.open(other)


async def test_text_keys_stay_exact(migrated_dsn: str) -> None:
    """In a column of text two spellings of a uuid are two incidents."""
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[RecordingNotifier()]) as engine:
        assert KEY.upper() == (await engine.open(KEY.upper())).incident_key
        assert not (await engine.history(KEY)).known
