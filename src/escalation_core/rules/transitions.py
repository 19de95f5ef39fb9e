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
=================  ==========================  ============  ============  ============
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import attrs

from ..checks import check_instant
from ..errors import InvalidValue, TransitionRefused
from ..model import Incident, State
from .builtin import BuiltinPolicy
from .plan import check_first_seen


class Verb(StrEnum):
    """The verbs, under the names that the audit and the command line use."""

    OPEN = "open"
    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    RESOLVE = "resolve"
    CHANGE_SEVERITY = "change_severity"
    SNOOZE = "snooze"
    DRAIN = "drain"


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

    @property
    def changed(self) -> bool:
        """Whether the verb changes anything. For a no-op the engine writes neither the incident nor the audit."""
        return self.incident != self.before


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
    policy: BuiltinPolicy,
    now: datetime,
) -> Change:
    """Open an incident, or update severity, summary and labels of one that is not resolved. None keeps a value.

    ``highest_episode`` is the key's highest episode in the ledger, 0 if it has none. The severity of a new incident
    defaults to ``warning``.
    """
    if first_seen is not None:
        check_first_seen(check_instant(first_seen, "first_seen"), now)
    said = {"severity": severity, "summary": summary, "labels": labels}
    given = {name: value for name, value in said.items() if value is not None}
    if incident is not None and incident.state in _LIVE:
        # evolve takes the attributes from the dict and checks each one, as for a new incident.
        return _recompute(incident, attrs.evolve(incident, **given), policy, now)  # type: ignore[arg-type]
    kept = {} if incident is None else {name: getattr(incident, name) for name in said}
    episode = max(highest_episode, 0 if incident is None else incident.episode) + 1
    born = Incident(
        incident_key=incident_key,
        episode=episode,
        first_seen=now if first_seen is None else first_seen,
        **({"severity": "warning"} | kept | given),
    )
    born = attrs.evolve(born, next_due_at=policy.next_due_at(born, now))
    return Change(before=incident, incident=born, cancel="opened again" if incident is not None else None)


def acknowledge(incident: Incident, by: str | None, *, now: datetime) -> Change:
    """Acknowledge the incident: it no longer escalates, and its unsent pages are cancelled.

    A second acknowledgement changes nothing, so ``acknowledged_by`` stays the first actor.
    """
    if incident.state is State.ACKNOWLEDGED:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, acknowledged_at=now, acknowledged_by=by, next_due_at=None)
    return Change(before=incident, incident=after, cancel="acknowledged")


def unacknowledge(incident: Incident, *, policy: BuiltinPolicy, now: datetime) -> Change:
    """Take the acknowledgement back: the same episode continues at its level. Cancelled pages stay cancelled."""
    if incident.state is State.OPEN:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, acknowledged_at=None, acknowledged_by=None)
    return _recompute(incident, after, policy, now)


def resolve(incident: Incident, *, now: datetime) -> Change:
    """Resolve the incident: it no longer escalates, and its unsent pages are cancelled."""
    if incident.state is State.RESOLVED:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, resolved_at=now, next_due_at=None)
    return Change(before=incident, incident=after, cancel="resolved")


def change_severity(incident: Incident, severity: str, *, policy: BuiltinPolicy, now: datetime) -> Change:
    """Give the incident another severity, and recompute its due instant with the window of that severity."""
    return _recompute(incident, attrs.evolve(incident, severity=severity), policy, now)


def snooze(incident: Incident, until: datetime | timedelta | None, *, policy: BuiltinPolicy, now: datetime) -> Change:
    """Snooze the incident: it does not escalate before ``until``, or for a span. None ends the snooze.

    Pages that are already recorded are still sent.
    """
    if isinstance(until, timedelta):
        if until <= timedelta():
            raise InvalidValue("until", "is a span of zero or less", "give a longer span, or None to end the snooze")
        until = now + min(until, datetime.max.replace(tzinfo=UTC) - now)
    if until is not None and check_instant(until, "until") > LAST_SNOOZE:
        raise InvalidValue("until", "lies beyond the year 9999", f"give at most {LAST_SNOOZE.isoformat()}")
    return _recompute(incident, attrs.evolve(incident, snoozed_until=until), policy, now)


def drain(incident: Incident, *, policy: BuiltinPolicy, now: datetime) -> Change:
    """Lower the incident by one level in a new episode, so that the engine can record and page that level again."""
    if incident.level == 0:
        raise TransitionRefused(incident.incident_key, "at level 0", Verb.DRAIN.value, "there is no level to take back")
    after = attrs.evolve(incident, level=incident.level - 1, episode=incident.episode + 1)
    return attrs.evolve(_recompute(incident, after, policy, now), cancel="drained")


def _recompute(before: Incident, after: Incident, policy: BuiltinPolicy, now: datetime) -> Change:
    due = policy.next_due_at(after, now)
    return Change(before=before, incident=attrs.evolve(after, next_due_at=due))
