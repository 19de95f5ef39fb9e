"""The checks of delivery in a storm: pages that others take the place of, unheard incidents, budgets, and starving."""

import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from .history import INFINITY, MACHINE, STALL, HealthSample, History, PageChange, RecordedNote, Violation
from .pages import Course, courses
from .phases import CLOCK_TOLERANCE, Phase, by_episode, deadline, phases, stops
from .recipients import HANDED_OVER

SUPERSEDED = "superseded"
UNHEARD = "unheard"
"""The action of a note about an unheard incident."""
_SUPERSEDING = ("pending", "leased", "delivered")
"""The states of a page that may take the place of an older one."""
_WAITING_OR_HEARD = ("pending", "leased", "cancelling", "delivered")
_SUCCESSOR = re.compile(r"superseded by the page of level (\d+)$")
LOOK_TIME = 0.25
"""Seconds that a worker's search for late pages may take on a busy machine."""
COMMIT_TIME = 0.25
"""Seconds from the instant of a change or note to its commit on a busy machine."""
COUNT_TIME = 0.75
"""Seconds from the moment at which health reads its counts to its answer, and from a change to its commit."""
CLAIM_TIME, SEND_TIME = 0.1, 0.5
"""Seconds by which the beginning of a claim, and the arrival of a request, may differ from the instant of its slot."""
MAX_OVERTAKEN = 3
"""How many pages may be claimed before a starved page: another transaction may have locked its row meanwhile."""


def successors(history: History) -> Iterator[Violation]:
    """I3: a page is superseded only by a newer one, and handed over only to the fallback of its target, and not early.

    I5: neither happens while a living lease has the page. I7: a page is not claimed once its fallback must have it.
    """
    every = courses(history)
    known = {(one.page.key, one.page.episode, one.page.level, one.page.target): one for one in every}
    for course in every:
        for change in course.changes:
            if change.state == SUPERSEDED and change.was != "pending":
                yield course.violation("I5", f"{change.worker} superseded it while it was {change.was}")
            elif change.state == HANDED_OVER and change.was not in ("pending", "leased"):
                yield course.violation("I5", f"{change.worker} handed it over while it was {change.was}")
        if course.page.state == SUPERSEDED:
            yield from _superseded(course, known)
        elif course.page.state == HANDED_OVER:
            yield from _handed_over(course, history)
        yield from _kept_too_long(course, history)


def _superseded(course: Course, known: Mapping[tuple[str, int, int, str], Course]) -> Iterator[Violation]:
    page, found = course.page, _SUCCESSOR.search(course.page.reason or "")
    newer = None if found is None else known.get((page.key, page.episode, int(found[1]), page.target))
    if newer is None or newer.page.level <= page.level:
        yield course.violation("I3", f"superseded, and no newer page took its place ({page.reason})")
        return
    ended = next(change for change in reversed(course.changes) if change.state == SUPERSEDED)
    state = _state_at(newer, ended.began - CLOCK_TOLERANCE)
    if state not in _SUPERSEDING:
        yield course.violation("I3", f"superseded by page {newer.page.id}, which was {state}")


def _handed_over(course: Course, history: History) -> Iterator[Violation]:
    made, fallback = course.page.created_at, history.settings.fallbacks.get(course.page.target)
    if fallback is None:
        yield course.violation("I3", "handed over, and its target has no fallback")
    elif not (course.page.reason or "").startswith(f"handed over to {fallback}: "):
        yield course.violation("I3", f"handed over, and not to {fallback} ({course.page.reason})")
    for change in course.changes:
        waited = INFINITY if made is None else change.began - made
        early = waited < history.settings.fallback_after - CLOCK_TOLERANCE
        if change.state == HANDED_OVER and change.was == "pending" and early:
            yield course.violation("I3", f"{change.worker} handed it over after {waited:.2f} s")


def _kept_too_long(course: Course, history: History) -> Iterator[Violation]:
    settings, made = history.settings, course.page.created_at
    if made is None or course.page.target not in settings.fallbacks or history.pauses:
        return
    stopped = stops(history, course.page.key, claims=True)
    latest = deadline(made + settings.fallback_after, settings.tick + LOOK_TIME, stopped)
    for claim in course.claims:
        if claim.was == "pending" and claim.began > latest:
            why = f"{claim.worker} claimed it {claim.began - made:.2f} s after it was made, and did not hand it over"
            yield course.violation("I7", why)


def _state_at(course: Course, at: float) -> str:
    """Return the state of a page at an instant."""
    before = [change for change in course.changes if change.at < at]
    if before:
        return before[-1].state
    return course.changes[0].was if course.changes else course.page.state


def unheard(history: History) -> Iterator[Violation]:
    """I3: an open incident none of whose last pages arrived or can arrive is noted as unheard, and no other one is."""
    if history.notes is None:
        return
    noted = [note for note in history.notes if note.action == UNHEARD]
    steps = {(note.key, note.episode, note.level) for note in noted}
    by_step: dict[tuple[str, int, int], list[Course]] = {}
    for course in courses(history):
        by_step.setdefault((course.page.key, course.page.episode, course.page.level), []).append(course)
    last = {(key, episode): level for key, episode, level in sorted(by_step)}
    for key, of_key in phases(history).items():
        phase, level = of_key[-1], last.get((key, of_key[-1].episode))
        if phase.state != "open" or level is None or (key, phase.episode, level) in steps:
            continue
        own = by_step[key, phase.episode, level]
        if any(one.page.state in _WAITING_OR_HEARD for one in own) or all(one.page.state != "dead" for one in own):
            continue
        ended = max([phase.sure_from, *(change.at for one in own for change in one.changes)])
        if deadline(ended, 2 * history.settings.tick, stops(history)) < history.ended:
            yield Violation("I3", key, level, f"episode {phase.episode}: unheard, and not noted as unheard")
    recorded = by_episode(history.escalations)
    for note in noted:
        yield from _untrue(note, by_step.get((note.key, note.episode, note.level), ()))
        for later in recorded.get((note.key, note.episode), ()):
            paged = (note.key, note.episode, later.level) in by_step
            if later.level > note.level and paged and later.at < note.at - COMMIT_TIME:
                why = f"episode {note.episode}: noted as unheard, and level {later.level} had been paged"
                yield Violation("I3", note.key, note.level, why)


def _untrue(note: RecordedNote, own: Sequence[Course]) -> Iterator[Violation]:
    for course in own:
        near = [one for one in course.changes if note.at - COMMIT_TIME <= one.at <= note.written + COMMIT_TIME]
        state = _state_at(course, note.at)
        if not near and state in _WAITING_OR_HEARD:
            yield course.violation("I3", f"the incident was noted as unheard, and the page was {state}")


def miscounted(history: History) -> Iterator[Violation]:
    """I7: health counts the incidents that are noted as unheard until a page arrives, or until they end."""
    noted: dict[str, list[RecordedNote]] = {}
    for note in history.notes or ():
        if note.action == UNHEARD:
            noted.setdefault(note.key, []).append(note)
    found, arrived = phases(history), _arrivals(history)
    for sample in history.health:
        still = any(
            fault.kind == MACHINE and fault.start <= sample.at and fault.end >= sample.at - 2 * COUNT_TIME
            for fault in history.faults
        )
        if sample.unheard is None or still:
            continue
        counted = [
            # Of a row that the test made unreadable, the checks do not know whether it is open.
            (False, True) if key in history.unplannable else _counts(sample, notes, found.get(key, ()), arrived)
            for key, notes in noted.items()
        ]
        least, most = sum(sure for sure, _ in counted), sum(possible for _, possible in counted)
        if not least <= sample.unheard <= most:
            why = f"health counted {sample.unheard} unheard incidents, and there were {least} to {most}"
            yield Violation("I7", "health", None, why)
            return


def _arrivals(history: History) -> Mapping[tuple[str, int], Sequence[tuple[int, PageChange]]]:
    """Return the level and the settlement of each delivered page, by incident and episode."""
    found: dict[tuple[str, int], list[tuple[int, PageChange]]] = {}
    for course in courses(history):
        for change in course.changes:
            if change.state == "delivered":
                found.setdefault((course.page.key, course.page.episode), []).append((course.page.level, change))
    return found


def _counts(
    sample: HealthSample,
    notes: Sequence[RecordedNote],
    of_key: Sequence[Phase],
    arrived: Mapping[tuple[str, int], Sequence[tuple[int, PageChange]]],
) -> tuple[bool, bool]:
    """Return whether a sample surely counts an incident, and whether it possibly does."""
    start, end = sample.at - COUNT_TIME, sample.at
    sure = possible = False
    for note in notes:
        own = [phase for phase in of_key if phase.state == "open" and phase.episode == note.episode]
        heard = [one for level, one in arrived.get((note.key, note.episode), ()) if level >= note.level]
        sure |= (
            note.written < start
            and any(phase.sure_from < start and end < phase.sure_to for phase in own)
            and not any(one.began <= end for one in heard)
        )
        possible |= (
            note.at <= end + CLOCK_TOLERANCE
            and any(phase.possible(start, end) for phase in own)
            and not any(one.at < start for one in heard)
        )
    return sure, possible


def over_budget(history: History) -> Iterator[Violation]:
    """I7: in no span of time a target gets more pages than its budget allows, all workers counted together."""
    still = sum(fault.end - fault.start for fault in history.faults if fault.kind in (MACHINE, STALL))
    for target, budget in history.settings.budgets.items():
        claims = _messages([course for course in courses(history) if course.page.target == target])
        requests = [request.at for request in history.requests if request.target == target]
        for what, instants, slack in (("claims", claims, CLAIM_TIME), ("requests", requests, SEND_TIME)):
            most = budget.burst + budget.rate * (slack + still)
            count, span = _worst(sorted(instants), budget.rate)
            if count > most + budget.rate * span:
                why = f"{count} {what} to {target} in {span:.2f} s, and its budget is {budget.rate:g} a second"
                yield Violation("I7", "budget", None, why)


def _messages(of_target: Sequence[Course]) -> list[float]:
    """Return when each message to a target was claimed: a page alone, or a bundle."""
    claims = [(course.page.id, claim) for course in of_target for claim in course.claims]
    alone = [claim.began for _, claim in claims if claim.bundle is None]
    return [*alone, *(began for _, began in {(claim.bundle, claim.began) for _, claim in claims if claim.bundle})]


def _worst(instants: Sequence[float], rate: float) -> tuple[int, float]:
    """Return the number of instants and the length of the span that exceeds the rate by most."""
    best, start = (0.0, 0, 0.0), 0
    for number, at in enumerate(instants):
        if number - rate * at < start - rate * instants[start]:
            start = number
        span = at - instants[start]
        count = number - start + 1
        best = max(best, (count - rate * span, count, span))
    return best[1], best[2]


@attrs.frozen
class _Wait:
    """The time in which a page could have been claimed, until its claim."""

    course: Course
    claim: PageChange


def starving(history: History) -> Iterator[Violation]:
    """I7: a page that has waited for ``starved_after`` goes before the pages of its target that were due later."""
    waits: dict[str, list[_Wait]] = {}
    for course in courses(history):
        for claim in course.claims:
            if claim.was == "pending":
                waits.setdefault(course.page.target, []).append(_Wait(course, claim))
    for of_target in waits.values():
        for wait in of_target:
            starved = wait.claim.due_was + history.settings.starved_after + COMMIT_TIME
            if starved >= wait.claim.began:
                continue
            overtook = [
                other
                for other in of_target
                if starved < other.claim.began < wait.claim.began and other.claim.due_was > wait.claim.due_was
            ]
            if len(overtook) > MAX_OVERTAKEN:
                waited = wait.claim.began - wait.claim.due_was
                yield wait.course.violation(
                    "I7", f"{len(overtook)} pages went before it though it waited {waited:.2f} s"
                )
