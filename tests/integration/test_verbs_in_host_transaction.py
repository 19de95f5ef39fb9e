"""Verbs in a host's transaction commit and roll back with the host's own rows, on each kind of connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from escalation_adapters.blocking_verbs import BlockingVerbs
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.host_transaction import blocking_verbs
from escalation_adapters.worker.blocking import BlockingEngine
from escalation_core import Engine, Settings, TransitionRefused
from escalation_core.engine.incidents import IncidentVerbs
from escalation_core.model import NEEDS_REPLAN

from .host_tables import until_waiting
from .stage import MINUTE, Stage, staged

pytestmark = pytest.mark.direct("the host's own connection does not go through the pooler")
NOTE = "INSERT INTO notes VALUES ('written by the host')"


def url(dsn: str) -> sqlalchemy.URL:
    """Return the URL of a database for SQLAlchemy."""
    parts: dict[str, Any] = dict(psycopg.conninfo.conninfo_to_dict(dsn))
    return sqlalchemy.URL.create(
        "postgresql+psycopg", parts["user"], None, parts["host"], int(parts["port"]), parts["dbname"]
    )


@asynccontextmanager
async def psycopg_async(dsn: str, **how: Any) -> AsyncIterator[tuple[Any, Callable[[str], Awaitable[Any]]]]:
    async with await psycopg.AsyncConnection.connect(dsn, **how) as connection:
        yield connection, lambda statement: connection.execute(statement.encode())


@asynccontextmanager
async def psycopg_dicts(dsn: str) -> AsyncIterator[tuple[Any, Callable[[str], Awaitable[Any]]]]:
    """Yield a connection whose rows are dictionaries and whose cursor binds parameters at the client."""
    how: Any = {"row_factory": dict_row, "cursor_factory": psycopg.AsyncClientCursor}
    async with psycopg_async(dsn, **how) as found:
        yield found


@asynccontextmanager
async def alchemy_connection(dsn: str) -> AsyncIterator[tuple[Any, Callable[[str], Awaitable[Any]]]]:
    engine = create_async_engine(url(dsn))
    async with engine.connect() as connection:
        yield connection, lambda statement: connection.execute(sqlalchemy.text(statement))
    await engine.dispose()


@asynccontextmanager
async def alchemy_session(dsn: str) -> AsyncIterator[tuple[Any, Callable[[str], Awaitable[Any]]]]:
    engine = create_async_engine(url(dsn))
    async with AsyncSession(engine) as session:
        yield session, lambda statement: session.execute(sqlalchemy.text(statement))
    await engine.dispose()


KINDS = [psycopg_async, psycopg_dicts, alchemy_connection, alchemy_session]


@pytest.fixture
async def stage(migrated_dsn: str) -> AsyncIterator[Stage]:
    async with staged(migrated_dsn) as found:
        found.sql("CREATE TABLE notes (note text)")
        yield found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_verb_and_host_rows_are_one_transaction(stage: Stage, kind: Any, end: str) -> None:
    """The verb and the host's row are both there after a commit, and neither of them after a rollback."""
    async with kind(stage.dsn) as (connection, execute):
        await execute(NOTE)
        opened = await stage.engine.using(connection).open("both", severity="critical", by="host")
        assert "open" == opened.state
        assert [] == stage.rows("SELECT incident_key FROM incidents")
        await getattr(connection, end)()
    kept = ["both"] if end == "commit" else []
    assert kept == stage.rows("SELECT incident_key FROM incidents")
    assert len(kept) == len(stage.rows("SELECT note FROM notes"))
    assert kept == stage.rows("SELECT incident_key FROM escalation_audit WHERE actor = 'host'")


@pytest.mark.parametrize("kind", KINDS)
async def test_verb_alone_begins_the_transaction(stage: Stage, kind: Any) -> None:
    """A verb may be the first statement of a transaction: the host's commit keeps it."""
    async with kind(stage.dsn) as (connection, _):
        await stage.engine.using(connection).open("first")
        await connection.commit()
    assert ["first"] == stage.rows("SELECT incident_key FROM incidents")


async def test_every_verb_works(stage: Stage) -> None:
    """Each verb of an incident works in one transaction of a host, and the pages are cancelled at its commit."""
    stage.incident("k")
    await stage.engine.tick(deliver=False)
    async with psycopg_async(stage.dsn) as (connection, _):
        verbs = stage.engine.using(connection)
        for verb, more in VERBS:
            await getattr(verbs, verb)("k", *more, by="host")
        assert ["pending"] == stage.rows("SELECT state FROM escalation_pages")
        await connection.commit()
    assert ["cancelled"] == stage.rows("SELECT state FROM escalation_pages")
    said = stage.rows("SELECT action FROM escalation_audit WHERE actor = 'host' ORDER BY id")
    assert [verb for verb, _ in VERBS] == said


VERBS: list[tuple[str, tuple[Any, ...]]] = [
    ("drain", ()),
    ("change_severity", ("warning",)),
    ("snooze", (MINUTE,)),
    ("acknowledge", ()),
    ("unacknowledge", ()),
    ("resolve", ()),
    ("open", ()),
]


async def test_no_page_is_sent_after_an_acknowledgement_in_a_host_transaction(stage: Stage) -> None:
    """A worker that ticks while the transaction is open leaves the row alone, and pages nothing after the commit."""
    stage.incident("k")
    async with psycopg_async(stage.dsn) as (connection, _):
        await stage.engine.using(connection).acknowledge("k")
        assert [] == await stage.tick()
        await connection.commit()
    assert [] == await stage.tick(10 * MINUTE)


async def test_triggers_see_the_host_before_and_after_a_verb(stage: Stage) -> None:
    """The triggers note and plan the host's own SQL before and after a verb, but not the verb's write."""
    stage.incident("before", "after")
    async with psycopg_async(stage.dsn) as (connection, execute):
        await execute("UPDATE incidents SET acknowledged_at = now() WHERE incident_key = 'before'")
        await stage.engine.using(connection).open("verb")
        await execute("UPDATE incidents SET acknowledged_at = now() WHERE incident_key = 'after'")
        await connection.commit()
    assert [("before", "acknowledge"), ("verb", "open"), ("after", "acknowledge")] == stage.rows(
        "SELECT incident_key, action FROM escalation_audit ORDER BY id"
    )
    # No tick has planned the two yet, and an acknowledgement may expire: the next tick looks at them.
    assert [NEEDS_REPLAN, NEEDS_REPLAN] == [stage.due(key) for key in ("before", "after")]


async def test_settings_of_the_host_come_back(stage: Stage) -> None:
    """The parameters that the engine sets for its statements have the host's values after a verb, refused or not."""
    read = (
        "SELECT current_setting('escalation.engine', true), current_setting('lock_timeout'),"
        " current_setting('row_security'), current_setting('array_nulls'),"
        " current_setting('idle_in_transaction_session_timeout')"
    )
    async with psycopg_async(stage.dsn) as (connection, execute):
        await execute("SET LOCAL lock_timeout = '7s'")
        await execute("SET LOCAL array_nulls = off")
        verbs = stage.engine.using(connection)
        await verbs.open("k")
        after = await (await execute(read)).fetchone()
        with pytest.raises(TransitionRefused):
            await verbs.drain("k")
        refused = await (await execute(read)).fetchone()
    assert ("", "7s", "on", "off", "0") == after == refused


async def test_refused_verb_leaves_the_transaction_usable(stage: Stage) -> None:
    """A verb that is refused writes nothing, and the host's transaction goes on and commits."""
    async with psycopg_async(stage.dsn) as (connection, execute):
        await execute(NOTE)
        verbs = stage.engine.using(connection)
        with pytest.raises(TransitionRefused, match="unknown"):
            await verbs.acknowledge("unknown")
        await verbs.open("known")
        await connection.commit()
    assert ["known"] == stage.rows("SELECT incident_key FROM incidents")
    assert 1 == len(stage.rows("SELECT note FROM notes"))


class Unlike(Loader):
    """Loads every value as 7."""

    def load(self, data: object) -> int:
        return 7


async def test_loaders_of_the_host_do_not_matter(stage: Stage) -> None:
    """Verbs ignore the loaders of the host's connection; Django, for example, replaces the loader of JSON."""
    async with psycopg_async(stage.dsn) as (connection, _):
        for name in ("jsonb", "json", "text", "bool", "timestamp", "timestamptz", "int4", "int8"):
            connection.adapters.register_loader(name, Unlike)
        opened = await stage.engine.using(connection).open("k", labels={"team": "red"})
        again = await stage.engine.using(connection).acknowledge("k", by="host")
        await connection.commit()
    assert ("k", {"team": "red"}, "host") == (again.incident_key, again.labels, again.acknowledged_by)
    assert opened.first_seen == again.first_seen


async def test_savepoint_of_the_host_undoes_a_verb(stage: Stage) -> None:
    """A host that rolls back to its own savepoint undoes the verbs since then, and keeps those before it."""
    async with psycopg_async(stage.dsn) as (connection, execute):
        verbs = stage.engine.using(connection)
        await verbs.open("kept")
        await execute("SAVEPOINT escalation")
        await verbs.open("undone")
        await execute("ROLLBACK TO SAVEPOINT escalation")
        await connection.commit()
    assert ["kept"] == stage.rows("SELECT incident_key FROM incidents")


async def test_two_verbs_at_once_take_turns(stage: Stage) -> None:
    """Verbs that are gathered on one connection run one after the other, each behind its own savepoint."""
    async with psycopg_async(stage.dsn) as (connection, _):
        opened = [stage.engine.using(connection).open(f"k{number}") for number in range(5)]
        refused = [stage.engine.using(connection).acknowledge(f"no{number}") for number in range(5)]
        mixed = [work for pair in zip(opened, refused, strict=True) for work in pair]
        results = await asyncio.gather(*mixed, return_exceptions=True)
        await connection.commit()
    assert 5 == sum(isinstance(result, TransitionRefused) for result in results)
    assert [f"k{number}" for number in range(5)] == stage.rows("SELECT incident_key FROM incidents ORDER BY 1")


async def test_cancelled_verb_writes_nothing(stage: Stage) -> None:
    """A verb that is cancelled while it waits for a lock is undone, and the host's transaction can still commit."""
    stage.incident("k")
    async with psycopg_async(stage.dsn) as (connection, execute), psycopg_async(stage.dsn) as (other, lock):
        await lock("SELECT FROM incidents FOR UPDATE")
        await execute(NOTE)
        waiting = asyncio.create_task(stage.engine.using(connection).acknowledge("k"))
        await until_waiting(other)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await other.rollback()
        await connection.commit()
    assert 1 == len(stage.rows("SELECT note FROM notes"))
    assert [None] == stage.rows("SELECT acknowledged_at FROM incidents")


@contextmanager
def psycopg_sync(dsn: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with psycopg.connect(dsn) as connection:
        yield connection, lambda statement: connection.execute(statement.encode())


@contextmanager
def sync_connection(dsn: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    engine = sqlalchemy.create_engine(url(dsn))
    with engine.connect() as connection:
        yield connection, lambda statement: connection.execute(sqlalchemy.text(statement))
    engine.dispose()


@contextmanager
def sync_session(dsn: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    engine = sqlalchemy.create_engine(url(dsn))
    with Session(engine) as session:
        yield session, lambda statement: session.execute(sqlalchemy.text(statement))
    engine.dispose()


@pytest.mark.parametrize("kind", [psycopg_sync, sync_connection, sync_session])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_blocking_verb_and_host_rows_are_one_transaction(migrated_dsn: str, kind: Any, end: str) -> None:
    """Blocking verbs commit and roll back with the host's transaction, with a blocking engine and without one."""

    async def make() -> Engine:
        return Engine(await PostgresStore.connect(migrated_dsn))

    with BlockingEngine(make) as engine:
        for key, using in (
            ("engine", engine.using),
            ("none", lambda connection: blocking_verbs(connection, Settings())),
        ):
            with kind(migrated_dsn) as (connection, execute):
                execute("CREATE TABLE IF NOT EXISTS notes (note text)")
                execute(NOTE)
                verbs: BlockingVerbs = using(connection)
                for verb, more in VERBS[-1:] + VERBS[2:]:
                    getattr(verbs, verb)(key, *more)
                getattr(connection, end)()
    with psycopg.connect(migrated_dsn) as connection:
        found = connection.execute("SELECT incident_key FROM incidents ORDER BY 1").fetchall()
        made = connection.execute("SELECT to_regclass('notes') IS NOT NULL").fetchone()
        notes = connection.execute("SELECT FROM notes").fetchall() if made == (True,) else []
    assert ([("engine",), ("none",)] if end == "commit" else []) == found
    assert len(found) == len(notes)


async def test_rows_that_a_session_has_just_added_are_found(stage: Stage) -> None:
    """A session of SQLAlchemy is flushed before a verb reads, as before the session's own queries."""
    table = sqlalchemy.Table(
        "incidents",
        sqlalchemy.MetaData(),
        sqlalchemy.Column("incident_key", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("severity", sqlalchemy.Text),
    )
    registry = sqlalchemy.orm.registry()

    class Incident:
        incident_key: str

    registry.map_imperatively(Incident, table)
    async with alchemy_session(stage.dsn) as (session, _):
        added = Incident()
        added.incident_key = "added"
        session.add(added)
        await stage.engine.using(session).acknowledge("added")
        await session.commit()
    assert ["added"] == stage.rows("SELECT incident_key FROM incidents WHERE acknowledged_at IS NOT NULL")


async def test_error_of_the_rows_of_a_session_is_the_hosts_own(stage: Stage) -> None:
    """A flush that the database refuses raises SQLAlchemy's error, as without a verb, and no other one."""
    stage.incident("taken")
    registry = sqlalchemy.orm.registry()

    class Incident:
        incident_key: str

    keyed = sqlalchemy.Table(
        "incidents", registry.metadata, sqlalchemy.Column("incident_key", sqlalchemy.Text, primary_key=True)
    )
    registry.map_imperatively(Incident, keyed)
    async with alchemy_session(stage.dsn) as (session, _):
        twice = Incident()
        twice.incident_key = "taken"
        session.add(twice)
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="duplicate key"):
            await stage.engine.using(session).acknowledge("taken")


async def test_synchronous_connection_of_an_asynchronous_host(stage: Stage) -> None:
    """A verb of an engine may work on a synchronous connection, and then blocks the event loop."""
    with psycopg_sync(stage.dsn) as (connection, _):
        await stage.engine.using(connection).open("k")
    assert ["k"] == stage.rows("SELECT incident_key FROM incidents")


async def test_blocking_verbs_refuse_an_asynchronous_connection(stage: Stage) -> None:
    """A blocking call cannot wait, so an asynchronous connection is refused before anything runs on it."""
    async with psycopg_async(stage.dsn) as (connection, _):
        with pytest.raises(ValueError, match="connection: is asynchronous, and this call blocks; give a synchronous"):
            blocking_verbs(connection, Settings()).open("k")
        await connection.execute("SELECT 1")


def test_verbs_of_both_kinds_are_the_same() -> None:
    """Each verb on an incident has its blocking form."""
    assert {name for name in vars(IncidentVerbs) if not name.startswith("_")} == {
        name for name in vars(BlockingVerbs) if not name.startswith("_")
    }
