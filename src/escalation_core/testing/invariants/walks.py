"""The checks of what the engine does by itself, and notes: acknowledgements that end, and walks that begin again.

All of them need ``History.notes``. Without notes they find nothing.
"""

from collections.abc import Iterator, Sequence

from .history import History, RecordedEscalation, RecordedNote, Violation
from .phases import CLOCK_TOLERANCE, Phase, by_episode, deadline, phases, stops


def overdue_notes(history: History) -> Iterator[Violation]:
    """I1: an acknowledgement with a timeout expires, and a walk begins again, within two ticks."""
    for phase, latest in owed_notes(history):
        if latest < min(phase.sure_to, history.ended):
            what = "the acknowledgement did not expire" if phase.state == "acknowledged" else "it did not begin again"
            yield Violation("I1", phase.key, None, f"episode {phase.episode}: {what} in time")


def owed_notes(history: History) -> Iterator[tuple[Phase, float]]:
    """Yield each phase that the engine must end by itself, and the latest instant at which it may do so.

    An acknowledgement must expire after the policy's ``ack_timeout``. If an acknowledgement ended, a walk that was
    over must begin again; if it expired, a walk through a policy that restarts must begin again as well.
    """
    if history.notes is None:
        return
    recorded = by_episode(history.escalations)
    for key, of_key in phases(history).items():
        if key in history.unplannable:
            continue
        stopped = stops(history, key)
        for phase in of_key:
            ends = phase.ack_ends(history.kept) if phase.state == "acknowledged" else None
            if ends is not None:
                yield phase, deadline(max(ends[1], phase.sure_from), 2 * history.settings.tick, stopped)
            elif phase.ended_ack and _begins_again(phase, recorded.get((key, phase.episode), ())):
                yield phase, deadline(phase.sure_from, 2 * history.settings.tick, stopped)


def untimely_notes(history: History) -> Iterator[Violation]:
    """I2: no acknowledgement expires before its time or in a pause, and no walk begins again without a reason.

    I3: no walk is noted as over if it is not.
    """
    recorded, found = by_episode(history.escalations), phases(history)
    for note in history.notes or ():
        own = [phase for phase in found.get(note.key, ()) if phase.possible(note.at, note.written)]
        if note.key in history.unplannable:
            continue
        if note.action == "ack_expired" and not any(_may_expire(phase, note, history) for phase in own):
            yield _violation(note, "an acknowledgement expired before its time, or there was none")
        elif note.action == "restart" and not any(
            phase.ended_ack and _begins_again(phase, recorded.get((note.key, phase.episode), ())) for phase in own
        ):
            yield _violation(note, "the walk began again without a reason")
        elif note.action == "exhausted" and not any(_over(phase, note, recorded) for phase in own):
            yield _violation(note, "the walk was noted as over, and it was not")
        in_pause = any(pause.sure_from < note.at and note.written < pause.sure_to for pause in history.pauses)
        if note.action == "ack_expired" and in_pause:
            yield _violation(note, "an acknowledgement expired in a pause")


def silent_ends(history: History) -> Iterator[Violation]:
    """I3: the escalation that ends a walk is noted as the last one: health counts these notes."""
    if history.notes is None:
        return
    noted = {(each.key, each.episode, each.level) for each in history.notes if each.action == "exhausted"}
    found = phases(history)
    for (key, episode), escalations in by_episode(history.escalations).items():
        own = [phase for phase in found.get(key, ()) if phase.episode == episode and phase.state == "open"]
        if key in history.unplannable:
            continue
        for number, each in enumerate(escalations):
            possible = [phase for phase in own if phase.possible(each.created_at, each.at)]
            last = possible and all(
                phase.position(escalations[: number + 1]) >= phase.ladder.total for phase in possible
            )
            if last and (key, episode, each.level) not in noted:
                why = f"episode {episode}: the last escalation of the walk, and not noted as such"
                yield Violation("I3", key, each.level, why)


def _begins_again(phase: Phase, escalations: Sequence[RecordedEscalation]) -> bool:
    """Return whether the walk must begin again at the beginning of this phase."""
    below = [each for each in escalations if each.created_at < phase.earliest]
    over = phase.position(below) >= phase.ladder.total
    return bool(phase.ladder.version) and (over or (phase.expired and phase.ladder.restarts))


def _may_expire(phase: Phase, note: RecordedNote, history: History) -> bool:
    ends = phase.ack_ends(history.kept)
    return phase.state == "acknowledged" and ends is not None and ends[0] <= note.at + CLOCK_TOLERANCE


def _over(phase: Phase, note: RecordedNote, recorded: dict[tuple[str, int], list[RecordedEscalation]]) -> bool:
    escalations = recorded.get((note.key, note.episode), ())
    below = [each for each in escalations if each.level <= note.level]
    return phase.state == "open" and phase.episode == note.episode and phase.position(below) >= phase.ladder.total


def _violation(note: RecordedNote, why: str) -> Violation:
    invariant = "I3" if note.action == "exhausted" else "I2"
    return Violation(invariant, note.key, note.level, f"episode {note.episode}: {why}")
