"""The records of one incident's night: its row, what was recorded about it, and the texts of policies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The value of ``next_due_at`` that asks for a planning."""


class Refused(Exception):
    """A verb is not allowed in this state; nothing has changed."""


@dataclass
class Row:
    """The incident as the database has it."""

    severity: str | None
    first_seen: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    episode: int = 1
    level: int = 0
    last_escalated_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    snoozed_until: datetime | None = None
    next_due_at: datetime | None = None
    policy: str | None = None
    policy_pin: str | None = None
    policy_level: int | None = None
    policy_since: datetime | None = None

    @property
    def state(self) -> str:
        """The state: ``open``, ``acknowledged`` or ``resolved``."""
        if self.resolved_at is not None:
            return "resolved"
        return "open" if self.acknowledged_at is None else "acknowledged"

    @property
    def pinned(self) -> "Pin | None":
        """The pin without what an un-acknowledgement by SQL puts before it."""
        return None if self.policy_pin is None else Pin(*self.policy_pin.removeprefix("!").split("@", 2))


@dataclass(frozen=True)
class Pin:
    """Which text plans a row, and the severity for which it was assigned."""

    name: str
    digest: str
    severity: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}@{self.severity}"


@dataclass(frozen=True)
class Version:
    """The stored text of a policy with its hours."""

    policy: Mapping[str, Any]
    hours: Mapping[str, Any]
    stored_at: datetime


@dataclass(frozen=True)
class Escalation:
    """One escalation. ``policy`` and ``position`` are those that NULL stands for, too."""

    at: datetime
    episode: int
    level: int
    policy: str
    position: int
    targets: tuple[str, ...] | None
    """None: the router decides."""
    outcome: str | None = None
    """``nobody`` if the level is empty, ``default`` if a pass ended at it without a page; None: it paged as it says."""


@dataclass(frozen=True)
class Page:
    """One page of an escalation."""

    at: datetime
    episode: int
    level: int
    target: str
    """Empty: the router named none."""
    via: str | None
    """The schedule whose person the target is; None: no schedule named it."""


@dataclass(frozen=True)
class TickReport:
    """What one tick recorded."""

    escalations: tuple[Escalation, ...] = ()
    pages: tuple[Page, ...] = ()
    nobody_on_call: int = 0
    """The passes that paged no person of any schedule."""
    already_recorded: int = 0


@dataclass(frozen=True)
class Note:
    """What the audit or health has about the row, beside escalations.

    ``what`` is ``acknowledged again``, ``ack_expired``, ``exhausted``, ``nobody_on_call``, ``put off``, ``rebound``,
    ``restart`` or ``unknown policy``.
    """

    at: datetime
    what: str
    episode: int
    level: int
    about: str = ""
    """The name of a policy that is unknown."""


@dataclass(frozen=True)
class Cancelled:
    """An unsent page that a transition cancelled."""

    at: datetime
    episode: int
    level: int
