"""Tests of servers that crash, restart, take no writes or are out of reach, and of the store's errors."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.postgres import PostgresStore, migrate, pool
from escalation_core import Engine, Incident, InvalidValue, StoreUnavailable
from escalation_core.ports import Transaction
from escalation_core.rules.gate import Mode
from escalation_core.testing import RecordingNotifier

from ..postgres import own_server
from .workers import MANY, overdue, page_states, recorded, select, until

OTHERS: LiteralString = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_terminated_connection_costs_one_call_at_most(migrated_dsn: str) -> None:
    """If an operator ends the engine's connections, the running call fails, and later calls succeed."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=2)
    end: LiteralString = "SELECT pg_terminate_backend(%(pid)s::int)"

    async def work(tx: Transaction) -> None:
        anything: Any = tx
        # Ask the server for the pid: a pooler reports a pid of its own.
        cursor = await anything.incidents.session.connection.execute("SELECT pg_backend_pid()")
        select(migrated_dsn, end, pid=(await cursor.fetchone())[0])
        await tx.incidents.load("k")

    async with Engine(store) as engine:
        with pytest.raises(StoreUnavailable, match="terminating connection"):
            await store.transact(work)
        await engine.open("k")
        mine = select(
            migrated_dsn,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        for pid in mine:
            select(migrated_dsn, end, pid=pid)
        await until(lambda: select(migrated_dsn, OTHERS) == [0])
        assert 1 == (await engine.acknowledge("k")).episode


@pytest.mark.direct("a pooler may refuse a call just after the server is back")
@own_server
async def test_restart_costs_no_call_once_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart of the server kills the pool's eight idle connections; the first tick afterwards succeeds."""
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 2.0)
    with EmbeddedPostgres.start() as server:
        await migrate.up(server.dsn(), create=True)
        store = await PostgresStore.connect(server.dsn())
        everybody = asyncio.Barrier(8)

        async def work(tx: Transaction) -> None:
            await everybody.wait()

        async with Engine(store) as engine:
            await asyncio.gather(*(store.transact(work) for _ in range(8)))
            server.crash()
            server.restart()
            assert Mode.OPEN is (await engine.tick()).mode


async def test_read_only_database_is_temporary(migrated_dsn: str) -> None:
    """For a read-only database, for example a standby before its promotion, the store raises ``StoreUnavailable``."""
    name = conninfo_to_dict(migrated_dsn)["dbname"]
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    async with Engine(await PostgresStore.connect(migrated_dsn)) as engine:
        with pytest.raises(StoreUnavailable, match="read-only transaction"):
            await engine.open("k")


@pytest.mark.direct("a pooler may refuse a call just after the server is back; tests/faults has such outages")
@own_server
async def test_store_survives_an_outage(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """If the server dies in mid-tick, each tick raises one clear error; after the restart the same store works."""
    # It must not be less: 2.2 seconds may pass between two attempts of the pool.
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 2.5)
    with EmbeddedPostgres.start(durable=True) as server:
        dsn = make_conninfo(server.dsn(), password="hunter2-hunter2")
        await migrate.up(dsn, create=True)
        keys = overdue(dsn, 500)
        routed: list[str] = []

        class Router:
            """A router that kills the server at the 120th call."""

            def route(self, incident: Incident, level: int) -> Sequence[str]:
                routed.append(incident.incident_key)
                if len(routed) == 120:
                    server.crash()
                return ["test"]

        notifier = RecordingNotifier()
        store = await PostgresStore.connect(dsn)
        async with Engine(store, settings=MANY, notifiers=[notifier], router=Router(), batch_size=50) as engine:
            # Several connections of the pool are open when the server dies, and each of them is dead afterwards.
            await asyncio.gather(*(engine.health() for _ in range(8)))
            faults = []
            for _ in range(2):
                with pytest.raises(StoreUnavailable) as fault:
                    await engine.tick()
                faults.append(str(fault.value))
            server.restart()
            # The server may have died before the commit of the previous batch.
            before = len(recorded(dsn))
            assert before in (50, 100)
            await asyncio.gather(*(engine.health() for _ in range(8)))
            assert 500 - before == (await engine.tick()).escalated
        assert [(key, 1, 1) for key in sorted(keys)] == recorded(dsn)
        assert {"delivered": 500} == page_states(dsn)
    assert [True, True] == [fault.startswith("PostgreSQL ") and "\n" not in fault for fault in faults]
    assert "hunter2" not in "".join(faults) + caplog.text


@pytest.mark.direct("it is refused before anything connects")
@pytest.mark.parametrize(
    "dsn",
    [
        "postgres:/ann:hunter2@localhost/incidents",
        "postgresql://ann:hun%ter2@localhost/incidents",
        "postgresql://ann:hunter2/x@localhost/incidents",
        "postgresql://ann:x@hunter2@localhost/incidents",
        "host=localhost password=x hunter2",
    ],
)
async def test_dsn_that_cannot_be_read_is_not_quoted(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error for a faulty connection string quotes no part of the string: each part may belong to the password."""
    caplog.set_level(logging.DEBUG)
    for call in (PostgresStore.connect, migrate.up, migrate.status):
        with pytest.raises(InvalidValue, match="dsn: ") as refusal:
            await call(dsn)
        assert "hunter2" not in f"{refusal.value!r} {refusal.value}" + caplog.text
        assert "hun%ter2" not in str(refusal.value)


@pytest.mark.direct("a pooler that is reached stands for a server that is not")
async def test_server_out_of_reach_is_one_clear_line() -> None:
    """If no server answers, the store raises ``StoreUnavailable``: one line with the address, without the password."""
    with pytest.raises(StoreUnavailable, match=r"^PostgreSQL is not available: .*127\.0\.0\.1.*$") as fault:
        await PostgresStore.connect("postgresql://ann:hunter2@127.0.0.1:1/incidents")
    assert "hunter2" not in str(fault.value)
    assert fault.value.__cause__ is None
