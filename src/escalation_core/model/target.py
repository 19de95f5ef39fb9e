"""Records of a target: what all workers keep of it, and what is due to it."""

from datetime import datetime

import attrs


@attrs.frozen(kw_only=True)
class Pace:
    """A target's row: what all workers keep of its throttle and of its rate."""

    target: str
    held_until: datetime | None = None
    """The receiver asked for fewer pages: no worker claims a page before this instant."""
    free_at: datetime | None = None
    """When all slots of its budget are free again; None if no page has taken one."""
    rate: float | None = None
    """Pages a second, lowered because the receiver asked for fewer; None for the budget's own."""
    refused: bool = False
    """The receiver has asked for fewer pages since the last page took a slot, so the next one takes a longer one."""

    @property
    def slowed(self) -> bool:
        """Whether the rate is lowered, or is to be."""
        return self.refused or self.rate is not None

    def throttled(self, until: datetime) -> "Pace":
        """Return the row after the receiver has asked for fewer pages. A later end that is set already stays."""
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

    def held(self, now: datetime) -> bool:
        """Return whether the target is throttled."""
        return self.pace is not None and self.pace.held_until is not None and self.pace.held_until > now
