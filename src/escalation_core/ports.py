"""What the core asks of the world outside: narrow protocols in its own words. Adapters are what fulfils them.

Every method of a store may raise ``StoreUnavailable`` (temporary) or ``StoreRefused`` (permanent), and nothing else
of its own. How to write one: ``docs/how-to/write-a-store.md``; ``escalation_core.testing`` checks it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from .model import (
    AuditEntry,
    AuditRange,
    AuditSource,
    Canary,
    Candidate,
    ClaimedPage,
    Deferral,
    Escalation,
    Incident,
    Integrity,
    LatestEscalation,
    NewPage,
    NextDue,
    OldRow,
    OpenRows,
    Outcome,
    Page,
    PageRecord,
    PageState,
    Pause,
    RecalcState,
    Stats,
    Unseen,
    WorkerHeartbeat,
)

Result = TypeVar("Result")


class Incidents(Protocol):
    """The rows of the host's incidents."""

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:
        """Return one incident, locked until the transaction ends if ``lock``; None if there is none.

        Raises ``InvalidValue`` for a row that cannot be read.
        """

    async def insert(self, incident: Incident) -> bool:
        """Insert a new row whole. Return False if another transaction was faster."""

    async def save(self, incident: Incident) -> None:
        """Write every column of a row that was loaded before."""

    async def claim(self, *, until: datetime, limit: int, canary: Canary) -> Sequence[Candidate]:
        """Return rows with ``next_due_at`` at or before ``until``, oldest first, and lock them until the end.

        Rows that another transaction holds are passed over. Canary outsiders are no candidates at all.
        """

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary: Canary
    ) -> Sequence[Candidate]:
        """Return what ``claim`` would, without any lock, in order of (next_due_at, incident_key), beyond ``after``."""

    async def advance(self, incidents: Sequence[Incident]) -> None:
        """Write level, last_escalated_at and next_due_at of locked rows, in bulk; they are readable again."""

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Move next_due_at of locked rows to their ``until``, and keep each one's fault and attempts."""

    async def dues(self, keys: Sequence[str]) -> Mapping[str, datetime | None]:
        """Return the next_due_at that rows hold now, as this transaction sees them."""

    async def left_alone(self, incident_key: str) -> Deferral | None:
        """Return why a row was put back or is passed over, and until when; None if it is not."""

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Keep fault and attempts of rows that the database refuses to write, and leave the rows themselves alone.

        Until their ``until`` no claim, peek or look finds them, and no count but that of unreadable rows. What a host
        writes to such a row ends that.
        """

    async def end_passing(self, beyond: datetime) -> None:
        """Let rows that are passed over for longer than until ``beyond`` be found again."""

    async def scan_open(self, after: str | None, limit: int, *, wait: bool = True) -> OpenRows:
        """Return open rows beyond the key ``after``, in the store's own order, each locked.

        It waits for rows that others hold, or leaves them out and says so if not ``wait``.
        """

    async def unseen(self, after: str | None, *, limit: int, held_before: datetime | None, lock: bool = True) -> Unseen:
        """Look at ``limit`` open rows without next_due_at, beyond the key ``after``; return those never planned.

        Left out are rows noted as exhausted at their level, unless their episode was noted as resolved since, rows
        first seen before ``held_before``, and rows that are passed over. With ``lock`` they are locked until the end,
        and those that others hold are left out.
        """

    async def mark_unseen(self, keys: Sequence[str]) -> None:
        """Give locked rows the mark ``NEEDS_REPLAN``, as a host's insert has it.

        Where the ledger holds a later episode of a key, or a higher level of the same one, the row's episode becomes
        one above the highest: it tells of a life that the ledger has not seen. A row whose episode was noted as
        resolved was opened again: a new episode at level 0.
        """


class Ledger(Protocol):
    """The escalations: each (incident_key, episode, level) once, whatever happens."""

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        """Insert what is not there yet, in bulk. Return for each one whether it was new."""

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], LatestEscalation]:
        """Return the highest recorded level of each (incident_key, episode) that has one."""

    async def highest_episode(self, incident_key: str) -> int:
        """Return the highest recorded episode of a key, 0 if there is none."""

    async def recent(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return escalations of this range with their ids, newest first, at one instant by id."""

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return recorded escalations with ids above ``after``, in the order of their ids."""


class Outbox(Protocol):
    """The pages."""

    async def enqueue(self, pages: Sequence[NewPage], now: datetime) -> None:
        """Insert pages in bulk: pending, or dead if they were born so."""

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        """Cancel a key's pending pages; mark its leased ones as cancelling: they may finish, but not be tried again.

        Return how many.
        """

    async def claim(self, capacity: Mapping[str, int], *, now: datetime, until: datetime) -> Sequence[ClaimedPage]:
        """Return unsettled pages that are due at or before ``until``, and lock them.

        ``room`` says how many for each target; other targets, and those held beyond ``now``, get none. Oldest first.
        """

    async def lock(self, ids: Sequence[int]) -> Sequence[ClaimedPage]:
        """Return these pages, locked; those that are gone, or that others hold, are left out. It waits for nobody."""

    async def write(self, pages: Sequence[PageRecord]) -> None:
        """Write state, due_at, fence, attempts, tried_for and reason of locked pages, in bulk."""

    async def settle(self, pages: Sequence[PageRecord]) -> AbstractSet[int]:
        """Write pages as ``write`` does, but only those whose fence is still the one before theirs; return their ids.

        They need not be locked. Those that others hold are left out: a host's transaction may hold them for long.
        """

    async def fences(self, ids: Sequence[int]) -> Mapping[int, int]:
        """Return the fence of each of these pages that is there, without a lock."""

    async def bring_forward(
        self, targets: Sequence[str] | None, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
    ) -> int:
        """Bring forward unsettled pages to these targets, None for all, that are due after ``beyond``; return how many.

        Pending ones are due ``now``. Those that a sender has are due when ``lease_ends``, if that is earlier. Holds of
        any target that last beyond ``beyond`` end now.
        After a ``step`` back of the clock so do, whenever they are due, pages that were never tried; other pending ones
        and holds come that much earlier, and those that a sender has when ``lease_ends``.
        """

    async def throttle_target(self, target: str, until: datetime) -> None:
        """Let no worker claim a page for this target before ``until``; the later hold wins."""

    async def settled(self, reach: AuditRange, *, limit: int, incident_key: str | None = None) -> Sequence[PageRecord]:
        """Return pages that were settled in this range, newest first, at one instant by id."""

    async def pages(
        self, *, after: int = 0, limit: int, incident_key: str | None = None, state: PageState | None = None
    ) -> Sequence[PageRecord]:
        """Return pages with ids above ``after``, in the order of their ids, of one key or one state if given."""


class Journal(Protocol):
    """What people and engines did, and how the engines fare."""

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        """Keep entries. An ``exhausted`` mark is kept once per (incident_key, episode, level)."""

    async def notes(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, AuditEntry]]:
        """Return notes of this range with their ids, newest first, at one instant by id."""

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        """Note that this worker completed a tick just now, by the store's clock and not by the transaction's instant.

        Return that instant, and the latest heartbeat that was there, of any worker. Workers that have been silent for a
        day are forgotten, and heartbeats that lie ahead of the clock by more than ``tolerance``.
        """

    async def last_heartbeat(self, now: datetime) -> WorkerHeartbeat:
        """Return when any worker last completed a tick, since when one could, and how many did within a day."""

    async def stats(self, *, now: datetime, canary: Canary, max_level: int, detail: bool = False) -> Stats:
        """Return the counts for health; ended rows do not count.

        ``outside_canary`` is counted only with ``detail``, since that looks at every due row. ``unseen`` is not
        counted here.
        """

    async def recalc(self, *, lock: bool = True) -> RecalcState:
        """Return how far the recalculation is, locked until the transaction ends if ``lock``."""

    async def recalc_unless_locked(self) -> RecalcState | None:
        """Return the same, locked; None if another transaction holds it."""

    async def save_recalc(self, state: RecalcState) -> None:
        """Write how far the recalculation is."""


class Operations(Protocol):
    """What operators set at run time, what is old, and whether the promise holds."""

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Return the rows that have not ended at ``now``, in the order in which they were set."""

    async def add_pause(self, pause: Pause) -> None:
        """Insert a row."""

    async def end_pauses(self, now: datetime) -> int:
        """End, at ``now``, every pause that has not ended; what lifts the schedule stays. Return how many."""

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        """Let pauses that begin after ``now`` begin and end that much earlier, and begin ``now`` at the latest.

        A pause begins when it is set: one that lies ahead was set before the clock stepped back.
        """

    async def old(self, source: AuditSource, *, before: datetime, after: int, limit: int) -> Sequence[OldRow]:
        """Return escalations or notes with ids above ``after`` that are older than ``before``, by their ids.

        The pages of escalations are locked, so that none is queued again before the transaction ends.
        """

    async def delete(self, source: AuditSource, ids: Sequence[int]) -> tuple[int, int]:
        """Delete escalations, each with its pages, or notes; return how many rows, and how many pages with them."""

    async def delete_pauses(self, *, before: datetime) -> int:
        """Delete pauses that ended before then; return how many."""

    async def integrity(self) -> Integrity:
        """Count what is recorded."""


class SeenRequests(Protocol):
    """The ids of signed requests. Only the operators' endpoints ask for them."""

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Keep a request's id until it expires, and delete some of those that have; return whether it was new."""

    async def delete_expired(self, *, now: datetime) -> int:
        """Delete the ids that have expired; return how many."""


class Transaction(Protocol):
    """One transaction: everything done through it is kept together, or not at all."""

    @property
    def incidents(self) -> Incidents:
        """The rows of the host's incidents."""

    @property
    def ledger(self) -> Ledger:
        """The escalations."""

    @property
    def outbox(self) -> Outbox:
        """The pages."""

    @property
    def journal(self) -> Journal:
        """The audit and the workers' heartbeats."""

    @property
    def operations(self) -> Operations:
        """Operators' pauses, retention and integrity."""

    @property
    def requests(self) -> SeenRequests:
        """The ids of signed requests."""

    async def now(self) -> datetime:
        """Return the store's own instant: its clock decides what is due."""

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``work`` inside this transaction. If it raises, what it did is undone, and the transaction can go on.

        A statement that the database refuses raises ``StoreRefused`` here already, and not at the transaction's end.
        """


class Store(Protocol):
    """A database that the engine works on."""

    async def check(self) -> None:
        """Raise ``StoreNotReady``, naming the command that helps, unless the schema is the one this version needs."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in one transaction and return its result once that is committed.

        If ``work`` raises, nothing is kept and the exception goes on. It may be run again from its beginning when the
        database asks for that (a deadlock, a serialization failure); so it changes nothing but the database.
        """

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``, which only reads, on one snapshot: without locks and without a trace."""

    async def next_due(self, *, canary: Canary | None, targets: Sequence[str] = ()) -> NextDue:
        """Return what is next: for this canary's rows, unless it is None, and for pages to these targets.

        It is what an engine asks when nothing is due, which is nearly always: it is to cost one round trip, whatever
        the number of rows.
        """

    async def aclose(self) -> None:
        """Close what is open."""


class Notifier(Protocol):
    """A channel: sends pages to the targets that it knows."""

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets; no other page is handed to it."""

    @property
    def channel(self) -> str:
        """The channel's name for metrics and logs, such as ``slack``."""

    async def send(self, page: Page) -> Outcome:
        """Send one page, once, and say what became of it.

        Never raises for anything that a receiver or a network does: those are outcomes. A cancelled send may or may not
        have arrived. No outcome's reason holds a secret.
        """

    async def aclose(self) -> None:
        """Close what is open."""


class Heartbeat(Protocol):
    """Tells somebody outside that ticks go on: a dead man's switch."""

    async def beat(self) -> None:
        """Tell it once. It raises nothing, and its time is bounded; a tick never waits for it."""


class Router(Protocol):
    """Who is paged about an escalation: the seed's ``resolveWebhook``."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        """Return the names of the targets for the escalation of ``incident`` to ``level``.

        Pure and quick: it is asked inside the transaction. An exception, or no target, makes the page dead at birth,
        which is counted and logged; the incident goes on climbing.
        """
