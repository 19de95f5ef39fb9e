"""Tests of a DSN with several servers, of which one takes writes; after a failover another server takes writes."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import attrs
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.postgres import PostgresStore, migrate, timeouts
from escalation_core import Engine, StoreUnavailable

from ..postgres import own_server

pytestmark = [own_server, pytest.mark.direct("a pooler is one host; the driver goes to several here")]


@attrs.define
class Pair:
    """Two servers without replication between them: the tests only need to know which server takes writes."""

    servers: tuple[EmbeddedPostgres, EmbeddedPostgres]

    @property
    def dsn(self) -> str:
        ports = ",".join(str(server.port) for server in self.servers)
        return f"host=127.0.0.1,127.0.0.1 port={ports} user=postgres dbname=postgres target_session_attrs=read-write"

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    def lead(self, leader: int) -> None:
        """Let one server take writes and the other refuse writes, also on connections that are already open."""
        for number, server in enumerate(self.servers):
            setting(server, "default_transaction_read_only", "off" if number == leader else "on")


def setting(server: EmbeddedPostgres, name: str, value: str) -> None:
    """Change a setting of a server; return when a session has the new value."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute(f"SHOW {name}".encode()).fetchone() != (value,):
            pass


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with EmbeddedPostgres.start() as one, EmbeddedPostgres.start() as other:
        for server in (one, other):
            asyncio.run(migrate.up(server.dsn(), create=True))
        yield Pair((one, other))


@pytest.fixture
def pair(servers: Pair) -> Iterator[Pair]:
    """The two servers; the first one takes writes."""
    servers.lead(0)
    yield servers
    servers.lead(0)


@pytest.mark.parametrize("form", ["dsn", "url"])
@pytest.mark.parametrize("leader", [0, 1])
async def test_the_one_that_writes_is_found(pair: Pair, form: str, leader: int) -> None:
    """With both forms of a DSN the store finds the server that takes writes, anywhere in the list."""
    pair.lead(leader)
    await migrate.up(getattr(pair, form), create=True)
    async with Engine(await PostgresStore.connect(getattr(pair, form))) as engine:
        await engine.open(f"{form}-{leader}")
    with psycopg.connect(pair.servers[leader].dsn()) as connection:
        found = connection.execute("SELECT FROM incidents WHERE incident_key = %s", [f"{form}-{leader}"]).fetchall()
    assert 1 == len(found)


def test_the_command_takes_several_hosts(pair: Pair) -> None:
    """The command line takes a URL that names several hosts."""
    pair.lead(1)
    for command in (["migrate", "status"], ["open", "by-command"], ["show", "by-command"]):
        done = subprocess.run(
            [sys.executable, "-c", "from escalation_adapters.program import main; main()", *command],
            env={**os.environ, "ESC_DATABASE_URL": pair.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert 0 == done.returncode, done.stdout + done.stderr


async def test_connections_that_were_never_lent_are_left_with_the_others(pair: Pair) -> None:
    """After the first refused write the pool also drops connections that it never lent; later calls succeed."""
    store = await PostgresStore.connect(pair.dsn)
    async with Engine(store) as engine:
        await store._pool._connections.resize(4, 8)
        await store._pool._connections.wait(10)
        pair.lead(1)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await engine.open("refused")
        await asyncio.gather(*(engine.open(f"late{number}") for number in range(4)))


async def test_a_connection_in_the_making_is_left_with_the_others(pair: Pair) -> None:
    """If a failover happens while the pool makes a connection, the pool suspects it, and trusts a later connection."""
    store = await PostgresStore.connect(pair.dsn)
    making = asyncio.create_task(store._pool._connections.connection_class.connect(pair.dsn))
    # Let the task begin: it then waits for the server.
    await asyncio.sleep(0)
    store._pool._distrust()
    async with await making as made:
        assert made in store._pool._suspect
    async with await store._pool._connections.connection_class.connect(pair.dsn) as later:
        assert later not in store._pool._suspect
    await store.aclose()


async def test_pool_leaves_a_primary_that_has_become_read_only(pair: Pair) -> None:
    """After the first write that a former primary refuses, the pool drops its connections and finds the new primary."""
    async with Engine(await PostgresStore.connect(pair.dsn)) as engine:
        await asyncio.gather(*(engine.open(f"k{number}") for number in range(20)))
        pair.lead(1)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await engine.open("refused")
        await asyncio.gather(*(engine.open(f"late{number}") for number in range(20)))
    with psycopg.connect(pair.servers[1].dsn()) as connection:
        assert (20,) == connection.execute("SELECT count(*) FROM incidents WHERE incident_key ^@ 'late'").fetchone()


async def test_silent_host_leaves_time_for_the_next(pair: Pair) -> None:
    """A server that takes connections but never answers costs a share of the time limit; the store tries the next."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        dsn = make_conninfo(pair.dsn, host="127.0.0.1," * 2 + "127.0.0.1", port=f"{port},{port},{pair.servers[0].port}")
        async with Engine(await PostgresStore.connect(dsn)) as engine:
            await engine.open("k")


async def test_commit_that_no_standby_has_is_not_confirmed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store does not confirm a commit that waits for a standby until timeout: a failover may lose the commit."""
    monkeypatch.setattr(timeouts, "CALL_TIMEOUT", 0.3)
    async with Engine(await PostgresStore.connect(pair.dsn)) as engine:
        await engine.open("k")
        setting(pair.servers[0], "synchronous_standby_names", "nobody")
        try:
            with pytest.raises(StoreUnavailable, match="given up"):
                await engine.acknowledge("k")
        finally:
            with psycopg.connect(pair.servers[0].dsn(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
                connection.execute("SELECT pg_reload_conf()")
        assert "acknowledged" == (await engine.acknowledge("k")).state
