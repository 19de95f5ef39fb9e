"""The list of open incidents on a host's own table: other types of keys, a status, and instants of any kind."""

from datetime import timedelta
from uuid import UUID

import pytest

from escalation_adapters.postgres import PostgresStore, StatusMapping, migrate
from escalation_core import Engine, OpenIncidents
from escalation_core.testing import RecordingNotifier

from .host_tables import execute

TABLE = """
CREATE TABLE alerts (
    id {kind} PRIMARY KEY, severity text, created_at timestamptz NOT NULL, status text NOT NULL DEFAULT 'open'
)
"""


async def parts(engine: Engine, limit: int) -> list[str]:
    """Return the keys of the whole list, read in parts."""
    keys: list[str] = []
    after: str | None = None
    while True:
        found: OpenIncidents = await engine.open_incidents(limit=limit, after=after)
        keys += [one.incident_key for one in found.incidents]
        if not found.more:
            return keys
        after = found.incidents[-1].cursor


@pytest.mark.parametrize("kind", ["uuid", "bigint", "text"])
async def test_list_in_parts_by_any_key_and_a_status(pg_dsn: str, kind: str) -> None:
    """Each open incident is listed once, in parts of any size, whatever the type of its key; the status decides."""
    keys = [str(UUID(int=number)) if kind == "uuid" else str(number) for number in (2, 9, 10, 11, 100)]
    execute(pg_dsn, TABLE.format(kind=kind))
    await migrate.up(
        pg_dsn,
        table="alerts",
        columns={"incident_key": "id", "first_seen": "created_at"},
        status=StatusMapping(column="status", open=("open",), acknowledged=("taken",), resolved=("done",)),
        create=True,
    )
    execute(
        pg_dsn,
        "INSERT INTO alerts (id, severity, created_at)"
        f" SELECT k::{kind}, 'critical', now() - interval '2 minutes' FROM unnest('{{{','.join(keys)}}}'::text[]) AS k",
    )
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.acknowledge(keys[0])
        execute(pg_dsn, f"UPDATE alerts SET status = 'done' WHERE id = '{keys[1]}'::{kind}")
        # Rows without an instant come last, in the order of their keys.
        execute(pg_dsn, f"UPDATE alerts SET next_due_at = NULL WHERE id IN ('{keys[3]}', '{keys[4]}')")
        ordered = [keys[2], *(keys[3:] if kind != "text" else sorted(keys[3:]))]
        for limit in (1, 2, 3):
            assert ordered == await parts(engine, limit)
        assert keys[2:3] == [
            one.incident_key for one in (await engine.open_incidents(within=timedelta(minutes=4))).incidents
        ]


async def test_instants_at_the_ends_of_time(migrated_dsn: str) -> None:
    """Rows whose next_due_at is infinite, or outside Python's years, are listed once and end no part."""
    instants = (
        "infinity", "294000-01-01", "9999-12-31 23:59:59.999999", "2999-01-01", "0001-01-01", "0044-03-15 BC",
        "4000-01-01 BC", "-infinity",
    )  # fmt: skip
    for number, instant in enumerate(instants):
        for key in "ab":
            execute(
                migrated_dsn,
                "INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)"
                f" VALUES ('{number}{key}', 'critical', now(), '{instant}')",
            )
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[RecordingNotifier()]) as engine:
        whole = [one.incident_key for one in (await engine.open_incidents()).incidents]
        assert [f"{number}{key}" for number in range(7, -1, -1) for key in "ab"] == whole
        for limit in (1, 2, 3, 5, 7):
            assert whole == await parts(engine, limit), limit
