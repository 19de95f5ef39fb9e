"""The contracts: what the core asks of stores, notifiers and routers, as narrow protocols. Adapters fulfil them.

Every method of a store may raise ``StoreUnavailable`` (temporary) or ``StoreRefused`` (permanent), and nothing else
of its own. A store is written in two tiers. The first is for paging. The second is for operating: ``left_alone``,
``recent``, ``settled``, ``notes``, ``add_pause``, ``end_pauses``, ``old``, ``delete``, ``delete_pauses``, ``integrity``
and both methods of ``requests``; a store without it raises ``StoreRefused`` there. Without ``add_pause`` it has no
pauses: ``pauses`` returns none, and ``shift_pauses`` does nothing. How to write one:
``docs/how-to/write-a-store.md``; ``escalation_core.testing`` checks it.
"""

from .host import Heartbeat, Notifier, Router
from .records import Journal, Operations, SeenRequests
from .rows import Incidents, Ledger, Outbox
from .store import Store, Transaction

__all__ = [
    "Heartbeat",
    "Incidents",
    "Journal",
    "Ledger",
    "Notifier",
    "Operations",
    "Outbox",
    "Router",
    "SeenRequests",
    "Store",
    "Transaction",
]
