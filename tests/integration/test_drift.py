"""Tests of drift: ``migrate status`` and health report each change of the host's table, with the command that helps."""

from collections.abc import Mapping

import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine
from escalation_core.testing import RecordingNotifier

from .host_tables import dump, execute

OTHER_BODY = """
CREATE OR REPLACE FUNCTION escalation_host_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
"""
NULLABLE = """
ALTER TABLE incidents DROP CONSTRAINT incidents_pkey;
CREATE UNIQUE INDEX ON incidents (incident_key);
ALTER TABLE incidents ALTER incident_key DROP NOT NULL
"""
CHANGES: Mapping[str, tuple[str, str, bool]] = {
    "column gone": ("ALTER TABLE incidents RENAME summary TO text", "attach --column summary=NEW", False),
    "type changed": ("ALTER TABLE incidents ALTER severity TYPE varchar(9)", "was text and is character", False),
    "trigger disabled": ("ALTER TABLE incidents DISABLE TRIGGER zz_escalation_host_check", "is disabled", True),
    "trigger dropped": ("DROP TRIGGER zz_escalation_host_insert ON incidents", "is missing", True),
    "function changed": (OTHER_BODY, "function escalation_host_insert of public.incidents is missing, or not", True),
    "index dropped": ("DROP INDEX escalation_unseen", "index escalation_unseen of public.incidents is missing", True),
    "key nullable": (NULLABLE, "may be NULL", False),
}
"""Each change of the host: its SQL, a part of the fault's text, and whether ``migrate up`` repairs the fault."""


@pytest.mark.parametrize("change", list(CHANGES))
async def test_change_is_reported_and_repaired(migrated_dsn: str, change: str) -> None:
    """``check`` and health report one fault; ``up`` repairs the fault, or leaves the fault to the operator."""
    statement, fault, mendable = CHANGES[change]
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick()
        execute(migrated_dsn, statement)
        [found] = await migrate.check(migrated_dsn)
        assert fault in found
        assert "; " in found
        assert [found] == list((await engine.health()).warnings)
        said: list[str] = []
        done = await migrate.up(migrated_dsn, say=said.append)
        assert [f"{'repairing' if mendable else 'warning'}: {found}"] == said
        assert (["repaired public.incidents"] if mendable else []) == list(done)
        assert ([] if mendable else [found]) == list(await migrate.check(migrated_dsn))


async def test_table_gone(migrated_dsn: str) -> None:
    """If the host renames the table, ``check`` names the missing table; a detach removes triggers and functions."""
    execute(migrated_dsn, "ALTER TABLE incidents RENAME TO others")
    [found] = await migrate.check(migrated_dsn)
    assert "the table public.incidents is gone; restore it, or run: escalation migrate detach" == found
    await migrate.detach(migrated_dsn)
    assert [] == dump(migrated_dsn, "others")["triggers"]
    assert [] == dump(migrated_dsn, "others")["functions"]
    assert ["the schema is not attached to a table; run: escalation migrate attach"] == list(
        await migrate.check(migrated_dsn)
    )


async def test_names_that_need_quotes(pg_dsn: str) -> None:
    """Drift, repair and detach work with blanks and capitals in the names of schema, table and columns."""
    execute(
        pg_dsn,
        'CREATE SCHEMA "My App"; CREATE TABLE "My App"."Alert Rows" ("Key" text PRIMARY KEY, "Opened At" timestamptz)',
    )
    columns = {"incident_key": "Key", "first_seen": "Opened At:read"}
    await migrate.attach(pg_dsn, schema="My App", table="Alert Rows", columns=columns)
    assert [] == list(await migrate.check(pg_dsn, schema="My App"))
    execute(pg_dsn, 'ALTER TABLE "My App"."Alert Rows" DISABLE TRIGGER zz_escalation_host_insert')
    assert ["repaired My App.Alert Rows"] == list(await migrate.up(pg_dsn, schema="My App"))
    assert [] == list(await migrate.check(pg_dsn, schema="My App"))
    await migrate.detach(pg_dsn, schema="My App")
    assert [] == dump(pg_dsn, '"My App"."Alert Rows"')["triggers"]
