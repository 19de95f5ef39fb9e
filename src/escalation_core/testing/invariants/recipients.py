"""The checks of whom an escalation pages: who is on call, which levels are passed over, and the default target."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import attrs

from ...model import BUILTIN
from .history import FinalPage, History, OverrideSpan, RecordedEscalation, Violation
from .phases import CLOCK_TOLERANCE, PASSED, Phase, by_episode, phases
from .run_settings import RunSettings

DEFAULT = "default"
"""The outcome of an escalation that paged the default target, because no level of the pass named anyone."""
ONCALL = "oncall:"
HANDED_OVER = "handed_over"
"""The state of a page whose target's fallback has the escalation's page now."""
OVERRIDE = "override"
"""The digest of a page whose person an operator's override named."""
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


def recipients(
    to: Sequence[str], at: float, settings: RunSettings, overridden: Mapping[str, str | None] | None = None
) -> Recipients:
    """Return whom a level with these targets and schedules names.

    ``overridden`` is the person whom an override puts on call for a schedule of ``to``, alone; None: there is none.
    """
    targets: dict[str, Naming | None] = {}
    unknown = False
    for name in to:
        if not name.startswith(ONCALL):
            targets.setdefault(name, None)
            continue
        person_instead = (overridden or {}).get(name)
        roster = settings.rosters.get(name.removeprefix(ONCALL))
        people = None if roster is None else roster.people(at)
        digest = None if roster is None else roster.digest
        if person_instead is not None:
            people, digest = frozenset({person_instead}), OVERRIDE
        unknown |= people is None or not people <= settings.people.keys()
        for person in people or ():
            if person in settings.people:
                targets.setdefault(settings.people[person], (name, digest))
    return Recipients(targets=targets, unknown=unknown, empty=bool(to) and not targets and not unknown)


def possible_recipients(phase: Phase, escalation: RecordedEscalation, history: History) -> Iterator[Recipients]:
    """Yield whom the level of a phase may name: several lists if an override was made at that moment."""
    to = phase.ladder.targets_at(_position(escalation)) if _is_own(escalation, phase) else ()
    schedules = [name for name in to if name.startswith(ONCALL)]
    persons = [list(_overriding(name, escalation, history.overrides)) for name in schedules]
    for each in product(*persons):
        overridden = dict(zip(schedules, each, strict=True))
        yield recipients(to, escalation.created_at, history.settings, overridden)


def _overriding(name: str, escalation: RecordedEscalation, overrides: Sequence[OverrideSpan]) -> Iterator[str | None]:
    """Yield each person whom an override may put on call for a schedule, and None if there may be no override.

    Of those that cover the tick's instant, the one that was made last counts. The escalation's transaction surely knew
    an override that was committed before the transaction began. It may have known one that was made meanwhile. If that
    one began as it was made, it covers the tick's instant, too: a transaction that reads it cannot tell it from one
    that was made before the clock stepped back (see ``ShiftOverride.after_step``).
    """
    began = escalation.created_at if escalation.began is None else escalation.began
    for one in reversed(overrides):
        covers = one.start <= max(escalation.created_at, one.ended) and escalation.created_at < one.end
        if covers and one.schedule == name.removeprefix(ONCALL) and one.began <= escalation.at + CLOCK_TOLERANCE:
            yield one.person
            if one.ended < began - CLOCK_TOLERANCE:
                return
    yield None


def wrong_pages(
    pages: Sequence[FinalPage], named: Sequence[Paged], fallbacks: Mapping[str, str] | None = None
) -> str | None:
    """Return what is wrong with the pages of an escalation; None if they are one of the lists that may be named.

    Beside these, exactly the fallbacks of targets whose page was handed over have a page. No schedule named them.
    """
    handed_over = [page.target for page in pages if page.state == HANDED_OVER]
    heirs = dict.fromkeys(heir for target in handed_over if (heir := (fallbacks or {}).get(target)) is not None)
    possible: list[Paged] = [{**heirs, **each} for each in named]
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
    counts. Several lists are valid if the severity may have changed at that moment, or is unknown, or if an override
    was made at that moment.
    """
    if escalation.outcome == PASSED:
        return [{}]
    settings, found = history.settings, list[Paged]()
    for phase in _possible(escalation, of_key):
        routed = history.targets if phase.severity == "critical" else history.targets[:1]
        instead = routed if settings.default_target is None else (settings.default_target,)
        for named in possible_recipients(phase, escalation, history):
            also = instead if named.unknown or named.empty else ()
            paged = {**dict.fromkeys(also), **named.targets} or dict.fromkeys(routed)
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
            right = {outcome for phase in own for outcome in _outcomes(each, phase, history)}
            if own and each.outcome not in right:
                why = f"its outcome is {each.outcome}, and not {' or '.join(sorted(map(str, right)))}"
                yield Violation("I2", key, each.level, f"episode {episode}: {why}")
            following = by_level.get(each.level + 1)
            if each.outcome == PASSED and (following is None or not _together(each, following)):
                why = f"episode {episode}: passed over, and no level followed in its transaction"
                yield Violation("I1", key, each.level, why)


def _outcomes(escalation: RecordedEscalation, phase: Phase, history: History) -> Iterator[str | None]:
    """Yield each outcome that an escalation may have by the policy of a phase."""
    empty = DEFAULT if phase.ladder.ends_round(_position(escalation)) else PASSED
    for named in possible_recipients(phase, escalation, history):
        yield empty if named.empty else None


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
