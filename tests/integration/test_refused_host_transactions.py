"""A verb refuses a connection on which it cannot join the host's transaction, and names the fault and the remedy."""

import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_adapters.postgres.host_transaction import blocking_verbs
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Engine, InvalidValue, Settings, StoreNotReady, StoreUnavailable

from ..postgres import Server
from .stage import Stage, staged
from .test_verbs_in_host_transaction import alchemy_connection, psycopg_async, psycopg_sync, url

pytestmark = pytest.mark.direct("the host's own connection does not go through the pooler")


@pytest.fixture
async def stage(migrated_dsn: str) -> AsyncIterator[Stage]:
    async with staged(migrated_dsn) as found:
        yield found


async def refusal(stage: Stage, connection: Any) -> str:
    """Return the message with which a verb refuses a connection."""
    with pytest.raises(InvalidValue) as refused:
        await stage.engine.using(connection).open("k")
    return str(refused.value)


async def test_another_database(stage: Stage, postgres_server: Server, migrated_template: str) -> None:
    """A verb refuses a connection to another database with the same schema, and writes nothing there."""
    with postgres_server.fresh(migrated_template) as other:
        async with psycopg_async(other) as (connection, execute):
            assert "which is not the one of the engine's store; give a connection to the" in await refusal(
                stage, connection
            )
            assert [] == await (await execute("SELECT FROM incidents")).fetchall()


async def test_autocommit(stage: Stage) -> None:
    """A verb refuses a connection in autocommit, and works once the host has begun a transaction on it."""
    async with psycopg_async(stage.dsn, autocommit=True) as (connection, _):
        assert "connection: is in autocommit, so the host has no transaction to join; begin one" in await refusal(
            stage, connection
        )
        async with connection.transaction():
            await stage.engine.using(connection).open("k")
    assert ["k"] == stage.rows("SELECT incident_key FROM incidents")


async def test_autocommit_of_sqlalchemy(stage: Stage) -> None:
    """A verb refuses a connection of SQLAlchemy with the isolation level AUTOCOMMIT."""
    engine = create_async_engine(url(stage.dsn), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        assert "is in autocommit" in await refusal(stage, connection)
    await engine.dispose()


async def test_read_only(stage: Stage) -> None:
    """A verb refuses a read-only transaction before any statement fails, so the transaction stays usable."""
    async with psycopg_async(stage.dsn) as (connection, execute):
        await execute("SET TRANSACTION READ ONLY")
        assert "connection: is read-only; give a connection whose transaction may write" == await refusal(
            stage, connection
        )
        await execute("SELECT 1")


async def test_failed_transaction(stage: Stage) -> None:
    """A verb refuses a transaction in which a statement has failed, and works after a rollback."""
    async with psycopg_async(stage.dsn) as (connection, execute):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await execute("SELECT 1 / 0")
        assert "connection: is in a failed transaction; roll it back, and begin another" == await refusal(
            stage, connection
        )
        await connection.rollback()
        await stage.engine.using(connection).open("k")
        await connection.commit()
    assert ["k"] == stage.rows("SELECT incident_key FROM incidents")


async def test_closed(stage: Stage) -> None:
    """A verb refuses a closed connection of psycopg or SQLAlchemy."""
    async with psycopg_async(stage.dsn) as (connection, _):
        pass
    assert "connection: is closed; give an open connection" == await refusal(stage, connection)
    async with alchemy_connection(stage.dsn) as (connection, _):
        pass
    assert "connection: cannot be used: " in await refusal(stage, connection)


async def test_pipeline(stage: Stage) -> None:
    """A verb refuses a connection in pipeline mode, because a savepoint cannot undo a failed statement there."""
    async with psycopg_async(stage.dsn) as (connection, _), connection.pipeline():
        assert "connection: is in pipeline mode; leave the pipeline first" == await refusal(stage, connection)


@pytest.mark.parametrize("end", ["rollback", "commit"])
async def test_transaction_that_has_ended(stage: Stage, end: str) -> None:
    """Verbs of one ``using`` work in one transaction. After its end they are refused, also in the next transaction."""
    async with psycopg_async(stage.dsn) as (connection, execute):
        verbs = stage.engine.using(connection)
        await verbs.open("k")
        await getattr(connection, end)()
        fault = "connection: has ended the transaction in which these verbs began; call using"
        with pytest.raises(InvalidValue, match=fault):
            await verbs.open("late")
        await execute("SELECT 1")
        with pytest.raises(InvalidValue, match=fault):
            await verbs.open("late")
        await connection.commit()
    assert (["k"] if end == "commit" else []) == stage.rows("SELECT incident_key FROM incidents")


async def test_other_drivers(stage: Stage) -> None:
    """A verb refuses psycopg2, asyncpg, SQLite, a text and None. The message names psycopg 3."""
    remedy = (
        "and not of psycopg; give an open connection or session with the driver psycopg 3: of SQLAlchemy by a URL of"
    )
    with psycopg2.connect(stage.dsn) as old:
        assert remedy in await refusal(stage, old)
    old.close()
    engine = create_async_engine(url(stage.dsn).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        assert "asyncpg" in (told := await refusal(stage, connection))
        assert remedy in told
    await engine.dispose()
    file = sqlite3.connect(":memory:")
    assert remedy in await refusal(stage, file)
    file.close()
    assert remedy in await refusal(stage, "a DSN")
    assert remedy in await refusal(stage, None)


async def test_other_stores() -> None:
    """``using`` with a SQLiteStore raises InvalidValue, because that store works in its own transactions only."""
    async with Engine(SQLiteStore(":memory:")) as engine:
        with pytest.raises(InvalidValue, match="SQLiteStore works in its own transactions only"):
            engine.using(object())


def test_schema_that_is_not_migrated(pg_dsn: str) -> None:
    """Without a migrated schema, blocking verbs name ``escalation migrate up``. The host's transaction stays usable."""
    with psycopg_sync(pg_dsn) as (connection, execute):
        execute("CREATE TABLE notes (note text)")
        with pytest.raises(StoreNotReady, match="run: escalation migrate up"):
            blocking_verbs(connection, Settings()).open("k")
        execute("SELECT FROM notes")


async def test_conflict_is_the_hosts_to_retry(stage: Stage) -> None:
    """On a serialization failure the verb asks the host to run the whole transaction again. The second run succeeds."""
    stage.incident("k")
    async with psycopg_async(stage.dsn) as (connection, execute):
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await execute("SELECT FROM incidents")
        stage.sql("UPDATE incidents SET summary = 'changed meanwhile'")
        with pytest.raises(StoreUnavailable, match="conflict with another one; roll it back, and run all of it again"):
            await stage.engine.using(connection).acknowledge("k")
        await connection.rollback()
        await stage.engine.using(connection).acknowledge("k")
        await connection.commit()
    assert [1] == stage.rows("SELECT count(*) FROM incidents WHERE acknowledged_at IS NOT NULL")


async def test_mapping_that_changes_between_two_transactions(migrated_dsn: str) -> None:
    """Verbs of a later transaction follow an attach that was made after the earlier one."""
    store = await PostgresStore.connect(migrated_dsn)
    async with Engine(store) as engine, psycopg_async(migrated_dsn) as (connection, execute):
        await engine.using(connection).open("k")
        await connection.commit()
        with psycopg.connect(migrated_dsn) as host:
            host.execute("ALTER TABLE incidents ADD COLUMN assignee text")
        await migrate.attach(migrated_dsn, columns={"acknowledged_by": "assignee"}, existing="page")
        await engine.using(connection).acknowledge("k", by="responder")
        assert [("responder",)] == await (await execute("SELECT assignee FROM incidents")).fetchall()


async def test_role_without_rights(stage: Stage) -> None:
    """If the role may not write the engine's tables, the error names the table and the transaction stays usable."""
    with psycopg.connect(stage.dsn) as owner:
        owner.execute("CREATE ROLE host_without_rights")
        owner.execute("GRANT SELECT, INSERT, UPDATE ON incidents TO host_without_rights")
    async with psycopg_async(stage.dsn) as (connection, execute):
        await execute("SET LOCAL ROLE host_without_rights")
        with pytest.raises(Exception, match="permission denied for table escalation_"):
            await stage.engine.using(connection).open("k")
        assert 0 == len(await (await execute("SELECT FROM incidents")).fetchall())
    stage.sql("DROP OWNED BY host_without_rights", "DROP ROLE host_without_rights")


def test_sqlalchemy_on_psycopg2_is_refused(migrated_dsn: str) -> None:
    """Blocking verbs refuse a synchronous connection of SQLAlchemy on psycopg2. The connection stays usable."""
    engine = sqlalchemy.create_engine(url(migrated_dsn).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        with pytest.raises(InvalidValue, match=r"is of psycopg2\.extensions\.connection, and not of psycopg"):
            blocking_verbs(connection, Settings()).open("k")
        assert [] == connection.execute(sqlalchemy.text("SELECT FROM incidents")).fetchall()
    engine.dispose()
