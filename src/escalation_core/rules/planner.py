"""The planner: which policy, and which version of it, decides about an incident. Pure; ``now`` is an argument.

``Planner.settle`` takes an incident as its row is, and returns it with its pin, and with what has ended: an
acknowledgement that expired, or a walk that begins again. ``plan`` and the verbs then ask the policy when it is due.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from ..model import BUILTIN, MAX_PIN_SEVERITY_CHARS, NEEDS_REPLAN, Incident, Pin, State, normal_severity
from .builtin import BuiltinPolicy
from .hours import later
from .policies import Policies
from .policy import OnExpiry, Policy


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


@attrs.frozen
class Version:
    """A version of a policy that the store keeps."""

    policy: Policy
    kept_at: datetime | None = None
    """When the store began to keep it. None for one that is not kept yet."""


@attrs.frozen
class Settled:
    """An incident as a planning finds it, and the policy that decides about it."""

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
        done = {note for note, _ in self.notes}
        if Note.ACK_EXPIRED in done:
            return "acknowledgement expired"
        return "restarted" if Note.RESTART in done else None

    def due(self, now: datetime) -> datetime | None:
        """Return the next_due_at that a verb or a recalculation writes.

        That is the instant of the rule, or the next start of the level's hours if it has passed and they are closed. A
        row whose policy this engine cannot assign needs a replan: another engine may know the policy.
        """
        if self.unsure:
            return NEEDS_REPLAN
        due = self.rule(now)
        if due is not None and due <= now and self.incident.state is State.OPEN:
            return self.put_off(now) or due
        return due

    def rule(self, clock: datetime) -> datetime | None:
        """Return the instant at which an open incident is due, or an acknowledgement expires; None without one.

        Instants of the past that lie after ``clock`` count as ``clock``: the store's clock stepped back.
        """
        incident = self.incident
        if incident.state is State.ACKNOWLEDGED:
            return self.ack_expires_at(clock)
        if incident.state is not State.OPEN:
            return None
        last = incident.last_escalated_at
        return self.after(incident.level, last if last is None else min(last, clock), clock)

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


@attrs.frozen(kw_only=True)
class Planner:
    """What decides about incidents: the built-in policy, the policies file, and the kept versions.

    ``versions`` has the versions that the incidents' pins name, by digest. ``positions`` has, for each (incident_key,
    episode), the position of the last escalation of each policy, for the incidents that ``needs_positions`` names.
    """

    builtin: BuiltinPolicy
    policies: Policies | None = None
    file_missing: bool = False
    """There is a policies file, and this engine does not have its content: it leaves assignments to another one."""
    versions: Mapping[str, Version] = attrs.field(factory=dict)
    positions: Mapping[tuple[str, int], Mapping[str, int]] = attrs.field(factory=dict)

    def settle(self, incident: Incident, now: datetime, *, may_expire: bool = False) -> Settled:
        """Return the incident with its pin, and the policy that decides about it.

        With ``may_expire``, an acknowledgement whose time is over ends. What ends an acknowledgement is decided by the
        policy that the incident was pinned to, before another one may be assigned.
        """
        no_file = self.policies is None and not self.file_missing
        if no_file and incident.policy_pin is None and not incident.policy:
            return Settled(incident, self.builtin.walk(incident.severity), self.builtin.tick_interval)
        pin = Pin.parse(incident.policy_pin)
        found = self._pinned(incident, pin, now)
        if incident.state is State.RESOLVED:
            return found
        if pin is not None and pin.unacknowledged:
            found = _with_pin(found, attrs.evolve(pin_of(found.incident) or pin, unacknowledged=False))
            if found.incident.state is State.OPEN and found.exhausted() and found.policy.name != BUILTIN:
                found = restart(found, now)
        if may_expire:
            found = _expire(found, now)
        found = self._assign(found, now)
        return _expire(found, now) if may_expire else found

    def next_step(self, incident: Incident, now: datetime) -> tuple[Settled, datetime] | None:
        """Return the planning of the next escalation and its instant, if nothing changes until then; None without one.

        An acknowledged incident is planned as it will be when its acknowledgement expires.
        """
        found = self.settle(incident, now)
        due = found.due(now)
        if due is None or found.incident.state is not State.ACKNOWLEDGED:
            return None if due is None else (found, due)
        expires = max(due, now)
        found = self.settle(found.incident, expires, may_expire=True)
        due = found.due(expires)
        return None if due is None else (found, max(due, expires))

    def needs_positions(self, incident: Incident) -> bool:
        """Return whether ``settle`` may give the incident another policy in the middle of an episode."""
        if incident.level == 0 or (incident.policy_pin is None and self.policies is None):
            return False
        pin = pin_of(incident) or Pin(BUILTIN, "", _pin_severity(incident))
        return not _fits(pin, incident)

    def rebind(self, incident: Incident, policy: Policy, now: datetime, *, begin_again: bool = False) -> Settled:
        """Return the incident pinned to this version of its policy, at the same position of the walk.

        The walk begins again with ``begin_again``, or if it was not over and its position lies beyond the new version's
        end. A walk that was over stays so, unless the new version is longer.
        """
        pin = pin_of(incident) or Pin(policy.name, "", _pin_severity(incident))
        before = self._pinned(incident, pin, now)
        lost = any(note is Note.LOST_VERSION for note, _ in before.notes)
        # Without the old version's text, its end is known by the row alone.
        was_over = incident.next_due_at is None if lost else before.exhausted()
        found = _with_pin(
            attrs.evolve(before, incident=incident, policy=policy, kept_at=self._kept_at(policy, now), notes=()),
            Pin(policy.name, policy.digest, pin.severity, pin.unacknowledged),
        )
        return restart(found, now) if begin_again or (found.exhausted() and not was_over) else found

    def _pinned(self, incident: Incident, pin: Pin | None, now: datetime) -> Settled:
        """Return the incident with the version that its pin names. If the version is lost, pin it to another one."""
        tick_interval = self.builtin.tick_interval
        if pin is None or pin.policy == BUILTIN:
            return Settled(incident, self.builtin.walk(incident.severity), tick_interval)
        version = self.versions.get(pin.digest)
        own = None if self.policies is None else self.policies.policies.get(pin.policy)
        if version is None and own is not None and own.digest == pin.digest:
            version = Version(own, now)
        if version is not None:
            policy = (
                attrs.evolve(version.policy, name=pin.policy) if version.policy.name != pin.policy else version.policy
            )
            return Settled(incident, policy, tick_interval, version.kept_at)
        notes = ((Note.LOST_VERSION, f"{pin.policy} {pin.digest[:12]}"),)
        if self.policies is None:
            return Settled(incident, self.builtin.walk(incident.severity), tick_interval, unsure=True, notes=notes)
        found = Settled(incident, own or self.builtin.walk(incident.severity), tick_interval, notes=notes)
        found = _with_pin(found, attrs.evolve(pin, policy=found.policy.name, digest=found.policy.digest))
        over = incident.state is State.OPEN and incident.next_due_at is None
        return restart(found, now) if found.exhausted() and not over else found

    def _assign(self, found: Settled, now: datetime) -> Settled:
        """Give the incident its policy, if it has none yet, or if its severity or the host's word asks for another."""
        incident = found.incident
        pin = pin_of(incident)
        if pin is None and incident.level > 0 and self.policies is not None:
            # The row is from before the policies file: the built-in policy goes on, unless the host names another.
            pin = Pin(BUILTIN, "", _pin_severity(incident))
            found = _with_pin(found, pin)
        if pin is not None and _fits(pin, incident):
            return found
        word = _word(incident)
        if pin is not None and word == pin.policy:
            return _with_pin(found, attrs.evolve(pin, severity=_pin_severity(incident)))
        if self.policies is None:
            if pin is None and word == BUILTIN:
                return found
            unsure = attrs.evolve(found, unsure=True)
            return unsure if word in (None, BUILTIN) else unsure.noting(Note.UNKNOWN_POLICY, word)
        name = self.policies.choose(incident) if word is None else word
        if pin is not None and name == pin.policy:
            return _with_pin(found, attrs.evolve(pin, severity=_pin_severity(incident)))
        policy = self.builtin.walk(incident.severity) if name == BUILTIN else self.policies.policies.get(name)
        if policy is None:
            return attrs.evolve(found, unsure=True).noting(Note.UNKNOWN_POLICY, word)
        return self._change(found, pin, policy, now)

    def _change(self, found: Settled, pin: Pin | None, policy: Policy, now: datetime) -> Settled:
        """Give the incident another policy. In mid-episode it goes on where it last was in it, or begins it."""
        incident = found.incident
        if pin is not None:
            position = self.positions.get((incident.incident_key, incident.episode), {}).get(policy.name)
            if position is not None:
                level, since = max(0, incident.level - min(position, policy.total)), incident.policy_since
            else:
                level = incident.level
                since = max(filter(None, (incident.policy_since, incident.last_escalated_at)), default=None)
            incident = attrs.evolve(incident, policy_level=level, policy_since=since)
        found = attrs.evolve(found, incident=incident, policy=policy, kept_at=self._kept_at(policy, now))
        return _with_pin(found, Pin(policy.name, policy.digest, _pin_severity(incident)))

    def _kept_at(self, policy: Policy, now: datetime) -> datetime | None:
        """Return when the store began to keep a version: now, if this transaction is the first to save it."""
        version = self.versions.get(policy.digest)
        return None if not policy.digest else now if version is None else version.kept_at


def restart(found: Settled, since: datetime) -> Settled:
    """Return the incident at the beginning of its policy, in a new episode, at the same level."""
    incident = found.incident
    again = attrs.evolve(
        incident, episode=incident.episode + 1, policy_level=incident.level, policy_since=since, next_due_at=None
    )
    return attrs.evolve(found, incident=again).noting(Note.RESTART, found.policy.name)


def pin_of(incident: Incident) -> Pin | None:
    """Return the incident's pin; None if it has none, or one that is not valid."""
    return Pin.parse(incident.policy_pin)


def _expire(found: Settled, now: datetime) -> Settled:
    """End an acknowledgement whose time is over. An exhausted walk of a file's policy begins again."""
    expires = found.ack_expires_at(now)
    if found.incident.state is not State.ACKNOWLEDGED or expires is None or expires > now:
        return found
    ended = attrs.evolve(found.incident, acknowledged_at=None, acknowledged_by=None)
    by = found.incident.acknowledged_by
    said = f"acknowledged at {found.incident.acknowledged_at}" + ("" if by is None else f" by {by}")
    found = attrs.evolve(found, incident=ended).noting(Note.ACK_EXPIRED, said)
    again = found.policy.on_ack_expiry is OnExpiry.RESTART or found.exhausted()
    return restart(found, expires) if again else found


def _with_pin(found: Settled, pin: Pin) -> Settled:
    return attrs.evolve(found, incident=attrs.evolve(found.incident, policy_pin=str(pin)))


def _fits(pin: Pin, incident: Incident) -> bool:
    """Return whether the pin is for the incident's severity and for the policy that the host names, if it names one."""
    return pin.severity == _pin_severity(incident) and _word(incident) in (None, pin.policy)


def _word(incident: Incident) -> str | None:
    """Return the policy that the host names; None if it names none."""
    return (incident.policy or "").strip() or None


def _pin_severity(incident: Incident) -> str:
    return normal_severity(incident.severity or "")[:MAX_PIN_SEVERITY_CHARS]
