"""A fault of the database, not of a row, ends the tick with an error. The engine defers no row for the fault."""

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from escalation_core import StoreNotReady, StoreUnavailable

from .stage import staged

READS_TENANTS = """
    CREATE FUNCTION reads_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM FROM tenants;
        RETURN NEW;
    END $$
"""


@pytest.mark.direct("a database's own setting reaches sessions that begin after it")
async def test_a_lock_that_others_hold_is_held_against_no_row(migrated_dsn: str) -> None:
    """A lock timeout on the engine's own table raises StoreUnavailable and defers no row. The next tick pages."""
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        name = sql.Identifier(str(conninfo_to_dict(migrated_dsn)["dbname"]))
        connection.execute(sql.SQL("ALTER DATABASE {} SET lock_timeout = '100ms'").format(name))
    async with staged(migrated_dsn) as stage:
        stage.incident("a", "b", "c")
        with psycopg.connect(migrated_dsn) as person:
            person.execute("LOCK TABLE escalation_events IN SHARE MODE")
            with pytest.raises(StoreUnavailable):
                await stage.tick()
        assert 0 == (await stage.engine.health()).stats.unreadable
        assert [("a", 1, 1), ("b", 1, 1), ("c", 1, 1)] == await stage.tick()


async def test_a_trigger_that_reads_hidden_rows_is_told(migrated_dsn: str) -> None:
    """A host's trigger that reads rows behind a policy ends the tick with the remedy. The engine defers no row."""
    role = "reads_tenants_role"
    async with staged(migrated_dsn) as stage:
        stage.incident("a")
        stage.sql(
            "CREATE TABLE tenants (id int)",
            "ALTER TABLE tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            f"GRANT {role} TO CURRENT_USER",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            READS_TENANTS.replace("AS $$", f"SET role = {role} AS $$"),
            "CREATE TRIGGER reads_tenants BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION reads_tenants()",
        )
        with pytest.raises(StoreNotReady, match=r"tenants.*SET row_security = on"):
            await stage.tick()
        assert 0 == (await stage.engine.health()).stats.unreadable
        stage.sql("ALTER FUNCTION reads_tenants() SET row_security = on")
        assert [("a", 1, 1)] == await stage.tick()
