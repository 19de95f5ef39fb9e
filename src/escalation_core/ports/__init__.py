"""Protocols of stores, notifiers and routers. The core calls them; adapters implement them.

Every method of a store may raise ``StoreUnavailable`` (temporary) or ``StoreRefused`` (permanent), and no other error
of its own. A store has two tiers. The first tier is for paging. The second tier is for operating: ``left_alone``,
``recent``, ``settled``, ``notes``, ``add_pause``, ``end_pauses``, ``old``, ``delete``, ``delete_pauses``, ``integrity``
and both methods of ``requests``. A store without the second tier raises ``StoreRefused`` in these methods. A store
without ``add_pause`` has no pauses: ``pauses`` returns an empty sequence, and ``shift_pauses`` does nothing.
``walks`` and ``notices`` are apart from both tiers: an engine needs them only for a policies file, and for notices.
``docs/how-to/write-a-store.md`` explains how to write a store; ``escalation_core.testing`` checks one.
"""

from .host import Heartbeat, Notifier, Router, SendsBundles, TellsNoticeBundles, TellsNotices
from .notices import HasNotices, Notices, notices_of
from .records import Journal, Operations, SeenRequests
from .rows import Incidents, Ledger, Outbox, SpellsKeys
from .schedules import CalendarReader, Schedule, ScheduleSource
from .store import JoinsTransactions, Store, Transaction, Transactor
from .walks import HasWalks, Walks, walks_of

__all__ = [
    "CalendarReader",
    "HasNotices",
    "HasWalks",
    "Heartbeat",
    "Incidents",
    "JoinsTransactions",
    "Journal",
    "Ledger",
    "Notices",
    "Notifier",
    "Operations",
    "Outbox",
    "Router",
    "Schedule",
    "ScheduleSource",
    "SeenRequests",
    "SendsBundles",
    "SpellsKeys",
    "Store",
    "TellsNoticeBundles",
    "TellsNotices",
    "Transaction",
    "Transactor",
    "Walks",
    "notices_of",
    "walks_of",
]
