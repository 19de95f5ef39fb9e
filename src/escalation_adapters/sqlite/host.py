"""Write to the incidents table as a host would: its SQL and the triggers, imitated in Python. For tests."""

from collections.abc import Mapping
from typing import Any

import attrs

from escalation_core import Store
from escalation_core.testing import Clock
from escalation_core.testing.host import BLANK, Row, host_insert, host_update

from .codec import WHOLE, from_row, to_row
from .incidents import WRITE

_SEEN = "UPDATE escalation_unreadable SET passed_until = NULL WHERE incident_key = ?"


@attrs.frozen
class SQLiteHost:
    """Writes to the incidents table as a host would: the ``HostTable`` of the conformance checks."""

    store: Store
    clock: Clock

    async def insert(self, incident_key: str, **columns: Any) -> None:
        """Insert a row."""

        async def work(tx: Any) -> None:
            highest = await tx.ledger.highest_episode(incident_key)
            row = host_insert(incident_key, columns, highest_episode=highest, now=self.clock())
            await tx.incidents.session.run(WRITE, to_row(row))
            await tx.incidents.session.run(_SEEN, (incident_key,))

        await self.store.transact(work)

    async def update(self, incident_key: str, /, **columns: Any) -> None:
        """Update columns of a row."""

        async def work(tx: Any) -> None:
            before, now = (await self._rows(tx))[incident_key], self.clock()
            highest = await tx.ledger.highest_episode(columns.get("incident_key", incident_key))
            done = host_update(before, columns, highest_episode=highest, now=now)
            await self._write(tx, incident_key, done.row)
            await tx.incidents.session.run(_SEEN, (done.row["incident_key"],))
            if done.cancel is not None:
                await tx.outbox.cancel(incident_key, done.cancel, now)
            await tx.journal.note(done.notes)
            await tx.notices.note(done.changes)

        await self.store.transact(work)

    async def past_triggers(self, incident_key: str, **columns: Any) -> None:
        """Insert a row, or update it, as if the triggers were off."""

        async def work(tx: Any) -> None:
            new = {"incident_key": incident_key, "first_seen": self.clock(), **BLANK}
            await self._write(tx, incident_key, ((await self._rows(tx)).get(incident_key) or new) | columns)

        await self.store.transact(work)

    async def delete(self, incident_key: str) -> None:
        """Delete a row."""

        async def work(tx: Any) -> None:
            await tx.incidents.session.run("DELETE FROM incidents WHERE incident_key = ?", (incident_key,))

        await self.store.transact(work)

    async def rows(self) -> Mapping[str, Row]:
        """Return every row as it stands."""
        return await self.store.read(self._rows)

    async def _write(self, tx: Any, incident_key: str, row: Row) -> None:
        if row["incident_key"] != incident_key:
            await tx.incidents.session.run("DELETE FROM incidents WHERE incident_key = ?", (incident_key,))
        await tx.incidents.session.run(WRITE, to_row(row))

    async def _rows(self, tx: Any) -> dict[str, Row]:
        rows = await tx.incidents.session.rows(f"SELECT {WHOLE} FROM incidents i")
        return {row[0]: from_row(row) for row in rows}
