"""Tests of a host's trigger or rule that refuses a row with another fault's code, or drops a write silently."""

from contextlib import AsyncExitStack

import psycopg
import pytest

from escalation_adapters.postgres import session, store

from .stage import MINUTE, staged

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")

TRIGGER = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.incident_key = 'bad' THEN
            %s
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION refuse();
"""
SAYING = {
    "undefined-table": "PERFORM 1 FROM a_table_that_is_gone;",
    "undefined-column": "PERFORM 1 FROM incidents WHERE a_column_that_is_gone;",
    "undefined-function": "PERFORM a_function_that_is_gone();",
    "serialization": "RAISE EXCEPTION 'no' USING ERRCODE = '40001';",
    "connection": "RAISE EXCEPTION 'no' USING ERRCODE = '08001';",
    "lock": "RAISE EXCEPTION 'no' USING ERRCODE = '55P03';",
    "resources": "RAISE EXCEPTION 'no' USING ERRCODE = '53400';",
    "rights": "RAISE EXCEPTION 'no' USING ERRCODE = '42501';",
    "internal": "RAISE EXCEPTION 'no' USING ERRCODE = 'XX000';",
}
SILENT = {
    "trigger": TRIGGER % "RETURN NULL;",
    "rule": "CREATE RULE refuse AS ON UPDATE TO incidents WHERE OLD.incident_key = 'bad' DO INSTEAD NOTHING",
}


@pytest.mark.parametrize("what", SAYING)
async def test_a_refusal_that_sounds_like_another_fault_stops_no_other_row(what: str, migrated_dsn: str) -> None:
    """If a host's trigger refuses a row with another fault's SQLSTATE, the engine lists the row and pages the rest."""
    async with staged(migrated_dsn) as stage:
        stage.incident("bad")
        stage.sql(TRIGGER % SAYING[what])
        stage.incident(*"abc")
        assert [(key, 1, 1) for key in "abc"] == await stage.tick()
        assert ["bad"] == [key for key, _ in (await stage.engine.health()).stats.unreadable_examples]


async def test_a_pipeline_that_hides_its_error_stops_no_other_row(
    migrated_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If psycopg reports an aborted pipeline in place of the host's error, the engine still pages the other rows.

    Psycopg may do so on a busy machine.
    """
    flush = session.Session.flush

    async def hiding(self: session.Session, last: AsyncExitStack | None = None) -> None:
        try:
            await flush(self, last)
        except psycopg.OperationalError:
            if self.optimistic:
                raise psycopg.errors.PipelineAborted("pipeline aborted") from None
            raise

    monkeypatch.setattr(store, "TRIES", 1)
    monkeypatch.setattr(session.Session, "flush", hiding)
    async with staged(migrated_dsn) as stage:
        stage.incident("bad")
        stage.sql(TRIGGER % SAYING["serialization"])
        stage.incident(*"abc")
        assert [(key, 1, 1) for key in "abc"] == await stage.tick()


@pytest.mark.parametrize("how", SILENT)
async def test_a_write_that_is_dropped_without_an_error_is_listed(how: str, migrated_dsn: str) -> None:
    """If a host drops a row's updates without an error, health lists the row; no worker retries it at once.

    The engine pages the other rows at once.
    """
    async with staged(migrated_dsn) as stage:
        stage.incident("bad")
        stage.sql(SILENT[how])
        stage.incident(*"abc")
        paged = await stage.tick()
        assert {(key, 1, 1) for key in "abc"} <= set(paged)
        assert 1 >= paged.count(("bad", 1, 1))
        for _ in range(3):
            report = await stage.engine.tick()
        assert MINUTE == await stage.engine.next_tick_in(report)
        assert ["bad"] == [key for key, _ in (await stage.engine.health()).stats.unreadable_examples]
