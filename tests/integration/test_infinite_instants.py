"""Instants that are none, such as infinity: the row can be read by nobody, and health says so."""

import pytest

from .stage import MINUTE, staged

ENDS = [
    (column, value)
    for column in ("acknowledged_at", "resolved_at")
    for value in ("infinity", "-infinity", "20000-01-01", "0001-06-01 BC")
]


@pytest.mark.parametrize(("column", "value"), ENDS)
@pytest.mark.parametrize("how", ["inserted", "updated"])
async def test_an_end_that_is_no_instant_ends_nothing(migrated_dsn: str, column: str, value: str, how: str) -> None:
    """It is counted and listed as unreadable until the host mends it; then the incident is paged."""
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
