"""If a connection stops responding at either end, neither a worker nor a row waits for ever."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import attrs
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from escalation_adapters.postgres import PostgresStore, timeouts
from escalation_adapters.postgres.transaction import PostgresTransaction
from escalation_core import Engine, StoreUnavailable
from escalation_core.model import Canary
from escalation_core.ports import Transaction
from escalation_core.testing import RecordingNotifier

BEGUN, READY = b"C\0\0\0\x0aBEGIN\0", b"Z\0\0\0\x05T"
CRASHED = b"E\0\0\0\x29SFATAL\0C08P01\0Mserver conn crashed?\0\0"
"""The error that pgbouncer sends for a server that is gone, as a message of PostgreSQL's protocol."""
IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
)


@attrs.define
class Wire:
    """A proxy that can stop forwarding on all open connections, or change a reply."""

    dsn: str
    altered: tuple[bytes, bytes] | None = None
    """Bytes to replace and their replacement. After a replacement the proxy closes the connection."""
    silent: "set[asyncio.Task[None]]" = attrs.field(factory=set)
    pumps: "set[asyncio.Task[None]]" = attrs.field(factory=set)

    def fall_silent(self) -> None:
        self.silent |= self.pumps

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = conninfo_to_dict(self.dsn)
        there = await asyncio.open_connection(
            str(parts.get("hostaddr") or parts["host"]), int(parts.get("port") or 5432)
        )
        for source, sink in ((reader, there[1]), (there[0], writer)):
            self.pumps.add(asyncio.create_task(self.pump(source, sink)))

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        try:
            while data := await source.read(65536):
                if self.altered is not None and self.altered[0] in data:
                    sink.write(data.replace(*self.altered))
                    return
                if me not in self.silent:
                    sink.write(data)
        finally:
            sink.close()


@asynccontextmanager
async def wire(dsn: str) -> AsyncIterator[tuple[Wire, str]]:
    made = Wire(dsn)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield made, make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
    finally:
        server.close()
        for pump in made.pumps:
            pump.cancel()
        await asyncio.gather(*made.pumps, return_exceptions=True)


@pytest.mark.direct("its wire leads to the server itself; tests/faults has one that leads to a pooler")
async def test_half_open_connections_do_not_block_a_worker(
    migrated_dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that stops answering costs one call its timeout. The store does not try other old connections again."""
    monkeypatch.setattr(timeouts, "CALL_TIMEOUT", 0.5)
    monkeypatch.setattr(timeouts, "GRACE", 0.2)
    async with wire(migrated_dsn) as (between, dsn), Engine(await PostgresStore.connect(dsn)) as engine:
        await asyncio.gather(*(engine.open(f"k{number}") for number in range(20)))
        between.fall_silent()
        with caplog.at_level(logging.WARNING), pytest.raises(StoreUnavailable, match="not available"):
            await asyncio.wait_for(engine.open("late"), 10)
        assert "late" == (await asyncio.wait_for(engine.open("late"), 0.5)).incident_key
    assert 1 == caplog.text.count("has not answered for")


@pytest.mark.direct("its wire leads to the server itself; tests/faults has one that leads to a pooler")
async def test_error_in_the_middle_of_a_reply_is_temporary(migrated_dsn: str) -> None:
    """An error of a pooler in the middle of a reply raises StoreUnavailable. The next call works."""
    async with wire(migrated_dsn) as (between, dsn), Engine(await PostgresStore.connect(dsn)) as engine:
        between.altered = (BEGUN + READY, BEGUN + CRASHED)
        with pytest.raises(StoreUnavailable, match=r"received 2 results from command 'BEGIN |server conn crashed"):
            await engine.open("k")
        between.altered = None
        assert "k" == (await engine.open("k")).incident_key


async def test_call_that_waits_for_a_lock_is_cancelled(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits for a lock is cancelled after its timeout, so no session stays in the lock's queue."""
    monkeypatch.setattr(timeouts, "CALL_TIMEOUT", 0.3)
    monkeypatch.setattr(timeouts, "GRACE", 5.0)
    async with Engine(await PostgresStore.connect(migrated_dsn)) as engine:
        with psycopg.connect(migrated_dsn) as holder, psycopg.connect(migrated_dsn, autocommit=True) as observer:
            holder.execute("LOCK TABLE incidents IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreUnavailable, match="canceling statement due to user request"):
                await asyncio.wait_for(engine.open("k"), 4)
            waiting = observer.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            assert (0,) == waiting


async def test_worker_that_stops_loses_its_rows(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops within a transaction loses the transaction. Another worker gets the locked rows."""
    monkeypatch.setattr(timeouts, "IDLE", 0.3)
    still, other = await PostgresStore.connect(migrated_dsn), await PostgresStore.connect(migrated_dsn)
    holds = asyncio.Event()
    goes_on = asyncio.Event()

    async def claim(tx: Transaction) -> int:
        return len(await tx.incidents.claim(until=await tx.now(), limit=10, canary=Canary()))

    async def claim_and_stand_still(tx: Transaction) -> None:
        assert 1 == await claim(tx)
        holds.set()
        await goes_on.wait()
        await tx.now()

    async with Engine(other, notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k", severity="critical", first_seen=datetime.now(UTC) - timedelta(hours=1))
        standing = asyncio.create_task(still.transact(claim_and_stand_still))
        await holds.wait()
        assert 0 == await other.transact(claim)
        for _ in range(100):
            if await other.transact(claim):
                break
            await asyncio.sleep(0.05)
        assert 1 == (await engine.tick()).escalated
        goes_on.set()
        # The driver first reads either the server's last message or the end of the connection.
        with pytest.raises(StoreUnavailable, match=r"idle-in-transaction|closed the connection"):
            await standing
    await still.aclose()


async def test_worker_that_stops_after_queued_statements_loses_its_rows(
    migrated_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends every transaction whose worker stops right after the store sent queued statements."""
    monkeypatch.setattr(timeouts, "IDLE", 0.3)
    store = await PostgresStore.connect(migrated_dsn)
    idle = asyncio.Semaphore(0)
    goes_on = asyncio.Event()

    async def stand_still(tx: Transaction) -> None:
        assert isinstance(tx, PostgresTransaction)
        for _ in range(2):
            await tx._session.later("lock_timeout")
        await tx._session.flush()
        idle.release()
        await goes_on.wait()
        await tx.outbox.fences([1])

    standing = [asyncio.create_task(store.transact(stand_still)) for _ in range(4)]
    for _ in standing:
        await idle.acquire()
    with psycopg.connect(migrated_dsn, autocommit=True) as observer:
        for _ in range(100):
            if (0,) == observer.execute(IN_TRANSACTION).fetchone():
                break
            await asyncio.sleep(0.05)
    goes_on.set()
    errors = await asyncio.gather(*standing, return_exceptions=True)
    await store.aclose()
    assert [StoreUnavailable] * len(standing) == [type(error) for error in errors]
