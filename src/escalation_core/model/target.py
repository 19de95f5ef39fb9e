"""Records of a target: what all workers keep of it, what is due to it, and how the last attempts to it ended."""

from datetime import datetime, timedelta

import attrs


@attrs.frozen(kw_only=True)
class Pace:
    """A target's row: what all workers keep of its throttle and of its rate.

    ``held_until`` and ``refused`` are the names of columns. Elsewhere the word is throttled.
    """

    target: str
    held_until: datetime | None = None
    """The target is throttled, because its receiver asked for fewer messages: no worker claims a page before this."""
    free_at: datetime | None = None
    """When all slots of its budget are free again; None if no message has taken one."""
    rate: float | None = None
    """Messages a second, lowered because the receiver asked for fewer; None for the budget's own."""
    refused: bool = False
    """The receiver has throttled the target since the last message took a slot, so the next one takes a longer one."""

    @property
    def slowed(self) -> bool:
        """Whether the rate is lowered, or is to be."""
        return self.refused or self.rate is not None

    def throttled(self, until: datetime) -> "Pace":
        """Return the row after the receiver has asked for fewer messages. A later end that is set already stays."""
        return attrs.evolve(self, held_until=max(until, self.held_until or until), refused=True)


@attrs.frozen(kw_only=True)
class DueTarget:
    """A target that has unsettled pages."""

    due_at: datetime
    """When the earliest of these pages is due."""
    hand_over_at: datetime | None = None
    """The earliest ``hand_over_at`` of its pending pages; None if none has one."""
    pace: Pace | None = None
    """The target's row; None if it has none."""

    def earliest(self, other: "DueTarget") -> "DueTarget":
        """Return the earlier instants of this target and of more of its pages."""
        late = [at for at in (self.hand_over_at, other.hand_over_at) if at is not None]
        return attrs.evolve(self, due_at=min(self.due_at, other.due_at), hand_over_at=min(late, default=None))

    def is_late(self, now: datetime) -> bool:
        """Return whether one of these pages is to be handed over."""
        return self.hand_over_at is not None and self.hand_over_at <= now

    def is_throttled(self, now: datetime) -> bool:
        """Return whether the target is throttled."""
        return self.pace is not None and self.pace.held_until is not None and self.pace.held_until > now


@attrs.frozen(kw_only=True)
class LastAttempts:
    """When the last attempts to send a page to a target ended."""

    target: str
    delivered_at: datetime | None = None
    """When its receiver last accepted a page; None if it never did."""
    failed_at: datetime | None = None
    """When an attempt last failed; None if none ever did."""
    error: str | None = None
    """Why that attempt failed: the reason of its outcome."""

    def later(self, other: "LastAttempts") -> "LastAttempts":
        """Return the later instants of both. If both failed at one instant, the error is the other's."""
        delivered_at = max(filter(None, (self.delivered_at, other.delivered_at)), default=None)
        failed = self if other.failed_at is None or (self.failed_at or other.failed_at) > other.failed_at else other
        return attrs.evolve(self, delivered_at=delivered_at, failed_at=failed.failed_at, error=failed.error)

    def moved_back(self, now: datetime, step: timedelta) -> "LastAttempts":
        """Return the record after the clock stepped back: instants after ``now`` are earlier by ``step``."""

        def earlier(at: datetime | None) -> datetime | None:
            return at if at is None or at <= now else min(now, at - step)

        return attrs.evolve(self, delivered_at=earlier(self.delivered_at), failed_at=earlier(self.failed_at))


@attrs.frozen(kw_only=True)
class TargetRecord:
    """What a store knows of a target: its row, and its unsettled pages."""

    target: str
    pace: Pace
    attempts: LastAttempts
    backlog: int = 0
    """How many unsettled pages it has."""
    oldest_page: datetime | None = None
    """When the oldest of them was recorded; None if it has none."""
