"""Judges of what is recorded. I1: no escalation is lost. I2: each once, none without a reason, no gap."""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256

import attrs

from .history import INFINITY, Event, History, Rules, Violation
from .lives import INSTANT, Stretch, blocks, deadline, episodes, lives

NEAR = 0.1
"""Seconds around a fault in which it may touch what falls due: whoever would have recorded it may be gone."""
UNTOUCHED = "no fault since the level below"
MET = "a fault since the level below, and none as it fell due"


@attrs.frozen
class Owed:
    """A level that an open incident is to rise to between two instants, if it stays as it is; and its record."""

    stretch: Stretch
    level: int
    due: float
    latest: float
    event: Event | None


def lost(history: History) -> Iterator[Violation]:
    """I1: what was due while the incident was open is recorded within two ticks."""
    for owed in _debts(history):
        event, stretch = owed.event, owed.stretch
        if (event is None or event.at > owed.latest) and owed.latest < min(stretch.sure_to, history.ended):
            when = "never" if event is None else f"{event.at - owed.due:.2f} s after it was due"
            yield Violation("I1", stretch.key, owed.level, f"episode {stretch.episode}: recorded {when}")


def owed_until(history: History) -> float:
    """Return until when at the latest all is recorded that is still to come, by the hosts' writes alone.

    What the next level is due after is not known before the level below is there, so this has to be asked again then.
    """
    coming = [owed.latest for owed in _debts(history) if owed.event is None and owed.stretch.sure_to == INFINITY]
    return max((latest for latest in coming if latest < INFINITY), default=0.0)


def _debts(history: History) -> Iterator[Owed]:
    recorded = episodes(history.events)
    for key, stretches in lives(history).items():
        if key in history.poison:
            continue
        stopped = blocks(history, key)
        for stretch in stretches:
            if stretch.state == "open":
                yield from _debts_of(stretch, recorded.get((key, stretch.episode), []), history.rules, stopped)


def _debts_of(
    stretch: Stretch, events: Sequence[Event], rules: Rules, stopped: Sequence[tuple[float, float]]
) -> Iterator[Owed]:
    by_level = {event.level: event for event in events}
    for level in range(stretch.base + 1, rules.max_level + 1):
        below = by_level.get(level - 1)
        if below is None and level > stretch.base + 1:
            return
        due = stretch.due(level, None if below is None else below.created_at, rules)
        due = max(due, stretch.sure_from, 0.0 if below is None else below.at)
        yield Owed(stretch, level, due, deadline(due, 2 * rules.tick, stopped), by_level.get(level))


def lateness(history: History) -> list[tuple[str, float]]:
    """Return how much later than due each escalation was written that no fault met as it fell due, and how it is named.

    Whoever recorded the level below knows when the next one is due; the others learn of it when they look, once in a
    tick. So one with a fault since then is told apart from one that nothing touched.
    """
    recorded = episodes(history.events)
    found = []
    for key, stretches in lives(history).items():
        stopped = [] if key in history.poison else blocks(history, key)
        for stretch in stretches:
            by_level = {event.level: event for event in recorded.get((key, stretch.episode), [])}
            for level, event in by_level.items():
                below = by_level.get(level - 1)
                if stretch.state != "open" or below is None or key in history.poison:
                    continue
                due = stretch.due(level, below.created_at, history.rules)
                if _met(history, due, due) or deadline(due, 0.0, stopped) != due:
                    continue
                # A severity or a snooze that came after it has nothing to do with when it was due.
                if stretch.sure_from < min(due, event.at) and event.at < stretch.sure_to:
                    found.append((MET if _met(history, below.created_at, due) else UNTOUCHED, event.at - due))
    return found


def _met(history: History, start: float, end: float) -> bool:
    return any(fault.start <= end + NEAR and fault.over >= start - NEAR for fault in history.faults)


def doubled(history: History) -> Iterator[Violation]:
    """I2: one event per (incident, episode, level), without a gap, and none that was not due."""
    counts = Counter((event.key, event.episode, event.level) for event in history.events)
    for (key, episode, level), count in counts.items():
        if count > 1:
            yield Violation("I2", key, level, f"episode {episode}: recorded {count} times")
    found = lives(history)
    for (key, episode), events in episodes(history.events).items():
        if key in history.poison:
            continue
        own = [stretch for stretch in found.get(key, ()) if stretch.episode == episode]
        if not own:
            yield Violation("I2", key, events[0].level, f"there never was an episode {episode}")
            continue
        levels = sorted({event.level for event in events})
        if levels != list(range(own[0].base + 1, own[0].base + 1 + len(levels))):
            yield Violation("I2", key, None, f"episode {episode}: levels {levels} after level {own[0].base}")
        for event in events:
            below = next((other.created_at for other in events if other.level == event.level - 1), None)
            if not any(_earned(event, stretch, below, history) for stretch in own):
                yield Violation("I2", key, event.level, f"episode {episode}: it was not due, or not open")
            if any(held.sure_from < event.created_at and event.at < held.sure_to for held in history.held):
                yield Violation("I2", key, event.level, f"episode {episode}: recorded during a pause")


def _earned(event: Event, stretch: Stretch, below: float | None, history: History) -> bool:
    return (
        stretch.state == "open"
        and stretch.possible(event.created_at, event.at)
        and stretch.due(event.level, below, history.rules) <= event.created_at + INSTANT
    )


def expected_hash(key: str, episode: int, level: int) -> str:
    """Return the dedup key as the rules have it, by other means than the library's own."""
    text = f"{key}|{level}" if episode == 1 else f"\0{episode}|{level}|{key}"
    return sha256(text.encode()).hexdigest()


def shared(history: History) -> Iterator[Violation]:
    """I4: each escalation has one dedup key, which is its own, and its pages carry it."""
    owner: dict[str, tuple[str, int, int]] = {}
    rows = [(event.key, event.episode, event.level, event.unique_hash) for event in history.events]
    rows += [(page.key, page.episode, page.level, page.dedup_key) for page in history.pages]
    for key, episode, level, dedup_key in rows:
        first = owner.setdefault(dedup_key, (key, episode, level))
        if first != (key, episode, level):
            yield Violation("I4", key, level, f"episode {episode} has the dedup key of {first}")
        elif dedup_key != expected_hash(key, episode, level):
            yield Violation("I4", key, level, f"episode {episode} has a dedup key of no escalation")
    for dedup_key in {post.dedup_key for post in history.posts} - set(owner):
        yield Violation("I4", "?", None, f"a page with the dedup key {dedup_key[:12]} belongs to nothing recorded")
