"""Verbs and attaches of unusual hosts: cancelled at each wait, in threads on one connection, with own adapters."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Generator
from typing import Any

import attrs
import psycopg
import pytest
import sqlalchemy
from psycopg.adapt import Dumper
from psycopg.pq import TransactionStatus

from escalation_adapters.blocking_verbs import finish
from escalation_adapters.postgres import PostgresStore, migrate
from escalation_adapters.postgres.host_transaction import Database, blocking_verbs
from escalation_core import Engine, Settings

from .host_tables import execute
from .migrations import select
from .stage import staged
from .test_verbs_in_host_transaction import url

pytestmark = pytest.mark.direct("the host's own connection does not go through the pooler")
TABLE = """
CREATE TABLE incidents (
    incident_key text PRIMARY KEY,
    severity text NOT NULL DEFAULT 'none',
    urgency text NOT NULL DEFAULT 'none',
    first_seen timestamptz NOT NULL DEFAULT now()
)
"""


@attrs.define
class CancelledAt:
    """Awaits a coroutine, and cancels the task at its n-th wait."""

    coroutine: Coroutine[Any, Any, Any]
    wait: int
    waits: int = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        future = yield from self._step(lambda: self.coroutine.send(None))
        return future

    def _step(self, resume: Any) -> Generator[Any, Any, Any]:
        while True:
            try:
                future = resume()
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self.waits == self.wait:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield future
                resume = lambda: self.coroutine.send(None)  # noqa: E731 - what goes on depends on how the wait ended
            except BaseException as error:  # noqa: BLE001 - the coroutine gets it
                resume = lambda error=error: self.coroutine.throw(error)  # noqa: E731


async def cancelled(coroutine: Coroutine[Any, Any, Any], wait: int) -> bool:
    """Await a coroutine that is cancelled at a wait; return whether it came to that wait."""
    step = CancelledAt(coroutine, wait)

    async def work() -> None:
        await step

    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.create_task(work())
    return step.waits >= wait


async def test_verb_that_is_cancelled_writes_all_or_nothing(migrated_dsn: str) -> None:
    """At whichever wait a verb is cancelled, the host's transaction goes on, with its own savepoints and settings."""
    async with staged(migrated_dsn) as stage:
        stage.sql("CREATE TABLE notes (note int)")
        wait, came = 0, True
        while came:
            wait += 1
            async with await psycopg.AsyncConnection.connect(migrated_dsn) as connection:
                await connection.execute("SET LOCAL lock_timeout = '7s'")
                await connection.execute("SAVEPOINT escalation_0")
                await connection.execute("INSERT INTO notes VALUES (%s)", [wait])
                came = await cancelled(stage.engine.using(connection).open(f"k{wait}"), wait)
                assert TransactionStatus.INTRANS == connection.info.transaction_status
                timeout = await (await connection.execute("SHOW lock_timeout")).fetchone()
                assert ("7s",) == timeout
        keys = stage.rows("SELECT incident_key FROM incidents ORDER BY incident_key")
        assert keys == stage.rows("SELECT incident_key FROM escalation_audit ORDER BY incident_key")
        assert f"k{wait}" in keys
        assert wait == len(stage.rows("SELECT note FROM notes"))
        assert wait > 5


async def test_attach_that_is_cancelled_leaves_nothing(pg_dsn: str) -> None:
    """At whichever wait an attach is cancelled, a host that commits all the same has no half of it."""
    execute(pg_dsn, TABLE)
    wait, came = 0, True
    while came:
        wait += 1
        async with await psycopg.AsyncConnection.connect(pg_dsn) as connection:
            came = await cancelled(migrate.attach_within(connection), wait)
            if connection.closed:
                continue  # psycopg closes a connection whose statement fails while it is cancelled
            assert TransactionStatus.INTRANS == connection.info.transaction_status
            await connection.commit()
        if came and select(pg_dsn, "SELECT FROM pg_class WHERE relname = 'escalation_meta'"):
            assert [] == await migrate.check(pg_dsn), wait  # cancelled at its very end, when it was complete
            await migrate.detach(pg_dsn, drop_tables=True)
    assert [] == await migrate.check(pg_dsn)
    assert wait > 50


class Wrong(Dumper):
    """Dumps every value as the same text."""

    oid = psycopg.adapters.types["text"].oid

    def dump(self, obj: object) -> bytes:
        return b"wrong"


async def test_dumpers_of_the_host_do_not_matter(migrated_dsn: str) -> None:
    """A host may dump types as it likes: the verbs write their own values."""
    async with staged(migrated_dsn) as stage:
        async with await psycopg.AsyncConnection.connect(migrated_dsn) as connection:
            for kind in (str, int, bool, type(stage.clock()), dict, type(None)):
                connection.adapters.register_dumper(kind, Wrong)
            await stage.engine.using(connection).open("k", severity="warning", labels={"team": "red"})
        incident = (await stage.engine.history("k")).incident
        assert incident is not None
        assert ("warning", {"team": "red"}) == (incident.severity, incident.labels)


def test_threads_take_turns_on_one_connection(migrated_dsn: str) -> None:
    """Threads that share a connection, which psycopg allows, run their verbs one after the other."""
    with psycopg.connect(migrated_dsn) as connection:
        verbs = blocking_verbs(connection, Settings())
        work = [threading.Thread(target=lambda n=n: [verbs.open(f"{n}-{m}") for m in range(10)]) for n in range(4)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert [40] == select(migrated_dsn, "SELECT count(*) FROM incidents")


@pytest.fixture
def plain_role(migrated_dsn: str) -> Any:
    """The DSN of a role that may not read the identifier of the cluster, as on hardened servers."""
    role = f"plain_{migrated_dsn.partition('test_')[2][:12]}"
    execute(
        migrated_dsn,
        f"CREATE ROLE {role} LOGIN; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC;"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
    )
    yield psycopg.conninfo.make_conninfo(migrated_dsn, user=role)
    execute(migrated_dsn, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_cluster_that_a_role_may_not_identify(migrated_dsn: str, plain_role: str) -> None:
    """Without the right to pg_control_system stores connect and verbs work, on either side."""
    for of_store, of_host in ((migrated_dsn, plain_role), (plain_role, migrated_dsn), (plain_role, plain_role)):
        async with (
            Engine(await PostgresStore.connect(of_store)) as engine,
            await psycopg.AsyncConnection.connect(of_host) as connection,
        ):
            assert "open" == (await engine.using(connection).open("k")).state


def test_databases_of_two_servers_differ() -> None:
    """Databases of one number differ by the identifier of their cluster, if both roles may read the identifier."""
    assert not Database(5, 1).may_be(Database(5, 2))
    assert not Database(5, 1).may_be(Database(6, 1))
    assert Database(5, 1).may_be(Database(5, 1))
    assert Database(5, 1).may_be(Database(5, None))


async def test_encoding_that_cannot_carry_each_text(migrated_dsn: str) -> None:
    """A connection that encodes texts in another way than UTF-8 is refused, whatever the text."""
    async with (
        staged(migrated_dsn) as stage,
        await psycopg.AsyncConnection.connect(migrated_dsn, client_encoding="LATIN1") as connection,
    ):
        with pytest.raises(ValueError, match=r"has the client encoding LATIN1, .*; set client_encoding to UTF8"):
            await stage.engine.using(connection).open("k")


def test_raw_connection_of_sqlalchemy(migrated_dsn: str) -> None:
    """What ``raw_connection`` returns holds the driver's connection."""
    engine = sqlalchemy.create_engine(url(migrated_dsn))
    raw = engine.raw_connection()
    blocking_verbs(raw, Settings()).open("k")
    raw.commit()
    raw.close()
    engine.dispose()
    assert ["k"] == select(migrated_dsn, "SELECT incident_key FROM incidents")


def test_mapping_of_an_attach_that_was_rolled_back(pg_dsn: str) -> None:
    """Verbs forget the mapping of an attach that the host rolled back: the next attach has another one."""
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(TABLE)
        connection.commit()
        finish(migrate.attach_within(connection, columns={"severity": "urgency"}))
        blocking_verbs(connection, Settings()).open("k", severity="critical")
        connection.rollback()
        finish(migrate.attach_within(connection))
        blocking_verbs(connection, Settings()).open("k", severity="critical")
    assert [("critical", "none")] == select(pg_dsn, "SELECT severity, urgency FROM incidents")


async def test_mapping_after_the_tables_were_dropped(pg_dsn: str) -> None:
    """A store that is open notices another mapping, also if the engine's tables were dropped between two attaches."""
    execute(pg_dsn, TABLE)
    await migrate.attach(pg_dsn, columns={"severity": "urgency"})
    async with Engine(await PostgresStore.connect(pg_dsn)) as engine:
        await engine.open("before", severity="critical")
        await migrate.detach(pg_dsn, drop_tables=True)
        await migrate.attach(pg_dsn, existing="page")
        await engine.open("k", severity="critical")
    assert [("critical", "none")] == select(
        pg_dsn, "SELECT severity, urgency FROM incidents WHERE incident_key = %s", "k"
    )
