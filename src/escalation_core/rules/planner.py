"""The planner: which policy, and which version of it, decides about an incident. Pure; ``now`` is an argument.

``Planner.settle`` takes an incident as its row is, and returns it with its pin, and with what has ended: an
acknowledgement that expired, or a walk that begins again. ``plan`` and the verbs then ask the policy when it is due.
"""

from collections.abc import Mapping
from datetime import datetime

import attrs

from ..model import BUILTIN, MAX_NAME_CHARS, MAX_PIN_SEVERITY_CHARS, Incident, Pin, State, normal_severity
from .builtin import BuiltinPolicy
from .on_call import OnCall
from .policies import Policies
from .policy import OnExpiry, Policy
from .settled import Note, Settled


@attrs.frozen
class Version:
    """A version of a policy that the store keeps."""

    policy: Policy | None
    """None if this engine cannot read its text, for example because its system lacks a time zone."""
    kept_at: datetime | None = None
    """When the store began to keep it. None for one that is not kept yet."""
    _named: dict[str, Policy] = attrs.field(factory=dict, eq=False, repr=False)

    def named(self, name: str) -> Policy | None:
        """Return the policy under this name: two policies of a file may have the same text."""
        found = self._named.get(name)
        if found is None and self.policy is not None:
            found = self._named[name] = attrs.evolve(self.policy, name=name)
        return found


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
    on_call: OnCall = attrs.field(factory=OnCall)
    """Who is on call, for the levels that name a schedule."""

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
        if incident.resolved_at is not None:
            return found
        if pin is not None and found.incident is incident and _stays(pin, incident):
            return found
        if pin is not None and pin.unacknowledged and not found.unsure:
            found = _with_pin(found, attrs.evolve(pin_of(found.incident) or pin, unacknowledged=False))
            if found.incident.state is State.OPEN and found.exhausted() and found.policy.name != BUILTIN:
                found = restart(found, now)
        if may_expire:
            found = _expire(found, now)
        found = self._assign(found, pin_of(found.incident) if found.incident is not incident else pin, now)
        return _expire(found, now) if may_expire else found

    def place(self, found: Settled, now: datetime) -> Settled:
        """Return the incident at its place in its policy, by the ledger: another policy may have recorded its level."""
        pin = pin_of(found.incident)
        # The pin stays as it is: this engine may be one that cannot assign the policy for a new severity.
        return found if pin is None else _with_pin(self._change(found, pin, found.policy, now), pin)

    def next_step(self, incident: Incident, now: datetime) -> tuple[Settled, datetime] | None:
        """Return the planning of the next escalation and its instant, if nothing changes until then; None without one.

        An acknowledged incident is planned as it will be when its acknowledgement expires.
        """
        found = self.settle(incident, now)
        due = found.coming(now)
        if due is None or found.incident.state is not State.ACKNOWLEDGED:
            return None if due is None else (found, due)
        expires = max(due, now)
        found = self.settle(found.incident, expires, may_expire=True)
        due = found.coming(expires)
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
        was_over = before.exhausted()
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
        policy = None if version is None else version.named(pin.policy)
        if version is not None and policy is not None:
            return Settled(incident, policy, tick_interval, version.kept_at)
        own = None if self.policies is None else self.policies.policies.get(pin.policy)
        if own is not None and own.digest == pin.digest:
            return Settled(incident, own, tick_interval, now if version is None else version.kept_at)
        if version is not None:
            return Settled(incident, self.builtin.walk(incident.severity), tick_interval, unsure=True)
        notes = ((Note.LOST_VERSION, f"{pin.policy} {pin.digest[:12]}"),)
        if self.policies is None:
            return Settled(incident, self.builtin.walk(incident.severity), tick_interval, unsure=True, notes=notes)
        policy = own or self.builtin.walk(incident.severity)
        found = Settled(incident, policy, tick_interval, self._kept_at(policy, now), notes=notes)
        found = _with_pin(found, attrs.evolve(pin, policy=found.policy.name, digest=found.policy.digest))
        over = incident.state is State.OPEN and incident.next_due_at is None
        return restart(found, now) if found.exhausted() and not over else found

    def _assign(self, found: Settled, pin: Pin | None, now: datetime) -> Settled:
        """Give the incident its policy, if it has none yet, or if its severity or the host's word asks for another."""
        incident = found.incident
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
            if word is None or word == BUILTIN:
                return unsure
            return unsure.noting(Note.UNKNOWN_POLICY, word[:MAX_NAME_CHARS])
        name = self.policies.choose(incident) if word is None else word
        if pin is not None and name == pin.policy:
            return _with_pin(found, attrs.evolve(pin, severity=_pin_severity(incident)))
        policy = self.builtin.walk(incident.severity) if name == BUILTIN else self.policies.policies.get(name)
        if policy is None:
            return attrs.evolve(found, unsure=True).noting(Note.UNKNOWN_POLICY, name[:MAX_NAME_CHARS])
        return self._change(found, pin, policy, now)

    def _change(self, found: Settled, pin: Pin | None, policy: Policy, now: datetime) -> Settled:
        """Give the incident another policy. In mid-episode it goes on where it last was in it, or begins it."""
        incident = found.incident
        if pin is not None:
            level: int | None
            position = self.positions.get((incident.incident_key, incident.episode), {}).get(policy.name)
            if position is not None:
                level, since = max(0, incident.level - min(position, policy.total)), incident.policy_since
            else:
                level = incident.level
                # An instant of the past that lies ahead counts as now: the clock stepped back.
                past = (incident.policy_since, incident.last_escalated_at)
                since = max((min(at, now) for at in past if at is not None), default=None)
        else:
            level, since = incident.policy_level, incident.policy_since
        pin_text = f"{policy.name}@{policy.digest}@{_pin_severity(incident)}"
        incident = incident.pinned(pin_text, level, since)
        return Settled(
            incident, policy, found.tick_interval, self._kept_at(policy, now), unsure=found.unsure, notes=found.notes
        )

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
    if found.incident.acknowledged_at is None:
        return found
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
    before = found.incident
    return attrs.evolve(found, incident=before.pinned(str(pin), before.policy_level, before.policy_since))


def _stays(pin: Pin, incident: Incident) -> bool:
    """Return whether the incident is open, and pinned to the policy that it should have, as most incidents are."""
    return incident.acknowledged_at is None and not pin.unacknowledged and _fits(pin, incident)


def _fits(pin: Pin, incident: Incident) -> bool:
    """Return whether the pin is for the incident's severity and for the policy that the host names, if it names one."""
    return pin.severity == _pin_severity(incident) and _word(incident) in (None, pin.policy)


def _word(incident: Incident) -> str | None:
    """Return the policy that the host names; None if it names none, or only blanks."""
    return incident.policy if incident.policy is not None and incident.policy.strip() else None


def _pin_severity(incident: Incident) -> str:
    return normal_severity(incident.severity or "")[:MAX_PIN_SEVERITY_CHARS]
