"""Run the first tier of the conformance checks on JsonStore: ``python check_json_store.py``."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import attrs

from escalation_core import Store
from escalation_core.testing import HostTable, ManualClock
from escalation_core.testing.conformance import PAGING_CHECKS, Capabilities
from escalation_core.testing.host import BLANK, Row, host_insert, host_update
from json_store import JsonStore, JsonTransaction


@attrs.frozen
class JsonHost:
    """The host's own writes to rows. For an SQL database this class runs plain SQL, and triggers act on it."""

    store: JsonStore

    async def insert(self, incident_key: str, **columns: Any) -> None:
        async def work(tx: JsonTransaction) -> None:
            highest = await tx.ledger.highest_episode(incident_key)
            row = host_insert(incident_key, columns, highest_episode=highest, now=await tx.now())
            put(tx, row)

        await self.store.transact(work)

    async def update(self, incident_key: str, /, **columns: Any) -> None:
        async def work(tx: JsonTransaction) -> None:
            now, before = await tx.now(), tx.tables.incidents.pop(incident_key)
            highest = await tx.ledger.highest_episode(columns.get("incident_key", incident_key))
            update = host_update(before, columns, highest_episode=highest, now=now)
            put(tx, update.row)
            if update.cancel is not None:
                await tx.outbox.cancel(incident_key, update.cancel, now)
            await tx.journal.note(update.notes)

        await self.store.transact(work)

    async def past_triggers(self, incident_key: str, **columns: Any) -> None:
        async def work(tx: JsonTransaction) -> None:
            new = {"incident_key": incident_key, "first_seen": await tx.now(), **BLANK}
            tx.tables.incidents[incident_key] = tx.tables.incidents.get(incident_key, new) | columns

        await self.store.transact(work)

    async def delete(self, incident_key: str) -> None:
        async def work(tx: JsonTransaction) -> None:
            tx.tables.incidents.pop(incident_key, None)

        await self.store.transact(work)

    async def rows(self) -> Mapping[str, Row]:
        async def work(tx: JsonTransaction) -> Mapping[str, Row]:
            return tx.tables.incidents

        return await self.store.read(work)


def put(tx: JsonTransaction, row: Row) -> None:
    """Write a host's row. Workers no longer pass it over."""
    tx.tables.incidents[row["incident_key"]] = row
    tx.tables.passed_over.pop(row["incident_key"], None)


@attrs.frozen
class JsonHarness:
    """Makes stores on new files in a folder. A file has one handle, and writers take turns."""

    folder: Path
    capabilities: Capabilities = attrs.field(factory=Capabilities)

    async def open(self, clock: ManualClock) -> Store:
        return JsonStore(Path(mkdtemp(dir=self.folder), "store.json"), clock)

    async def again(self, store: Store) -> Store:
        return store

    def host(self, store: Store) -> HostTable:
        assert isinstance(store, JsonStore)
        return JsonHost(store)


async def main() -> None:
    """Run each check on a harness of its own."""
    with TemporaryDirectory() as folder:
        for check in PAGING_CHECKS:
            await check(JsonHarness(Path(folder)))
    print(len(PAGING_CHECKS), "checks passed")


if __name__ == "__main__":
    asyncio.run(main())
