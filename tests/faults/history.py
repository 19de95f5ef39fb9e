"""What happened in one run, as the judges of the invariants see it. Instants are seconds since 1970, by one clock."""

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

Verb = Literal[
    "open", "acknowledge", "unacknowledge", "resolve", "change_severity", "snooze", "drain", "change_key"
]  # fmt: skip
INFINITY = float("inf")
KILL = "kill"
"""The fault that ends a worker: ``kill -9``, at an await or at any moment."""
TOO_OLD = "too old"
"""What befalls a worker that finds a later version's schema: it ends by itself, with an error."""
SECURED = "row level security"
"""What befalls workers whose role is to see only some rows from now on: they end by themselves, with an error."""
ENDS = (KILL, TOO_OLD, SECURED)
"""What ends workers."""


@attrs.frozen(kw_only=True)
class Rules:
    """The settings that all workers of a run have, in seconds."""

    windows: Mapping[str, float] = attrs.field(factory=lambda: {"critical": 0.4, "warning": 0.8})
    snooze: float = 1.0
    tick: float = 1.0
    max_level: int = 3
    lease: float = 2.0
    send_timeout: float = 0.5
    per_target: int = 32
    defer: tuple[float, float] = (60.0, 3600.0)
    """For how long a row is left alone that is refused or cannot be planned: at first, and at most."""

    @property
    def gap(self) -> float:
        """The least time between two escalations of one incident."""
        return max(self.snooze, self.tick)


@attrs.frozen(kw_only=True)
class Op:
    """One write of a host that was committed: not before ``began``, and not after ``ended``."""

    key: str
    verb: Verb
    began: float
    ended: float
    severity: str | None = None
    first_seen: float | None = None
    until: float | None = None
    """The end of a snooze."""
    new_key: str | None = None
    """What the incident is called from then on."""
    unseen: bool = False
    """Whether the triggers of the host's table were off: the engine has to find by itself what was written."""


@attrs.frozen(kw_only=True)
class Held:
    """A time in which nothing may escalate: surely from ``sure_from`` to ``sure_to``, possibly a little longer."""

    began: float
    sure_from: float
    sure_to: float = INFINITY
    ended: float = INFINITY


@attrs.frozen(kw_only=True)
class Event:
    """A recorded escalation. ``created_at`` is its tick's instant, ``at`` when it was written."""

    key: str
    episode: int
    level: int
    created_at: float
    at: float
    unique_hash: str


@attrs.frozen(kw_only=True)
class PageRow:
    """A page as it stands in the end."""

    id: int
    key: str
    episode: int
    level: int
    target: str
    dedup_key: str
    state: str
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Step:
    """A page's change of state: the transaction ``began`` then, and wrote it ``at``, in the name of a worker."""

    page: int
    was: str
    state: str
    due_was: float
    due: float
    fence_was: int
    fence: int
    began: float
    at: float
    worker: str
    reason: str | None = None
    """Why it is to be sent once more, or never again."""

    @property
    def claims(self) -> bool:
        """Whether it is a claim: the first one, or another one after a lease that ended."""
        return self.state == "leased" and self.fence > self.fence_was


@attrs.frozen(kw_only=True)
class Post:
    """One request that reached the receiver."""

    dedup_key: str
    target: str
    worker: str
    at: float
    accepted: bool
    answered_at: float | None = None
    """When the whole answer was handed to the network; None if it never was."""


@attrs.frozen(kw_only=True)
class Fault:
    """Something that was done to the system.

    ``workers`` names those that it befell, None for all. ``stops`` if nothing at all can be escalated meanwhile.
    """

    kind: str
    start: float
    end: float
    workers: frozenset[str] | None = None
    patience: float = 0.0
    """Seconds after it in which connections come back: what it stops may be late until then, and nothing else."""
    keys: frozenset[str] | None = None
    """The incidents that it befell; None for all."""
    stops: bool = False
    holds: bool = False
    """Whether pages cannot be claimed meanwhile, though escalations can be recorded."""
    shows: bool = False
    """Whether health has to show it."""
    tells: frozenset[str] = frozenset()
    """What health has to tell of it meanwhile, and may tell no more after it."""

    @property
    def noticed(self) -> bool:
        """Whether health has to say anything of it, by its light or in words."""
        return self.shows or bool(self.tells)

    @property
    def over(self) -> float:
        """When all that it stopped can go on."""
        return self.end + self.patience

    def befell(self, worker: str, start: float, end: float) -> bool:
        """Tell whether it may have interrupted what a worker did between two instants."""
        return (self.workers is None or worker in self.workers) and self.start <= end and self.end >= start


@attrs.frozen(kw_only=True)
class Look:
    """One look at health. ``red`` if the light was not green, or there was no answer; ``at`` is when it was over."""

    at: float
    red: bool
    note: str = ""
    tells: frozenset[str] = frozenset()
    """What it told beside: see ``watchers.tells``."""

    @property
    def told(self) -> bool:
        """Whether there was an answer, or word that there will be none, within the watcher's patience."""
        return self.note != TimeoutError.__name__


@attrs.frozen(kw_only=True)
class History:
    """Everything that is known of a run."""

    ended: float
    rules: Rules = attrs.field(factory=Rules)
    targets: Sequence[str] = ("ops",)
    """Whom critical incidents page; others only the first."""
    ops: Sequence[Op] = ()
    held: Sequence[Held] = ()
    events: Sequence[Event] = ()
    pages: Sequence[PageRow] = ()
    steps: Sequence[Step] = ()
    posts: Sequence[Post] = ()
    faults: Sequence[Fault] = ()
    looks: Sequence[Look] = ()
    """In order; the last one when everything had come to rest, with all the time that the answer took."""
    alarmed: frozenset[int] = frozenset()
    """Pages whose death was logged as an error."""
    counted: int = 0
    """How many dead pages health told of in the end."""
    poison: frozenset[str] = frozenset()
    """Keys whose rows cannot be planned, at first or at all: nobody says when they are to be escalated."""
    queries: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    """Per slot of workers when a statement of theirs reached the database."""


@attrs.frozen
class Violation:
    """One breach of an invariant."""

    invariant: str
    incident: str
    level: int | None
    why: str

    def __str__(self) -> str:
        level = "" if self.level is None else f" level {self.level}"
        return f"{self.invariant} {self.incident}{level}: {self.why}"
