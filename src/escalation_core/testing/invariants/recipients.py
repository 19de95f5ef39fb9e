"""The checks of whom an escalation pages: who is on call, which levels are passed over, and the default target."""

from collections.abc import Iterator, Mapping, Sequence

import attrs

from ...model import BUILTIN
from .history import FinalPage, History, RecordedEscalation, Violation
from .phases import PASSED, Phase, by_episode, phases
from .run_settings import RunSettings

DEFAULT = "default"
"""The outcome of an escalation that paged the default target, because no level of the pass named anyone."""
ONCALL = "oncall:"
Naming = tuple[str, str | None]
"""A schedule that named a target's person, for example ``oncall:primary``, and its digest; None: any digest."""
Paged = Mapping[str, Naming | None]
"""Targets, each with the schedule that named its person. None: no schedule did."""


@attrs.frozen(kw_only=True)
class Recipients:
    """Whom a level names at an instant."""

    targets: Paged
    unknown: bool
    """Whether a schedule is not known, or a person has no target."""
    empty: bool
    """Whether the level names schedules only, and none of them names anyone."""


def recipients(to: Sequence[str], at: float, settings: RunSettings) -> Recipients:
    """Return whom a level with these targets and schedules names."""
    targets: dict[str, Naming | None] = {}
    unknown = False
    for name in to:
        if not name.startswith(ONCALL):
            targets.setdefault(name, None)
            continue
        roster = settings.rosters.get(name.removeprefix(ONCALL))
        people = None if roster is None else roster.people(at)
        unknown |= people is None or not people <= settings.people.keys()
        for person in people or ():
            if person in settings.people:
                targets.setdefault(settings.people[person], (name, None if roster is None else roster.digest))
    return Recipients(targets=targets, unknown=unknown, empty=bool(to) and not targets and not unknown)


def wrong_pages(pages: Sequence[FinalPage], possible: Sequence[Paged]) -> str | None:
    """Return what is wrong with the pages of an escalation; None if they are one of the possible lists."""
    targets = sorted(page.target for page in pages)
    right = [each for each in possible if sorted(each) == targets]
    if not right:
        return f"it paged {targets}, and not {' or '.join(str(sorted(each)) for each in possible)}"
    if any(all(_says(page, each[page.target]) for page in pages) for each in right):
        return None
    said = {page.target: (page.via, page.schedule_digest) for page in pages}
    return f"its pages say that these schedules named their people: {said}, and not {' or '.join(map(str, right))}"


def _says(page: FinalPage, naming: Naming | None) -> bool:
    """Return whether a page says which schedule named its person."""
    if naming is None:
        return page.via is None and page.schedule_digest is None
    via, digest = naming
    return page.via == via and bool(page.schedule_digest) and digest in (None, page.schedule_digest)


def expected_pages(escalation: RecordedEscalation, of_key: Sequence[Phase], history: History) -> Sequence[Paged]:
    """Return the valid lists of an escalation's targets, each with the schedule that named its person.

    They are the targets that the policy names itself or by its schedules; if it names none, all targets if the severity
    is critical, else the first target. The default target stands for what is not known. The first mention of a target
    counts. Several lists are valid if the severity may have changed at that moment, or is unknown.
    """
    if escalation.outcome == PASSED:
        return [{}]
    settings, found = history.settings, list[Paged]()
    for phase in _possible(escalation, of_key):
        routed = history.targets if phase.severity == "critical" else history.targets[:1]
        instead = routed if settings.default_target is None else (settings.default_target,)
        to = phase.ladder.targets_at(_position(escalation)) if _is_own(escalation, phase) else ()
        named = recipients(to, escalation.created_at, settings)
        also = instead if named.unknown or named.empty else ()
        paged = {**dict.fromkeys(also), **named.targets} if to else dict.fromkeys(routed)
        if paged not in found:
            found.append(paged)
    return found or [dict.fromkeys(history.targets), dict.fromkeys(history.targets[:1])]


def passes(history: History) -> Iterator[Violation]:
    """I2: exactly the levels whose schedules name no one are passed over, and a pass does not leave its round.

    I1: the level after one that was passed over is recorded in the same transaction.
    """
    found = phases(history)
    for (key, episode), escalations in by_episode(history.escalations).items():
        by_level = {each.level: each for each in escalations}
        for each in escalations:
            own = [phase for phase in _possible(each, found.get(key, ())) if _is_own(each, phase)]
            right = {_outcome(each, phase, history.settings) for phase in own}
            if own and each.outcome not in right:
                why = f"its outcome is {each.outcome}, and not {' or '.join(sorted(map(str, right)))}"
                yield Violation("I2", key, each.level, f"episode {episode}: {why}")
            following = by_level.get(each.level + 1)
            if each.outcome == PASSED and (following is None or not _together(each, following)):
                why = f"episode {episode}: passed over, and no level followed in its transaction"
                yield Violation("I1", key, each.level, why)


def _outcome(escalation: RecordedEscalation, phase: Phase, settings: RunSettings) -> str | None:
    """Return the outcome that an escalation must have by the policy of a phase."""
    position = _position(escalation)
    if not recipients(phase.ladder.targets_at(position), escalation.created_at, settings).empty:
        return None
    return DEFAULT if phase.ladder.ends_round(position) else PASSED


def _possible(escalation: RecordedEscalation, of_key: Sequence[Phase]) -> Iterator[Phase]:
    """Yield the phases in which the escalation may have been recorded."""
    for phase in of_key:
        if phase.episode == escalation.episode and phase.possible(escalation.created_at, escalation.at):
            yield phase


def _is_own(escalation: RecordedEscalation, phase: Phase) -> bool:
    """Return whether the escalation is a step of the phase's policy."""
    return phase.ladder.name == (escalation.policy or BUILTIN) and _position(escalation) <= phase.ladder.total


def _position(escalation: RecordedEscalation) -> int:
    return escalation.level if escalation.position is None else escalation.position


def _together(one: RecordedEscalation, other: RecordedEscalation) -> bool:
    """Return whether one transaction recorded both escalations."""
    return one.created_at == other.created_at and (one.began == other.began or None in (one.began, other.began))
