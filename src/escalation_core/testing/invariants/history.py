"""The history of one run: the records that the checks read.

All instants are seconds since 1970, read from one clock, and all spans are seconds.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from .ladders import Ladder
from .notice_records import FinalNotice, NoticeClaim, Told
from .run_settings import RunSettings

Verb = Literal[
    "open", "acknowledge", "unacknowledge", "resolve", "change_severity", "snooze", "drain", "change_key"
]  # fmt: skip
INFINITY = float("inf")
KILL = "kill"
"""The kind of a fault that kills a worker (``kill -9``)."""
STALL = "stall"
"""The kind of a fault that stops a worker and lets it continue (``SIGSTOP``, ``SIGCONT``)."""
MACHINE = "machine"
"""The kind of a fault in which the whole machine stands still."""


@attrs.frozen(kw_only=True)
class HostWrite:
    """One committed write of a host. Its commit was between ``began`` and ``ended``."""

    key: str
    verb: Verb
    began: float
    ended: float
    severity: str | None = None
    first_seen: float | None = None
    until: float | None = None
    """The end of a snooze."""
    new_key: str | None = None
    """The incident's key after ``change_key``."""
    unseen: bool = False
    """Whether the triggers of the host's table were off, so that the engine must search for the write."""


@attrs.frozen(kw_only=True)
class PauseSpan:
    """A pause. It was surely in force from ``sure_from`` to ``sure_to``, and possibly from ``began`` to ``ended``."""

    began: float
    sure_from: float
    sure_to: float = INFINITY
    ended: float = INFINITY


@attrs.frozen(kw_only=True)
class OverrideSpan:
    """An operator's override: from ``start``, and no longer at ``end``, this person alone is on call for the schedule.

    Its commit was between ``began`` and ``ended``.
    """

    schedule: str
    person: str
    start: float
    end: float
    began: float
    ended: float


@attrs.frozen(kw_only=True)
class RecordedEscalation:
    """An escalation in the ledger."""

    key: str
    episode: int
    level: int
    created_at: float
    """The instant of the tick that recorded it."""
    at: float
    """When it was written."""
    unique_hash: str
    policy: str | None = None
    """The policy that decided; None without a policies file."""
    position: int | None = None
    """The position in the policy's walk, from 1; None: the level."""
    outcome: str | None = None
    """``nobody``: the level was passed over. ``default``: it paged the default target, because no one was on call."""
    began: float | None = None
    """When the transaction that recorded it began, which is the same for all escalations of it; None if not known."""


@attrs.frozen(kw_only=True)
class RecordedNote:
    """A note of the engine in the audit: an acknowledgement expired, a walk began again or is over, or no page came."""

    key: str
    episode: int
    level: int
    action: str
    """``ack_expired``, ``restart``, ``exhausted`` or ``unheard``."""
    at: float
    """The instant of the tick or verb that made it."""
    written: float
    """When it was written."""


@attrs.frozen(kw_only=True)
class NewFile:
    """Another policies file. Every engine began to use it between ``began`` and ``ended``.

    The checks take it that no host opened an incident or changed a severity in this time.
    """

    began: float
    ended: float
    ladders: Mapping[str, Ladder]
    """The policy that the file assigns, by severity."""


@attrs.frozen(kw_only=True)
class FinalPage:
    """The state of a page at the end of the run."""

    id: int
    key: str
    episode: int
    level: int
    target: str
    dedup_key: str
    state: str
    reason: str | None = None
    via: str | None = None
    """The schedule that named the target's person, for example ``oncall:primary``; None if no schedule did."""
    schedule_digest: str | None = None
    """The digest of this schedule, or ``override``."""
    created_at: float | None = None
    """The instant of the transaction that recorded it; None if not known."""
    bundle: str | None = None
    """The key of the bundle in which it was sent, or is tried again."""


@attrs.frozen(kw_only=True)
class PageChange:
    """One change of a page's row."""

    page: int
    was: str
    state: str
    due_was: float
    due: float
    fence_was: int
    fence: int
    began: float
    """When the transaction that made the change began."""
    at: float
    """When the change was written."""
    worker: str
    reason: str | None = None
    """Why the worker will send the page again, or never again."""
    bundle: str | None = None
    """The key of its bundle after the change; None if the page goes alone."""

    @property
    def claims(self) -> bool:
        """Whether the change is a claim: the first one, or one after a lease has ended."""
        return self.state == "leased" and self.fence > self.fence_was


@attrs.frozen(kw_only=True)
class Request:
    """One request that reached the receiver."""

    dedup_key: str
    target: str
    worker: str
    at: float
    accepted: bool
    answered_at: float | None = None
    """When the receiver had sent its whole answer; None if it never did."""
    half_accepted: frozenset[str] = frozenset()
    """The keys of the incidents whose pages it accepted, if it did not accept the whole bundle."""

    def accepts(self, key: str) -> bool:
        """Return whether the receiver accepted the page of this incident, if the request told of it."""
        return self.accepted or key in self.half_accepted


@attrs.frozen(kw_only=True)
class Fault:
    """A fault that the test caused. Faults excuse copies and late escalations; an unrecorded fault excuses nothing."""

    kind: str
    start: float
    end: float
    workers: frozenset[str] | None = None
    """The workers that the fault may have interrupted; None for all workers."""
    recovery: float = 0.0
    """Seconds after ``end`` in which workers reconnect. Until then an excused escalation or claim may be late."""
    keys: frozenset[str] | None = None
    """The incidents that the fault concerns; None for all incidents."""
    stops: bool = False
    """Whether no escalation can be recorded during the fault."""
    stops_claims: bool = False
    """Whether no page can be claimed during the fault, though escalations can be recorded."""
    unhealthy: bool = False
    """Whether health must be unhealthy during the fault."""
    findings: frozenset[str] = frozenset()
    """The findings that health must list during the fault, and must not list after it."""

    @property
    def over(self) -> float:
        """The end of the fault and of the recovery after it."""
        return self.end + self.recovery

    def may_interrupt(self, worker: str, start: float, end: float) -> bool:
        """Return whether the fault may have interrupted this worker between two instants."""
        return (self.workers is None or worker in self.workers) and self.start <= end and self.end >= start


@attrs.frozen(kw_only=True)
class HealthSample:
    """One reading of health."""

    at: float
    """When health had answered."""
    unhealthy: bool
    """Whether health was not ok, or did not answer."""
    answered: bool = True
    """Whether health answered, or refused, before the test's own timeout."""
    findings: frozenset[str] = frozenset()
    """The findings that health listed, as texts that the test chooses; see ``Fault.findings``."""
    unheard: int | None = None
    """The number of unheard incidents that health counted; None if it was not read."""


@attrs.frozen(kw_only=True)
class History:
    """All records of a run."""

    ended: float
    settings: RunSettings = attrs.field(factory=RunSettings)
    targets: Sequence[str] = ("ops",)
    """The targets of a critical incident. An incident of another severity pages the first target only."""
    writes: Sequence[HostWrite] = ()
    pauses: Sequence[PauseSpan] = ()
    overrides: Sequence[OverrideSpan] = ()
    """The overrides in the order in which operators made them, one after the other."""
    files: Sequence[NewFile] = ()
    """The policies files that came after the one of ``settings``, in order."""
    kept: Mapping[str, float] = attrs.field(factory=dict)
    """When the store began to keep each version of a policy, by digest. An older acknowledgement counts from then."""
    escalations: Sequence[RecordedEscalation] = ()
    notes: Sequence[RecordedNote] | None = None
    """The notes of ``RecordedNote`` in the order in which they were written; None if they were not read."""
    pages: Sequence[FinalPage] = ()
    changes: Sequence[PageChange] = ()
    requests: Sequence[Request] = ()
    notices: Sequence[FinalNotice] | None = None
    """The notices at the end of the run; None if they were not read."""
    notice_claims: Sequence[NoticeClaim] = ()
    told: Sequence[Told] = ()
    faults: Sequence[Fault] = ()
    health: Sequence[HealthSample] = ()
    """Samples in order. Take the last one when no work is left, and wait for its answer without a timeout."""
    logged_dead: frozenset[int] = frozenset()
    """Ids of dead pages that a worker logged as an error."""
    counted_dead: int = 0
    """The number of dead pages that health counted at the end."""
    unplannable: frozenset[str] = frozenset()
    """Keys of rows that the test made unreadable, so that the checks cannot compute their due instants."""
    statements: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    """The instants at which statements reached the database, by worker.

    A name such as ``w1`` stands for a worker, or for a slot: the workers ``w1-1``, ``w1-2``, ... one after the other.
    """


@attrs.frozen
class Violation:
    """One violation of an invariant."""

    invariant: str
    incident: str
    level: int | None
    why: str

    def __str__(self) -> str:
        level = "" if self.level is None else f" level {self.level}"
        return f"{self.invariant} {self.incident}{level}: {self.why}"
