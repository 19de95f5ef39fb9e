"""Tests of instants that the engine cannot read, for example infinity: health lists the row as unreadable."""

import psycopg
import pytest

from escalation_adapters.postgres import migrate
from escalation_core import Retry

from .stage import MINUTE, staged

ENDS = [
    (column, value)
    for column in ("acknowledged_at", "resolved_at")
    for value in ("infinity", "-infinity", "20000-01-01", "0001-06-01 BC")
]


@pytest.mark.parametrize(("column", "value"), ENDS)
@pytest.mark.parametrize("how", ["inserted", "updated"])
async def test_an_end_that_is_no_instant_ends_nothing(migrated_dsn: str, column: str, value: str, how: str) -> None:
    """Health counts and lists a row whose end is not a valid instant.

    Once the host clears the end, the engine pages the row.
    """
    async with staged(migrated_dsn) as stage:
        if how == "inserted":
            stage.sql(
                f"INSERT INTO incidents (incident_key, severity, first_seen, {column})"
                " VALUES ('k', 'critical', %(now)s - interval '10 minutes', %(value)s)",
                value=value,
            )
        else:
            stage.incident("k")
            stage.sql(f"UPDATE incidents SET {column} = %(value)s", value=value)
        assert [] == await stage.tick()
        stats = (await stage.engine.health()).stats
        assert 1 == stats.unreadable
        assert [("k", column)] == [(key, fault.partition(":")[0]) for key, fault in stats.unreadable_examples]
        stage.sql(f"UPDATE incidents SET {column} = NULL")
        assert [("k", 1)] == [(key, level) for key, _, level in await stage.tick(after=10 * MINUTE)]
        assert 0 == (await stage.engine.health()).stats.unreadable


@pytest.mark.parametrize("column", ["acknowledged_at", "resolved_at"])
async def test_an_instant_in_place_of_infinity_ends_it(migrated_dsn: str, column: str) -> None:
    """A host that replaces infinity with a valid instant cancels the unsent page; health no longer lists the row."""
    async with staged(migrated_dsn, answer=lambda page: Retry("later")) as stage:
        stage.incident("k")
        await stage.tick()
        stage.sql(f"UPDATE incidents SET {column} = 'infinity'")
        stage.sql(f"UPDATE incidents SET {column} = %(now)s")
        ended = {"acknowledged_at": "acknowledged", "resolved_at": "resolved"}[column]
        assert [(1, "cancelled", ended)] == stage.pages("k")
        await stage.tick(after=10 * MINUTE)
        assert stage.due("k") is None
        assert 0 == (await stage.engine.health()).stats.unreadable


async def test_who_resolves_what_was_acknowledged_at_infinity_ends_it(migrated_dsn: str) -> None:
    """A host that resolves an incident acknowledged at infinity cancels its unsent page; the row is not due."""
    async with staged(migrated_dsn, answer=lambda page: Retry("later")) as stage:
        stage.incident("k")
        await stage.tick()
        stage.sql("UPDATE incidents SET acknowledged_at = 'infinity'")
        stage.sql("UPDATE incidents SET resolved_at = %(now)s")
        assert [(1, "cancelled", "resolved")] == stage.pages("k")
        assert stage.due("k") is None


async def test_resolving_at_infinity_and_back_begins_no_episode(migrated_dsn: str) -> None:
    """If a host sets ``resolved_at`` to infinity and back, the incident continues at its level.

    The audit has no entry for a resolution or an opening.
    """
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        assert [("k", 1, 1)] == await stage.tick()
        stage.sql("UPDATE incidents SET resolved_at = 'infinity'")
        stage.sql("UPDATE incidents SET resolved_at = NULL")
        assert [("k", 1, 2)] == await stage.tick(after=60 * MINUTE)
        actions = {entry.action for entry in (await stage.engine.history("k")).audit}
        assert {"resolve", "open"}.isdisjoint(actions)


async def test_rows_that_were_there_before_are_found(pg_dsn: str) -> None:
    """After an attach, health lists each row that infinity keeps open, but no row with another valid end."""
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(
            "CREATE TABLE incidents (incident_key text PRIMARY KEY, severity text,"
            " first_seen timestamptz NOT NULL DEFAULT now(), acknowledged_at timestamptz, resolved_at timestamptz)"
        )
        connection.execute("INSERT INTO incidents VALUES ('a', 'critical', now(), NULL, 'infinity')")
        connection.execute("INSERT INTO incidents VALUES ('b', 'critical', now(), 'infinity', now())")
    await migrate.up(pg_dsn, create=True)
    async with staged(pg_dsn) as stage:
        await stage.tick()
        stats = (await stage.engine.health()).stats
        assert ["a"] == [key for key, _ in stats.unreadable_examples]
