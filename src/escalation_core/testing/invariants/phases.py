"""The phases of an incident, derived from what its hosts wrote."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Literal

import attrs

from ...model import BUILTIN
from .history import (
    INFINITY,
    MACHINE,
    Fault,
    History,
    HostWrite,
    RecordedEscalation,
    RecordedNote,
    Verb,
)
from .ladders import Ladder
from .run_settings import RunSettings

State = Literal["open", "acknowledged", "resolved", "renamed"]
"""An incident is ``renamed`` when its row has another key now."""
STATES: Mapping[Verb, State] = {"unacknowledge": "open", "resolve": "resolved"}
"""The state after a verb."""
CLOCK_TOLERANCE = 0.002
"""Seconds by which two clocks that are read one after the other may differ."""
PASSED = "nobody"
"""The outcome of an escalation whose level was passed over."""
Span = tuple[float, float]
"""The earliest and the latest instant of something."""


@attrs.frozen(kw_only=True)
class Phase:
    """A time in which neither the state nor the policy of an incident changes.

    The exact instants of the writes at both ends are unknown. So a phase surely lasts from ``sure_from`` to
    ``sure_to``, and possibly from ``earliest`` to ``latest``.
    """

    key: str
    episode: int
    state: State
    severity: str | None
    first_seen: float
    ladder: Ladder
    """The version of the policy that the incident walks through."""
    snoozed_until: float = 0.0
    base: int = 0
    """The level at which the episode began."""
    walked: int = 0
    """The position in the walk at which the episode began."""
    last: float | None = None
    """When the previous episode was last escalated, if a drain or a restart ended it."""
    since: Span | None = None
    """When the walk began again: the earliest and the latest instant. None: it began at first_seen."""
    changed: bool = False
    """Whether the incident got another policy in this episode."""
    acknowledged: Span | None = None
    """The earliest and the latest instant of the acknowledgement that stands, or that has just ended."""
    ended_ack: bool = False
    """Whether an acknowledgement ended at the beginning of this phase. A walk that is over then begins again."""
    expired: bool = False
    """Whether that acknowledgement expired."""
    earliest: float
    sure_from: float
    sure_to: float = INFINITY
    latest: float = INFINITY

    def possible(self, start: float, end: float) -> bool:
        """Return whether the phase may include an instant between ``start`` and ``end``."""
        return self.earliest <= end + CLOCK_TOLERANCE and self.latest >= start - CLOCK_TOLERANCE

    def position(self, below: Sequence[RecordedEscalation]) -> int:
        """Return the position in the walk after the escalations ``below`` of this episode, the lowest level first.

        A policy that the incident had before in this episode goes on behind its last escalation.
        """
        own = [each for each in below if (each.policy or BUILTIN) == self.ladder.name]
        if own:
            return own[-1].level if own[-1].position is None else own[-1].position
        return 0 if below or self.changed else self.walked

    def due(self, below: Sequence[RecordedEscalation], settings: RunSettings, *, late: bool = False) -> float | None:
        """Return when the incident is due for the level above ``below``; None if its walk is over.

        That is the earliest possible instant, or with ``late`` the latest: a walk may have begun again in a span. The
        level after one that was passed over is due at once.
        """
        ladder, n = self.ladder, self.position(below) + 1
        if n > ladder.total:
            return None
        if below and below[-1].outcome == PASSED:
            return below[-1].created_at
        last = below[-1].created_at if below else self.last
        since = None if self.since is None else self.since[late]
        if n == 1 and (self.changed or below):
            since = max((each for each in (since, last) if each is not None), default=None)
        start, gap = self.first_seen if since is None else since, ladder.gaps[n - 1]
        if ladder.adds_up:
            due = start + sum(ladder.gaps[:n])
            if n > 1 and last is not None and (since is not None or self.changed):
                due = min(due, last + gap)
        else:
            due = (start if n == 1 or last is None else last) + gap
        if last is not None:
            due = max(due, last + max(ladder.min_gap, settings.tick))
        return max(due, self.snoozed_until)

    def ack_ends(self, kept: Mapping[str, float]) -> Span | None:
        """Return the earliest and the latest instant at which the acknowledgement ends; None if it does not."""
        if self.acknowledged is None or self.ladder.ack_timeout is None:
            return None
        began, timeout = kept.get(self.ladder.version, 0.0), self.ladder.ack_timeout
        return max(self.acknowledged[0], began) + timeout, max(self.acknowledged[1], began) + timeout


def by_episode(escalations: Sequence[RecordedEscalation]) -> dict[tuple[str, int], list[RecordedEscalation]]:
    """Return the escalations of each (key, episode), in the order of their levels."""
    found: dict[tuple[str, int], list[RecordedEscalation]] = {}
    for each in sorted(escalations, key=lambda each: (each.key, each.episode, each.level)):
        found.setdefault((each.key, each.episode), []).append(each)
    return found


def phases(history: History) -> dict[str, list[Phase]]:
    """Return the phases of each incident, in order. They begin with writes of hosts, and with what the engine noted."""
    recorded = by_episode(history.escalations)
    current: dict[str, Phase] = {}
    ended: dict[str, list[Phase]] = {}
    events: list[tuple[float, HostWrite | RecordedNote]] = [(write.began, write) for write in history.writes]
    events += [(note.at, note) for note in history.notes or () if note.action != "unheard"]
    for began, event in sorted(events, key=lambda each: each[0]):
        was = current.get(event.key)
        if isinstance(event, HostWrite):
            begun, over = list(_begun_by(event, was, recorded, history)), event.ended
        else:
            begun, over = list(_noted(event, was, recorded, history)), event.written
        for phase in begun:
            before = current.get(phase.key)
            past = ended.setdefault(phase.key, [])
            if before is not None:
                past.append(attrs.evolve(before, sure_to=began, latest=over))
            current[phase.key] = phase
    return {key: [*past, current[key]] for key, past in ended.items()}


Recorded = Mapping[tuple[str, int], Sequence[RecordedEscalation]]


def _begun_by(write: HostWrite, was: Phase | None, recorded: Recorded, history: History) -> Iterator[Phase]:
    """Yield the phases that begin with a write: one, or two for a change of the key."""
    if was is None or was.state == "renamed" or (write.verb == "open" and was.state == "resolved"):
        yield _opened(was, write, recorded, history)
        return
    now = _next(was, write.began, write.ended)
    if write.verb == "change_key":
        key = write.new_key or write.key
        yield attrs.evolve(now, state="renamed")
        yield attrs.evolve(
            now,
            key=key,
            episode=_next_episode(key, write, recorded),
            ladder=_ladder(now.severity, write, history),
            base=0,
            walked=0,
            last=None,
            since=None,
            changed=False,
        )
    elif write.verb in ("open", "change_severity"):
        severity = write.severity or now.severity
        yield _assigned(attrs.evolve(now, severity=severity), _ladder(severity, write, history))
    elif write.verb == "snooze":
        yield attrs.evolve(now, snoozed_until=write.until or 0.0)
    elif write.verb == "drain":
        escalations = recorded.get((write.key, now.episode), ())
        top = escalations[-1] if escalations else None
        yield attrs.evolve(
            now,
            episode=now.episode + 1,
            base=(now.base if top is None else top.level) - 1,
            walked=max(0, now.position(escalations) - 1),
            last=now.last if top is None else top.created_at,
            changed=False,
        )
    elif write.verb == "acknowledge":
        yield attrs.evolve(now, state="acknowledged", acknowledged=(write.began, write.ended))
    else:
        ended = write.verb == "unacknowledge" and was.state == "acknowledged"
        yield attrs.evolve(now, state=STATES[write.verb], ended_ack=ended)


def _next(was: Phase, began: float, ended: float) -> Phase:
    """Return the same phase from a later event on."""
    return attrs.evolve(
        was, earliest=began, sure_from=ended, sure_to=INFINITY, latest=INFINITY, ended_ack=False, expired=False
    )


def _noted(note: RecordedNote, was: Phase | None, recorded: Recorded, history: History) -> Iterator[Phase]:
    """Yield the phase that begins with what the engine did by itself, if it did something that was possible."""
    if was is None or was.state not in ("open", "acknowledged"):
        return
    now = _next(was, note.at, note.written)
    if note.action == "ack_expired" and was.state == "acknowledged":
        yield attrs.evolve(now, state="open", ended_ack=True, expired=True)
    elif note.action == "restart" and was.state == "open":
        escalations = recorded.get((note.key, was.episode), ())
        ends = was.ack_ends(history.kept) if was.expired else None
        yield attrs.evolve(
            now,
            episode=was.episode + 1,
            base=was.base if not escalations else escalations[-1].level,
            walked=0,
            last=was.last if not escalations else escalations[-1].created_at,
            since=(note.at, note.at) if ends is None else ends,
            changed=False,
        )


def _ladder(severity: str | None, write: HostWrite, history: History) -> Ladder:
    """Return the policy that the file in force assigns when a host writes."""
    later = bisect_right(history.files, write.began, key=attrgetter("began"))
    return history.settings.ladder(severity, history.files[later - 1].ladders if later else None)


def _assigned(now: Phase, ladder: Ladder) -> Phase:
    """Return the phase with the policy of its severity. A version stays in force as long as the policy's name stays."""
    if ladder.name != now.ladder.name:
        return attrs.evolve(now, ladder=ladder, changed=True)
    return now if ladder.version else attrs.evolve(now, ladder=ladder)


def _opened(was: Phase | None, write: HostWrite, recorded: Recorded, history: History) -> Phase:
    """Return the phase that begins when a row is inserted, or reopened."""
    reopened = was is not None and was.state == "resolved"
    severity = write.severity or (None if was is None else was.severity)
    return Phase(
        key=write.key,
        episode=was.episode + 1 if was is not None and reopened else _next_episode(write.key, write, recorded),
        state="open",
        severity=severity,
        first_seen=write.began if write.first_seen is None else write.first_seen,
        ladder=_ladder(severity, write, history),
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
