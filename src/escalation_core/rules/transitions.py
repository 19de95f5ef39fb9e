"""What people and hosts may do to an incident, and in which state: the whole table, as pure functions.

``admit`` holds a verb against the table; the verb's own function then says what it does.

=================  ==========================  ============  ============  ============
verb               open                        acknowledged  resolved      unknown key
=================  ==========================  ============  ============  ============
open               updates what it says        the same      new episode   creates
acknowledge        ends paging                 no-op         refused       refused
unacknowledge      no-op                       pages again   refused       refused
resolve            ends                        ends          no-op         refused
change_severity    recomputes                  recorded      refused       refused
snooze             no escalation before        refused       refused       refused
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
from .plan import check_first_seen
from .policy import EscalationPolicy


class Verb(StrEnum):
    """The verbs, as the audit and the command line name them."""

    OPEN = "open"
    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    RESOLVE = "resolve"
    CHANGE_SEVERITY = "change_severity"
    SNOOZE = "snooze"
    DRAIN = "drain"


LAST_SNOOZE = datetime.max.replace(microsecond=0, tzinfo=UTC)
"""The end of the year 9999: stores keep the last microseconds for what cannot be read."""
_LIVE = frozenset({State.OPEN, State.ACKNOWLEDGED})
ALLOWED: Mapping[Verb, frozenset[State]] = {
    Verb.OPEN: frozenset(State),  # never refused: what is unknown is created
    Verb.ACKNOWLEDGE: _LIVE,
    Verb.UNACKNOWLEDGE: _LIVE,
    Verb.RESOLVE: _LIVE | {State.RESOLVED},
    Verb.CHANGE_SEVERITY: _LIVE,
    Verb.SNOOZE: frozenset({State.OPEN}),
    Verb.DRAIN: frozenset({State.OPEN}),
}
"""The states in which each verb is possible. Everywhere else it is refused, and nothing is written."""

_REMEDIES = {
    State.UNKNOWN: "open it first",
    State.OPEN: "nothing to do",
    State.ACKNOWLEDGED: "unacknowledge it first",
    State.RESOLVED: "open it again first",
}


@attrs.frozen(kw_only=True)
class Change:
    """What a verb does: the incident as it is to be written, and why its unsent pages are cancelled, if they are."""

    before: Incident | None
    incident: Incident
    cancel: str | None = None

    @property
    def changed(self) -> bool:
        """Whether anything is to be written at all; a no-op leaves no trace."""
        return self.incident != self.before


def admit(verb: Verb, incident_key: str, incident: Incident | None) -> Incident:
    """Return the incident, or raise ``TransitionRefused`` if ``verb`` is not possible in the state it is in."""
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
    policy: EscalationPolicy,
    now: datetime,
) -> Change:
    """Open an incident, or bring severity, summary and labels of a live one up to date (None leaves them alone).

    ``highest_episode`` is the highest one that the ledger knows of the key, 0 if none. A new incident's severity is
    ``warning`` unless one is given.
    """
    if first_seen is not None:
        check_first_seen(check_instant(first_seen, "first_seen"), now)
    said = {"severity": severity, "summary": summary, "labels": labels}
    given = {name: value for name, value in said.items() if value is not None}
    if incident is not None and incident.state in _LIVE:
        # A dict of attributes is what evolve takes; each goes through the same checks as at birth.
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
    """Somebody has it: nothing escalates any more and unsent pages are cancelled. The first actor stays."""
    if incident.state is State.ACKNOWLEDGED:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, acknowledged_at=now, acknowledged_by=by, next_due_at=None)
    return Change(before=incident, incident=after, cancel="acknowledged")


def unacknowledge(incident: Incident, *, policy: EscalationPolicy, now: datetime) -> Change:
    """Nobody has it after all: the same episode goes on where it was. Cancelled pages stay cancelled."""
    if incident.state is State.OPEN:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, acknowledged_at=None, acknowledged_by=None)
    return _recompute(incident, after, policy, now)


def resolve(incident: Incident, *, now: datetime) -> Change:
    """It is over: nothing escalates any more and unsent pages are cancelled."""
    if incident.state is State.RESOLVED:
        return Change(before=incident, incident=incident)
    after = attrs.evolve(incident, resolved_at=now, next_due_at=None)
    return Change(before=incident, incident=after, cancel="resolved")


def change_severity(incident: Incident, severity: str, *, policy: EscalationPolicy, now: datetime) -> Change:
    """Give it another severity, and with it another window."""
    return _recompute(incident, attrs.evolve(incident, severity=severity), policy, now)


def snooze(
    incident: Incident, until: datetime | timedelta | None, *, policy: EscalationPolicy, now: datetime
) -> Change:
    """Let nothing escalate before ``until``, or for a span; None ends the snooze. Pages that are recorded still go."""
    if isinstance(until, timedelta):
        if until <= timedelta():
            raise InvalidValue(
                "until", "is a span that is over already", "give a longer one, or None to end the snooze"
            )
        until = now + min(until, datetime.max.replace(tzinfo=UTC) - now)
    if until is not None and check_instant(until, "until") > LAST_SNOOZE:
        raise InvalidValue("until", "lies beyond the year 9999", f"give at most {LAST_SNOOZE.isoformat()}")
    return _recompute(incident, attrs.evolve(incident, snoozed_until=until), policy, now)


def drain(incident: Incident, *, policy: EscalationPolicy, now: datetime) -> Change:
    """Take it down one level, in a new episode, so that the level can be recorded and paged once more."""
    if incident.level == 0:
        raise TransitionRefused(incident.incident_key, "at level 0", Verb.DRAIN.value, "there is no level to take back")
    after = attrs.evolve(incident, level=incident.level - 1, episode=incident.episode + 1)
    return attrs.evolve(_recompute(incident, after, policy, now), cancel="drained")


def _recompute(before: Incident, after: Incident, policy: EscalationPolicy, now: datetime) -> Change:
    due = policy.next_due_at(after, now)
    return Change(before=before, incident=attrs.evolve(after, next_due_at=due))
