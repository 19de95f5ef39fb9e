"""The transitions of an incident: which verb is possible in which state, and what it changes. Pure functions.

``admit`` checks a verb against the table. The function of each verb then returns the change.

=================  ==========================  ============  ============  ============
verb               open                        acknowledged  resolved      unknown key
=================  ==========================  ============  ============  ============
open               updates the given fields    the same      new episode   creates
acknowledge        stops paging                no-op         refused       refused
unacknowledge      no-op                       pages again   refused       refused
resolve            resolves                    resolves      no-op         refused
change_severity    new due instant             recorded      refused       refused
snooze             delays escalation           refused       refused       refused
drain              level - 1, episode + 1      refused       refused       refused
rebind             present version of policy   the same      refused       refused
=================  ==========================  ============  ============  ============
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import attrs

from ..checks import check_instant
from ..errors import InvalidValue, TransitionRefused
from ..model import BUILTIN, NEEDS_REPLAN, AuditEntry, By, Incident, State
from .plan import check_first_seen
from .planner import Planner, pin_of
from .policies import check_policy_name
from .settled import Note


class Verb(StrEnum):
    """The verbs, under the names that the audit and the command line use."""

    OPEN = "open"
    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    RESOLVE = "resolve"
    CHANGE_SEVERITY = "change_severity"
    SNOOZE = "snooze"
    DRAIN = "drain"
    REBIND = "rebind"


LAST_SNOOZE = datetime.max.replace(microsecond=0, tzinfo=UTC)
"""The latest end of a snooze, a second before the year 10000. Stores use the later microseconds for other purposes."""
_LIVE = frozenset({State.OPEN, State.ACKNOWLEDGED})
ALLOWED: Mapping[Verb, frozenset[State]] = {
    Verb.OPEN: frozenset(State),  # never refused: it creates an unknown incident
    Verb.ACKNOWLEDGE: _LIVE,
    Verb.UNACKNOWLEDGE: _LIVE,
    Verb.RESOLVE: _LIVE | {State.RESOLVED},
    Verb.CHANGE_SEVERITY: _LIVE,
    Verb.SNOOZE: frozenset({State.OPEN}),
    Verb.DRAIN: frozenset({State.OPEN}),
    Verb.REBIND: _LIVE,
}
"""The states in which each verb is possible. In all other states the engine refuses the verb and writes nothing."""

_REMEDIES = {
    State.UNKNOWN: "open it first",
    State.OPEN: "nothing to do",
    State.ACKNOWLEDGED: "unacknowledge it first",
    State.RESOLVED: "open it again first",
}


@attrs.frozen(kw_only=True)
class Change:
    """The effect of a verb: the incident to be written, and the reason if its unsent pages are cancelled."""

    before: Incident | None
    incident: Incident
    cancel: str | None = None
    notes: tuple[tuple[Note, str | None], ...] = ()
    """What the planning did besides, for example give up an unknown policy."""

    @property
    def changed(self) -> bool:
        """Whether the verb changes anything. For a no-op the engine writes neither the incident nor the audit."""
        return self.incident != self.before

    def entries(self, now: datetime) -> Sequence[AuditEntry]:
        """Return the audit entries of the notes."""
        return [By(reason=said).entry(now, note, incident=self.incident) for note, said in self.notes]


def admit(verb: Verb, incident_key: str, incident: Incident | None) -> Incident:
    """Return the incident, or raise ``TransitionRefused`` if its state does not allow ``verb``."""
    state = State.UNKNOWN if incident is None else incident.state
    if incident is None or state not in ALLOWED[verb]:
        raise TransitionRefused(incident_key, state.value, verb.value, _REMEDIES[state])
    return incident


def open_incident(
    incident: Incident | None,
    incident_key: str,
    *,
    severity: str | None,
    summary: str | None,
    labels: Mapping[str, str] | None,
    first_seen: datetime | None,
    highest_episode: int,
    policy: str | None = None,
    planner: Planner,
    now: datetime,
) -> Change:
    """Open an incident, or update what is given of one that is not resolved. None keeps a value.

    ``highest_episode`` is the key's highest episode in the ledger, 0 if it has none. The severity of a new incident
    defaults to ``warning``.
    """
    if first_seen is not None:
        check_first_seen(check_instant(first_seen, "first_seen"), now)
    said = {"severity": severity, "summary": summary, "labels": labels, "policy": policy}
    given = {name: value for name, value in said.items() if value is not None}
    if incident is not None and incident.state in _LIVE:
        # evolve takes the attributes from the dict and checks each one, as for a new incident.
        return _recompute(incident, attrs.evolve(incident, **given), planner, now)  # type: ignore[arg-type]
    kept = {} if incident is None else {name: getattr(incident, name) for name in said}
    episode = max(highest_episode, 0 if incident is None else incident.episode) + 1
    born = Incident(
        incident_key=incident_key,
        episode=episode,
        first_seen=now if first_seen is None else first_seen,
        **({"severity": "warning"} | kept | given),
    )
    return _recompute(incident, born, planner, now, cancel="opened again" if incident is not None else None)


def acknowledge(incident: Incident, by: str | None, *, planner: Planner, now: datetime) -> Change:
    """Acknowledge the incident: it no longer escalates, and its unsent pages are cancelled.

    A second acknowledgement changes nothing, except that it begins the policy's ack_timeout again.
    ``acknowledged_by`` stays the first actor.
    """
    if incident.state is State.ACKNOWLEDGED:
        if planner.settle(incident, now).policy.ack_timeout is None:
            return Change(before=incident, incident=incident)
        return _recompute(incident, attrs.evolve(incident, acknowledged_at=now), planner, now)
    after = attrs.evolve(incident, acknowledged_at=now, acknowledged_by=by)
    return _recompute(incident, after, planner, now, cancel="acknowledged")


def unacknowledge(incident: Incident, *, planner: Planner, now: datetime) -> Change:
    """Take the acknowledgement back: the walk continues at its level. Cancelled pages stay cancelled.

    If the walk through a policy of the file is over, it begins again, in a new episode.
    """
    if incident.state is State.OPEN:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, acknowledged_at=None, acknowledged_by=None)
    pin = pin_of(after)
    if pin is not None:
        # The planner decides whether the walk begins again, as it does after a host's SQL.
        after = attrs.evolve(after, policy_pin=str(attrs.evolve(pin, unacknowledged=True)))
    return _recompute(incident, after, planner, now, cancel="unacknowledged")


def resolve(incident: Incident, *, now: datetime) -> Change:
    """Resolve the incident: it no longer escalates, and its unsent pages are cancelled."""
    if incident.state is State.RESOLVED:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, resolved_at=now, next_due_at=None)
    return Change(before=incident, incident=after, cancel="resolved")


def change_severity(incident: Incident, severity: str, *, planner: Planner, now: datetime) -> Change:
    """Give the incident another severity, and recompute its due instant with the window of that severity."""
    return _recompute(incident, attrs.evolve(incident, severity=severity), planner, now)


def snooze(incident: Incident, until: datetime | timedelta | None, *, planner: Planner, now: datetime) -> Change:
    """Snooze the incident: it does not escalate before ``until``, or for a span. None ends the snooze.

    Pages that are already recorded are still sent.
    """
    if isinstance(until, timedelta):
        if until <= timedelta():
            raise InvalidValue("until", "is a span of zero or less", "give a longer span, or None to end the snooze")
        until = now + min(until, datetime.max.replace(tzinfo=UTC) - now)
    if until is not None and check_instant(until, "until") > LAST_SNOOZE:
        raise InvalidValue("until", "lies beyond the year 9999", f"give at most {LAST_SNOOZE.isoformat()}")
    return _recompute(incident, attrs.evolve(incident, snoozed_until=until), planner, now)


def drain(incident: Incident, *, planner: Planner, now: datetime) -> Change:
    """Lower the incident by one level in a new episode, so that the engine can record and page that level again."""
    if incident.level == 0:
        raise TransitionRefused(incident.incident_key, "at level 0", Verb.DRAIN.value, "there is no level to take back")
    level = incident.level - 1
    began = None if incident.policy_level is None else min(incident.policy_level, level)
    after = attrs.evolve(incident, level=level, episode=incident.episode + 1, policy_level=began)
    return _recompute(incident, after, planner, now, cancel="drained")


def rebind(incident: Incident, *, planner: Planner, now: datetime, begin_again: bool = False) -> Change:
    """Pin the incident to the file's present version of its policy, at the same position of the walk.

    Raises:
        InvalidValue: the file has no policy of this name.
        TransitionRefused: the incident has no policy of a file.
    """
    settled = planner.settle(incident, now)
    pin = pin_of(settled.incident)
    if pin is None or pin.policy == BUILTIN:
        remedy = "only a policy of the policies file has versions"
        raise TransitionRefused(incident.incident_key, "not pinned to a policy", Verb.REBIND.value, remedy)
    name = check_policy_name(pin.policy, planner.policies)
    assert planner.policies is not None  # noqa: S101 - it knows the name
    found = planner.rebind(settled.incident, planner.policies.policies[name], now, begin_again=begin_again)
    return _recompute(
        incident,
        found.incident,
        planner,
        now,
        cancel=found.cancel or settled.cancel,
        notes=(*settled.notes, *found.notes),
    )


def _recompute(
    before: Incident | None,
    after: Incident,
    planner: Planner,
    now: datetime,
    *,
    cancel: str | None = None,
    notes: tuple[tuple[Note, str | None], ...] = (),
) -> Change:
    """Return the change with the incident's pin and next_due_at."""
    found = planner.settle(after, now)
    due = found.due(now)
    unplanned = before is not None and before.next_due_at == NEEDS_REPLAN and found.incident.policy_pin is None
    if due is None and unplanned and found.incident.state is State.ACKNOWLEDGED:
        # No worker has seen the row. One with a policies file may give it a policy whose acknowledgements expire.
        due = NEEDS_REPLAN
    incident = attrs.evolve(found.incident, next_due_at=due)
    return Change(before=before, incident=incident, cancel=cancel or found.cancel, notes=(*notes, *found.notes))
