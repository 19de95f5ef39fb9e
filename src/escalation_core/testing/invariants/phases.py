"""The phases of an incident, derived from what its hosts wrote."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from .history import INFINITY, MACHINE, Fault, History, HostWrite, RecordedEscalation, RunSettings, Verb

State = Literal["open", "acknowledged", "resolved", "renamed"]
"""An incident is ``renamed`` when its row has another key now."""
STATES: Mapping[Verb, State] = {"acknowledge": "acknowledged", "unacknowledge": "open", "resolve": "resolved"}
"""The state after a verb."""
CLOCK_TOLERANCE = 0.002
"""Seconds by which two clocks that are read one after the other may differ."""


@attrs.frozen(kw_only=True)
class Phase:
    """A time in which the state of an incident does not change.

    The exact instants of the writes at both ends are unknown. So a phase surely lasts from ``sure_from`` to
    ``sure_to``, and possibly from ``earliest`` to ``latest``.
    """

    key: str
    episode: int
    state: State
    severity: str | None
    first_seen: float
    snoozed_until: float = 0.0
    base: int = 0
    """The level at which the episode began."""
    last: float | None = None
    """When the previous episode was last escalated, if a drain ended it."""
    earliest: float
    sure_from: float
    sure_to: float = INFINITY
    latest: float = INFINITY

    def possible(self, start: float, end: float) -> bool:
        """Return whether the phase may include an instant between ``start`` and ``end``."""
        return self.earliest <= end + CLOCK_TOLERANCE and self.latest >= start - CLOCK_TOLERANCE

    def due(self, level: int, before: float | None, settings: RunSettings) -> float:
        """Return when the incident is due for a level; ``before`` is the instant of the level below."""
        window = settings.windows.get(self.severity or "", settings.windows["warning"])
        due = max(self.first_seen + window * level, self.snoozed_until)
        last = self.last if before is None else before
        return due if last is None else max(due, last + settings.gap)


def by_episode(escalations: Sequence[RecordedEscalation]) -> dict[tuple[str, int], list[RecordedEscalation]]:
    """Return the escalations of each (key, episode), in the order of their levels."""
    found: dict[tuple[str, int], list[RecordedEscalation]] = {}
    for each in sorted(escalations, key=lambda each: (each.key, each.episode, each.level)):
        found.setdefault((each.key, each.episode), []).append(each)
    return found


def phases(history: History) -> dict[str, list[Phase]]:
    """Return the phases of each incident, in order."""
    recorded = by_episode(history.escalations)
    current: dict[str, Phase] = {}
    ended: dict[str, list[Phase]] = {}
    for write in sorted(history.writes, key=lambda write: write.began):
        for phase in _begun_by(write, current.get(write.key), recorded):
            before = current.get(phase.key)
            past = ended.setdefault(phase.key, [])
            if before is not None:
                past.append(attrs.evolve(before, sure_to=write.began, latest=write.ended))
            current[phase.key] = phase
    return {key: [*past, current[key]] for key, past in ended.items()}


Recorded = Mapping[tuple[str, int], Sequence[RecordedEscalation]]


def _begun_by(write: HostWrite, was: Phase | None, recorded: Recorded) -> Iterator[Phase]:
    """Yield the phases that begin with a write: one, or two for a change of the key."""
    if was is None or was.state == "renamed" or (write.verb == "open" and was.state == "resolved"):
        yield _opened(was, write, recorded)
        return
    now = attrs.evolve(was, earliest=write.began, sure_from=write.ended, sure_to=INFINITY, latest=INFINITY)
    if write.verb == "change_key":
        key = write.new_key or write.key
        yield attrs.evolve(now, state="renamed")
        yield attrs.evolve(now, key=key, episode=_next_episode(key, write, recorded), base=0, last=None)
    elif write.verb in ("open", "change_severity"):
        yield attrs.evolve(now, severity=write.severity or now.severity)
    elif write.verb == "snooze":
        yield attrs.evolve(now, snoozed_until=write.until or 0.0)
    elif write.verb == "drain":
        escalations = recorded.get((write.key, now.episode), ())
        top = escalations[-1] if escalations else None
        yield attrs.evolve(
            now,
            episode=now.episode + 1,
            base=(now.base if top is None else top.level) - 1,
            last=now.last if top is None else top.created_at,
        )
    else:
        yield attrs.evolve(now, state=STATES[write.verb])


def _opened(was: Phase | None, write: HostWrite, recorded: Recorded) -> Phase:
    """Return the phase that begins when a row is inserted, or reopened."""
    reopened = was is not None and was.state == "resolved"
    return Phase(
        key=write.key,
        episode=was.episode + 1 if was is not None and reopened else _next_episode(write.key, write, recorded),
        state="open",
        severity=write.severity or (None if was is None else was.severity),
        first_seen=write.began if write.first_seen is None else write.first_seen,
        earliest=write.began,
        sure_from=write.ended,
    )


def _next_episode(key: str, write: HostWrite, recorded: Recorded) -> int:
    """Return the episode that a new row begins: one more than the highest one that is recorded for its key."""
    before = [of[1] for of, each in recorded.items() if of[0] == key and any(one.at < write.began for one in each)]
    return 1 + max(before, default=0)


def stops(history: History, key: str | None = None, *, claims: bool = False) -> list[tuple[float, float]]:
    """Return the times in which faults and pauses stop the escalations of all incidents, or of the incident ``key``.

    With ``claims`` it also returns the times in which no page can be claimed.
    """
    stopped = [
        (fault.start, fault.over)
        for fault in history.faults
        if (fault.stops or (claims and fault.stops_claims)) and (fault.keys is None or key in fault.keys)
    ]
    return sorted(stopped + [(pause.began, pause.ended) for pause in history.pauses])


def deadline(start: float, allowance: float, stopped: Sequence[tuple[float, float]]) -> float:
    """Return the deadline of something that is possible from ``start`` on: ``allowance`` seconds later.

    Each stop before the deadline moves the deadline to ``allowance`` seconds after the stop.
    """
    end = start + allowance
    for began, ended in stopped:
        if began <= end and ended > start:
            end = max(end, ended + allowance)
    return end


def machine_stalls(faults: Sequence[Fault]) -> list[tuple[float, float]]:
    """Return the times in which the machine itself stood still."""
    return [(fault.start, fault.end) for fault in faults if fault.kind == MACHINE]
