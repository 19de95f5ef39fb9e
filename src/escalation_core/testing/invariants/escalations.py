"""The checks of the ledger: I1 (no escalation is lost), I2 (each once, in order, when due), I4 (one dedup key each)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby

import attrs

from .history import INFINITY, History, RecordedEscalation, Violation
from .phases import CLOCK_TOLERANCE, PASSED, Phase, by_episode, deadline, phases, stops
from .run_settings import RunSettings
from .walks import owed_notes

NEAR_FAULT = 0.1
"""Seconds around a fault in which the fault may delay an escalation, for example because it killed the worker."""
NO_FAULT = "no fault since the level below"
FAULT_BEFORE = "a fault since the level below, and none when it fell due"


@attrs.frozen
class _Owed:
    """A level that an open incident must reach between ``due`` and ``latest``, and its record if it did."""

    phase: Phase
    """The phase in which it fell due."""
    level: int
    due: float
    latest: float
    until: float
    """Until when it surely stayed due, also beyond changes of the severity."""
    escalation: RecordedEscalation | None


def lost(history: History) -> Iterator[Violation]:
    """I1: an escalation that fell due while the incident was open is recorded within two ticks."""
    for owed in _all_owed(history):
        found, phase = owed.escalation, owed.phase
        if (found is None or found.at > owed.latest) and owed.latest < min(owed.until, history.ended):
            when = "never" if found is None else f"{found.at - owed.due:.2f} s after it was due"
            yield Violation("I1", phase.key, owed.level, f"episode {phase.episode}: recorded {when}")


def owed_until(history: History) -> float:
    """Return the latest deadline of what is still missing: escalations and ends of acknowledgements. 0 if nothing is.

    The due instant of a level is known once the level below is recorded, so call this again then.
    """
    missing = [owed.latest for owed in _all_owed(history) if owed.escalation is None and owed.until == INFINITY]
    missing += [latest for phase, latest in owed_notes(history) if phase.sure_to == INFINITY]
    return max((latest for latest in missing if latest < INFINITY), default=0.0)


def _all_owed(history: History) -> Iterator[_Owed]:
    recorded = by_episode(history.escalations)
    for key, of_key in phases(history).items():
        if key in history.unplannable:
            continue
        stopped = stops(history, key)
        for (state, episode), group in groupby(of_key, key=lambda phase: (phase.state, phase.episode)):
            if state == "open":
                yield from _owed(list(group), recorded.get((key, episode), []), history.settings, stopped)


def _owed(
    spell: Sequence[Phase],
    escalations: Sequence[RecordedEscalation],
    settings: RunSettings,
    stopped: Sequence[tuple[float, float]],
) -> Iterator[_Owed]:
    """Yield the levels that an incident must reach in phases that follow each other, all open and of one episode."""
    by_level = {each.level: each for each in escalations}
    # A transaction that changes the incident may lock its row.
    allowance = 2 * settings.tick + sum(each.sure_from - each.earliest for each in spell[1:])
    base = spell[0].base
    for level in range(base + 1, base + 2 + len(by_level)):
        below = [each for each in escalations if each.level < level]
        if level > base + 1 and level - 1 not in by_level:
            return
        for phase, due, until in _falls_due(spell, below, settings):
            yield _Owed(phase, level, due, deadline(due, allowance, stopped), until, by_level.get(level))


def _falls_due(
    spell: Sequence[Phase], below: Sequence[RecordedEscalation], settings: RunSettings
) -> Iterator[tuple[Phase, float, float]]:
    """Yield the phase and the instant in which the next level falls due, and until when it surely stays due.

    It stays due beyond a change that leaves it due: a severity that changes again and again delays no escalation.
    """
    found: tuple[Phase, float, float] | None = None
    for phase in spell:
        due = phase.due(below, settings, late=True)
        if found is not None and due is not None and due <= phase.earliest:
            found = found[0], found[1], phase.sure_to
            continue
        if found is not None:
            yield found
        found = None
        if due is not None:
            due = max(due, phase.sure_from, below[-1].at if below else 0.0)
            found = (phase, due, phase.sure_to) if due < phase.sure_to else None
    if found is not None:
        yield found


def lateness(history: History) -> list[tuple[str, float]]:
    """Return the lateness in seconds of escalations above the first level. Leave out those that fell due in a fault.

    Leave out as well the level after one that was passed over: both are recorded in one transaction.

    The text is ``FAULT_BEFORE`` if a fault happened since the level below, and else ``NO_FAULT``. The worker that
    recorded the level below remembers the next due instant; the others find it at their next tick.
    """
    recorded = by_episode(history.escalations)
    found = []
    for key, of_key in phases(history).items():
        stopped = [] if key in history.unplannable else stops(history, key)
        for phase in of_key:
            own = recorded.get((key, phase.episode), [])
            by_level = {each.level: each for each in own}
            for level, escalation in by_level.items():
                below = by_level.get(level - 1)
                if phase.state != "open" or below is None or below.outcome == PASSED or key in history.unplannable:
                    continue
                due = phase.due([each for each in own if each.level < level], history.settings, late=True)
                if due is None or _fault_near(history, due, due) or deadline(due, 0.0, stopped) != due:
                    continue
                # A change of severity or a snooze after the due instant does not change the due instant.
                if phase.sure_from < min(due, escalation.at) and escalation.at < phase.sure_to:
                    name = FAULT_BEFORE if _fault_near(history, below.created_at, due) else NO_FAULT
                    found.append((name, escalation.at - due))
    return found


def _fault_near(history: History, start: float, end: float) -> bool:
    return any(fault.start <= end + NEAR_FAULT and fault.over >= start - NEAR_FAULT for fault in history.faults)


def duplicated(history: History) -> Iterator[Violation]:
    """I2: one escalation for each (incident, episode, level), without a gap, and none before it was due."""
    counts = Counter((each.key, each.episode, each.level) for each in history.escalations)
    for (key, episode, level), count in counts.items():
        if count > 1:
            yield Violation("I2", key, level, f"episode {episode}: recorded {count} times")
    found = phases(history)
    for (key, episode), escalations in by_episode(history.escalations).items():
        if key in history.unplannable:
            continue
        own = [phase for phase in found.get(key, ()) if phase.episode == episode]
        if not own:
            yield Violation("I2", key, escalations[0].level, f"the incident never had an episode {episode}")
            continue
        levels = sorted({each.level for each in escalations})
        if levels != list(range(own[0].base + 1, own[0].base + 1 + len(levels))):
            yield Violation("I2", key, None, f"episode {episode}: levels {levels} after level {own[0].base}")
        for each in escalations:
            yield from _faults_of(each, [other for other in escalations if other.level < each.level], own, history)


def _faults_of(
    escalation: RecordedEscalation,
    below: Sequence[RecordedEscalation],
    own: Sequence[Phase],
    history: History,
) -> Iterator[Violation]:
    """Yield the faults of one escalation. ``below`` are those before it in its episode, ``own`` are its phases."""
    key, level, episode = escalation.key, escalation.level, f"episode {escalation.episode}"
    if not any(_was_due(escalation, phase, below, history) for phase in own):
        yield Violation("I2", key, level, f"{episode}: it was not due, or not open")
    elif not any(_right_step(escalation, phase, below) for phase in own):
        step = f"position {escalation.position} of policy {escalation.policy}"
        before = ", ".join(f"{each.policy} {each.position}" for each in below) or "no other"
        yield Violation("I2", key, level, f"{episode}: it was not {step}, after {before}")
    if any(pause.sure_from < escalation.created_at and escalation.at < pause.sure_to for pause in history.pauses):
        yield Violation("I2", key, level, f"{episode}: recorded during a pause")


def _was_due(
    escalation: RecordedEscalation, phase: Phase, below: Sequence[RecordedEscalation], history: History
) -> bool:
    due = phase.due(below, history.settings)
    return (
        phase.state == "open"
        and phase.possible(escalation.created_at, escalation.at)
        and due is not None
        and due <= escalation.created_at + CLOCK_TOLERANCE
    )


def _right_step(escalation: RecordedEscalation, phase: Phase, below: Sequence[RecordedEscalation]) -> bool:
    """Return whether the escalation was recorded with the policy and the position that the phase gives it."""
    if escalation.policy is None:
        return not phase.ladder.version
    return (
        phase.possible(escalation.created_at, escalation.at)
        and escalation.policy == phase.ladder.name
        and escalation.position == phase.position(below) + 1
    )


def expected_hash(key: str, episode: int, level: int) -> str:
    """Return the dedup key of an escalation, computed without the library's own function."""
    text = f"{key}|{level}" if episode == 1 else f"\0{episode}|{level}|{key}"
    return sha256(text.encode()).hexdigest()


def shared_keys(history: History) -> Iterator[Violation]:
    """I4: each escalation has one dedup key of its own, and its pages carry that key."""
    owner: dict[str, tuple[str, int, int]] = {}
    rows = [(each.key, each.episode, each.level, each.unique_hash) for each in history.escalations]
    rows += [(page.key, page.episode, page.level, page.dedup_key) for page in history.pages]
    for key, episode, level, dedup_key in rows:
        first = owner.setdefault(dedup_key, (key, episode, level))
        if first != (key, episode, level):
            yield Violation("I4", key, level, f"episode {episode} has the dedup key of {first}")
        elif dedup_key != expected_hash(key, episode, level):
            yield Violation("I4", key, level, f"episode {episode} has a dedup key that the rules do not give it")
    bundles = {change.bundle for change in history.changes}
    for dedup_key in {request.dedup_key for request in history.requests} - set(owner) - bundles:
        yield Violation("I4", "?", None, f"a page with the dedup key {dedup_key[:12]} belongs to no escalation")
