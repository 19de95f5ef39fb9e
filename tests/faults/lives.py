"""What an incident went through, as its hosts' writes tell it: stretches of time in which its state is known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from .history import INFINITY, Event, Fault, History, Op, Rules, Verb

State = Literal["open", "acknowledged", "resolved", "gone"]
"""Gone is an incident whose row has another key by now."""
STATES: Mapping[Verb, State] = {"acknowledge": "acknowledged", "unacknowledge": "open", "resolve": "resolved"}
"""What follows a verb that brings a state with it."""
INSTANT = 0.002
"""Seconds by which clocks that are read one after the other may differ."""


@attrs.frozen(kw_only=True)
class Stretch:
    """A state of an incident between two writes. When exactly either was committed only bounds are known of.

    It surely lasts from ``sure_from`` to ``sure_to``, and possibly from ``earliest`` to ``latest``.
    """

    key: str
    episode: int
    state: State
    severity: str | None
    first_seen: float
    snoozed_until: float = 0.0
    base: int = 0
    """The level that the episode began with."""
    last: float | None = None
    """When the episode before was escalated last, if it was drained."""
    earliest: float
    sure_from: float
    sure_to: float = INFINITY
    latest: float = INFINITY

    def possible(self, start: float, end: float) -> bool:
        """Tell whether it may have lasted at some instant between two."""
        return self.earliest <= end + INSTANT and self.latest >= start - INSTANT

    def due(self, level: int, before: float | None, rules: Rules) -> float:
        """Return when the incident is due for a level, ``before`` being the instant of the level below."""
        window = rules.windows.get(self.severity or "", rules.windows["warning"])
        due = max(self.first_seen + window * level, self.snoozed_until)
        last = self.last if before is None else before
        return due if last is None else max(due, last + rules.gap)


def episodes(events: Sequence[Event]) -> dict[tuple[str, int], list[Event]]:
    """Return each episode's escalations, by level."""
    found: dict[tuple[str, int], list[Event]] = {}
    for event in sorted(events, key=lambda event: (event.key, event.episode, event.level)):
        found.setdefault((event.key, event.episode), []).append(event)
    return found


def lives(history: History) -> dict[str, list[Stretch]]:
    """Return each incident's stretches, in order."""
    recorded = episodes(history.events)
    standing: dict[str, Stretch] = {}
    over: dict[str, list[Stretch]] = {}
    for op in sorted(history.ops, key=lambda op: op.began):
        for now in _after(standing.get(op.key), op, recorded):
            before = standing.get(now.key)
            ended = over.setdefault(now.key, [])
            if before is not None:
                ended.append(attrs.evolve(before, sure_to=op.began, latest=op.ended))
            standing[now.key] = now
    return {key: [*ended, standing[key]] for key, ended in over.items()}


def _after(was: Stretch | None, op: Op, recorded: Mapping[tuple[str, int], Sequence[Event]]) -> Iterator[Stretch]:
    """Yield the stretches that begin with a write: of its incident, and of the one that a change of key begins."""
    if was is None or was.state == "gone" or (op.verb == "open" and was.state == "resolved"):
        yield _opened(was, op, recorded)
        return
    now = attrs.evolve(was, earliest=op.began, sure_from=op.ended, sure_to=INFINITY, latest=INFINITY)
    if op.verb == "change_key":
        key = op.new_key or op.key
        yield attrs.evolve(now, state="gone")
        yield attrs.evolve(now, key=key, episode=_next(key, op, recorded), base=0, last=None)
    elif op.verb in ("open", "change_severity"):
        yield attrs.evolve(now, severity=op.severity or now.severity)
    elif op.verb == "snooze":
        yield attrs.evolve(now, snoozed_until=op.until or 0.0)
    elif op.verb == "drain":
        events = recorded.get((op.key, now.episode), ())
        top = events[-1] if events else None
        yield attrs.evolve(
            now,
            episode=now.episode + 1,
            base=(now.base if top is None else top.level) - 1,
            last=now.last if top is None else top.created_at,
        )
    else:
        yield attrs.evolve(now, state=STATES[op.verb])


def _opened(was: Stretch | None, op: Op, recorded: Mapping[tuple[str, int], Sequence[Event]]) -> Stretch:
    """Return the stretch that begins with a row, or with another episode of one."""
    return Stretch(
        key=op.key,
        episode=was.episode + 1 if was is not None and was.state == "resolved" else _next(op.key, op, recorded),
        state="open",
        severity=op.severity or (None if was is None else was.severity),
        first_seen=op.began if op.first_seen is None else op.first_seen,
        earliest=op.began,
        sure_from=op.ended,
    )


def _next(key: str, op: Op, recorded: Mapping[tuple[str, int], Sequence[Event]]) -> int:
    """Return the episode that a key's next row begins with: one more than is recorded of those before it."""
    before = [of[1] for of, events in recorded.items() if of[0] == key and any(at.at < op.began for at in events)]
    return 1 + max(before, default=0)


def blocks(history: History, key: str | None = None, *, pages: bool = False) -> list[tuple[float, float]]:
    """Return the times in which nothing can be escalated, or not this incident: faults that stop it, and pauses.

    With ``pages`` also those in which no page can be claimed.
    """
    stopped = [
        (fault.start, fault.over)
        for fault in history.faults
        if (fault.stops or (pages and fault.holds)) and (fault.keys is None or key in fault.keys)
    ]
    return sorted(stopped + [(held.began, held.ended) for held in history.held])


def deadline(start: float, allowance: float, stopped: Sequence[tuple[float, float]]) -> float:
    """Return until when something that may happen from ``start`` on has to, when nothing happens meanwhile.

    What stops it just before it has to be done gives it the same time once more.
    """
    end = start + allowance
    for began, ended in stopped:
        if began <= end and ended > start:
            end = max(end, ended + allowance)
    return end


def stalls(faults: Sequence[Fault]) -> list[tuple[float, float]]:
    """Return the times in which the machine itself stood still."""
    return [(fault.start, fault.end) for fault in faults if fault.kind == "machine"]
