"""The harnesses of the library's own stores."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.host import PostgresHost
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Store
from escalation_core.testing import HostTable, ManualClock, MemoryStore
from escalation_core.testing.conformance import Capabilities, StoreHarness

from ..postgres import Server


class MemoryHarness:
    """A harness of MemoryStore, which has one handle on each store."""

    capabilities = Capabilities()

    async def open(self, clock: ManualClock) -> Store:
        return MemoryStore(clock)

    async def again(self, store: Store) -> Store:
        return store

    def host(self, store: Store) -> HostTable:
        return cast("MemoryStore", store).host

    async def aclose(self) -> None:
        pass


class SQLiteHarness:
    """A harness of SQLiteStore: each store is a file."""

    capabilities = Capabilities()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stores: list[SQLiteStore] = []

    async def open(self, clock: ManualClock) -> Store:
        return await self._connect(self._folder / f"{len(self._stores)}.db", clock)

    async def again(self, store: Store) -> Store:
        file = cast("SQLiteStore", store)
        return await self._connect(Path(file.path), cast("ManualClock", file.clock))

    async def _connect(self, path: Path, clock: ManualClock) -> Store:
        store = await SQLiteStore.connect(path, clock=clock)
        self._stores.append(store)
        return store

    def host(self, store: Store) -> HostTable:
        return cast("SQLiteStore", store).host

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


class PostgresHarness:
    """A harness of PostgresStore: each store is a database, copied from a migrated one."""

    capabilities = Capabilities(concurrent=True)

    def __init__(self, server: Server, template: str) -> None:
        self._server = server
        self._template = template
        self._databases: dict[str, str] = {}
        self._stores: dict[PostgresStore, str] = {}

    async def open(self, clock: ManualClock) -> Store:
        name = f"conformance_{secrets.token_hex(6)}"
        dsn = self._server.create(name, self._template)
        self._databases[name] = dsn
        return await self._connect(dsn, clock)

    async def again(self, store: Store) -> Store:
        postgres = cast("PostgresStore", store)
        return await self._connect(self._stores[postgres], cast("ManualClock", postgres.clock))

    async def _connect(self, dsn: str, clock: ManualClock) -> Store:
        store = await PostgresStore.connect(dsn, clock=clock)
        self._stores[store] = dsn
        return store

    def host(self, store: Store) -> HostTable:
        postgres = cast("PostgresStore", store)
        return PostgresHost(self._stores[postgres], postgres.table)

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()
        for name in self._databases:
            self._server.drop(name)


@asynccontextmanager
async def opened(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[StoreHarness]:
    """Make the harness that a fixture's parameter names, and close it afterwards."""
    made: MemoryHarness | SQLiteHarness | PostgresHarness
    if request.param == "memory":
        made = MemoryHarness()
    elif request.param == "sqlite":
        made = SQLiteHarness(folder)
    else:
        server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("migrated_template")
        made = PostgresHarness(server, template)
    yield made
    await made.aclose()
