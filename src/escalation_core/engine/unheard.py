"""The search for unheard incidents: those whose pages are all dead are noted in the audit, and logged as errors."""

import logging
from datetime import datetime, timedelta

import attrs

from ..errors import EscalationError, StoreUnavailable, error_place
from ..model import AuditEntry
from ..ports import Store, Transaction
from .health import MIN_INSTANT

log = logging.getLogger("escalation_core")

MARGIN = timedelta(minutes=10)
"""How long before the last search a page may have ended that was not committed then."""


@attrs.define
class UnheardSearch:
    """Finds the incidents that became unheard since the last search; the first search reads all dead pages."""

    store: Store
    due: bool = False
    """Whether a page died since the last search."""
    _since: datetime = MIN_INSTANT

    async def find_if_due(self) -> None:
        """Search if a page died since the last search, which is rare. An error is logged, and delivery goes on.

        The next tick that writes a heartbeat searches again, and raises an error that remains.
        """
        if not self.due:
            return
        try:
            await self.find()
        except Exception as error:  # noqa: BLE001 - pages to others must not wait for it
            self.due = False  # not again with each transaction of delivery
            told = error if isinstance(error, EscalationError) else error_place(error)
            log.error("the search for unheard incidents failed, and the next tick repeats it: %s", told)  # noqa: TRY400

    async def find(self) -> None:
        """Note and log the incidents that became unheard. If the store is out of reach, search again later."""
        self.due = False
        try:
            found, since = await self.store.transact(self._note)
        except BaseException as error:
            self.due = True
            if not isinstance(error, StoreUnavailable):
                raise
            log.warning("the search for unheard incidents failed: %s", error)
            return
        self._since = since
        for entry in found:
            log.error(
                "incident %r is unheard: no page of level %d was delivered, and none is tried again; see"
                " escalation list --unheard",
                entry.incident_key,
                entry.level,
            )

    async def _note(self, tx: Transaction) -> tuple[list[AuditEntry], datetime]:
        now = await tx.now()
        entries = [
            AuditEntry(at=now, action="unheard", incident_key=key, episode=episode, level=level)
            for key, episode, level in await tx.outbox.find_unheard(self._since)
        ]
        if entries:
            await tx.journal.note(entries)
        return entries, max(now - MARGIN, MIN_INSTANT)
