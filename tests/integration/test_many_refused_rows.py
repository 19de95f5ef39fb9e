"""Tests of many refused rows, or refused rows in child tables: the engine's work is bounded; no other row waits."""

import pytest

from escalation_adapters.postgres.session import Session
from escalation_core.engine.refused_rows import MAX_TRIES

from .stage import MINUTE, staged

SHORT = "ALTER TABLE incidents ADD CHECK (length(summary) <= 500) NOT VALID"
LONG = """
    INSERT INTO incidents (incident_key, severity, first_seen, summary)
    SELECT 'k' || n, 'critical', %(now)s::timestamptz - interval '1 hour', repeat('x', 600)
    FROM generate_series(1, 1000) AS n
"""


async def test_children_of_one_key_that_are_refused_stop_no_other_row(migrated_dsn: str) -> None:
    """The engine passes over two refused rows of one key in child tables together, and pages the other rows."""
    async with staged(migrated_dsn) as stage:
        for child in ("one", "two"):
            stage.sql(
                f"CREATE TABLE {child} () INHERITS (incidents)",
                f"INSERT INTO {child} (incident_key, severity, first_seen, summary, next_due_at)"
                " VALUES ('c', 'critical', %(now)s::timestamptz - interval '1 hour', repeat('x', 600), 'epoch')",
            )
        stage.sql(SHORT)
        stage.incident("good")
        assert [("good", 1, 1)] == await stage.tick()
        stage.incident("more")
        assert [("more", 1, 1)] == await stage.tick()


async def test_many_refused_rows_cost_bounded_work(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1,000 refused rows a batch tries a bounded number of writes, and the engine pages the good row."""
    names: list[str] = []
    run = Session.run

    async def noted(session: Session, name: str, **values: object) -> int:
        names.append(name)
        return await run(session, name, **values)

    async with staged(migrated_dsn) as stage:
        stage.sql(LONG)
        stage.sql(SHORT)
        stage.incident("good")
        monkeypatch.setattr(Session, "run", noted)
        await stage.engine.tick(deliver=False)
        monkeypatch.undo()
        # After MAX_TRIES the engine tries each part that is left once, as a whole.
        assert 0 < names.count("advance") <= MAX_TRIES + 20
        assert (1, 1) == (names.count("defer_unreadable"), names.count("pass_over")), (
            "all that are refused are noted together"
        )
        for _ in range(3):
            await stage.tick(2 * MINUTE)
        assert ["good"] == sorted({page.incident.incident_key for page in stage.notifier.pages})
        assert 1000 == (await stage.engine.health()).stats.unreadable


async def test_a_recalculation_beside_a_far_row_that_is_refused(migrated_dsn: str) -> None:
    """A recalculation completes despite a row due far ahead that the engine can neither read nor write."""
    async with staged(migrated_dsn) as stage:
        stage.sql(
            "INSERT INTO incidents (incident_key, severity, first_seen, escalation_level, summary, next_due_at) VALUES"
            " ('far', 'critical', %(now)s, -1, repeat('x', 600), %(now)s::timestamptz + interval '2 hours')",
            SHORT,
        )
        stage.incident("good")
        await stage.engine.request_recalc()
        assert [("good", 1, 1)] == await stage.tick()
        assert (await stage.engine.health()).recalc.requested_at is None
