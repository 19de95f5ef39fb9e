"""An incident as a planning finds it: its pin, the policy that decides about it, and what happened. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from ..model import NEEDS_REPLAN, Incident, State
from .policy import Policy
from .wall_clock import later


class Note(StrEnum):
    """What a planning did besides an escalation, under the names of the audit."""

    ACK_EXPIRED = "ack_expired"
    RESTART = "restart"
    """The walk began again at the first level."""
    UNKNOWN_POLICY = "unknown_policy"
    """The host names a policy that this engine does not know."""
    LOST_VERSION = "lost_version"
    """The store has lost the version that the pin names: the incident got the file's version, or the built-in."""
    PUT_OFF = "put_off"
    """The level was due within its hours, and the tick came after they had closed: it waits for their next start."""


@attrs.define
class Settled:
    """An incident as a planning finds it, and the policy that decides about it. It is never changed.

    It is not frozen, because a tick makes one for each row, and a frozen one takes three times as long to make.
    """

    incident: Incident
    policy: Policy
    tick_interval: timedelta
    kept_at: datetime | None = None
    unsure: bool = False
    """This engine cannot assign the policy that the incident should have; another one may. It looks again soon."""
    notes: tuple[tuple[Note, str | None], ...] = ()
    """What happened, each with a text for the audit."""

    @property
    def cancel(self) -> str | None:
        """Why the unsent pages are cancelled; None if they are not."""
        if self.ack_expired:
            return "acknowledgement expired"
        return "restarted" if any(note is Note.RESTART for note, _ in self.notes) else None

    @property
    def ack_expired(self) -> bool:
        """Whether the planning ended an acknowledgement whose time was over."""
        return any(note is Note.ACK_EXPIRED for note, _ in self.notes)

    def due(self, now: datetime) -> datetime | None:
        """Return the next_due_at that a verb or a recalculation writes.

        A row whose policy this engine cannot assign needs a replan: another engine may know the policy.
        """
        return NEEDS_REPLAN if self.unsure else self.coming(now)

    def coming(self, now: datetime) -> datetime | None:
        """Return when this policy acts next: an escalation, or the expiry of an acknowledgement; None without one.

        That is the instant of the rule, or the next start of the level's hours if it has passed and they are closed.
        """
        due = self.rule(now)
        if due is not None and due <= now and self.incident.state is State.OPEN:
            return self.put_off(now) or due
        return due

    def rule(self, clock: datetime) -> datetime | None:
        """Return the instant at which an open incident is due, or an acknowledgement expires; None without one.

        Instants of the past that lie after ``clock`` count as ``clock``: the store's clock stepped back.
        """
        incident = self.incident
        if incident.resolved_at is not None:
            return None
        if incident.acknowledged_at is not None:
            return self.ack_expires_at(clock)
        last = incident.last_escalated_at
        if last is not None and last > clock:
            last = clock
        return self.after(incident.level, last, clock)

    def after(self, level: int, last: datetime | None, clock: datetime) -> datetime | None:
        """Return when the incident is due if it rose to ``level`` at ``last``; None if its walk is over then."""
        incident = self.incident
        if incident.policy_since is not None and incident.policy_since > clock:
            incident = attrs.evolve(incident, policy_since=clock)
        return self.policy.next_due_at(incident, level, last, self.tick_interval)

    def ack_expires_at(self, clock: datetime) -> datetime | None:
        """Return when the acknowledgement expires; None if it does not.

        An acknowledgement from before the store kept the policy's version counts from then, so that a new policy does
        not end old acknowledgements at once.
        """
        timeout, began = self.policy.ack_timeout, self.incident.acknowledged_at
        if timeout is None or began is None:
            return None
        return later(min(began if self.kept_at is None else max(began, self.kept_at), clock), timeout)

    def put_off(self, now: datetime) -> datetime | None:
        """Return when the next level's hours open, if they are closed at ``now``; None if it may page now."""
        return self.policy.put_off(self.incident, now)

    def until(self, due: datetime | None, now: datetime) -> datetime | None:
        """Return the next_due_at that a tick writes, for an instant by the rule.

        If this engine cannot assign the row's policy, the row is claimed again within a tick interval (ADR 0049).
        """
        return min(filter(None, (due, later(now, self.tick_interval)))) if self.unsure else due

    def exhausted(self) -> bool:
        """Return whether the incident's walk is over."""
        return self.policy.position(self.incident) >= self.policy.total

    def heard(self) -> "Settled":
        """Return a copy without the notes that an earlier planning of the same row has made as well."""
        again = (Note.UNKNOWN_POLICY, Note.LOST_VERSION)
        return attrs.evolve(self, notes=tuple(one for one in self.notes if one[0] not in again))

    def noting(self, note: Note, said: str | None) -> "Settled":
        """Return a copy with one more note."""
        return attrs.evolve(self, notes=(*self.notes, (note, said)))
