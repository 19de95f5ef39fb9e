"""Judges of how the engine bears it. I7: it recovers by itself, quietly, and health tells. I8: no secret is told."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from .history import INFINITY, Fault, History, Violation
from .judge_pages import Course, courses
from .lives import blocks, deadline

BUSY = 50
"""Statements a second that are no hot loop, at four heartbeats a second; one asks thousands."""
EACH = 8
"""Statements that one step of a page or one event may cost, retries and all."""
TRY = 2
"""Statements that a row may cost in each tick which the database refuses, or which cannot be planned."""
SPAN = 5.0
"""Seconds over which they are counted."""
LOOK = 0.25
"""Seconds that a look at the pages may take, on a machine that has other work. A worker rests for a tick between two
looks, and what is committed during the one is found by the other."""


def stuck(history: History) -> Iterator[Violation]:
    """I7: a page that may go is claimed by the next look, a tick later; one of a dead worker after its lease."""
    for course in courses(history):
        yield from _late(course, history, blocks(history, course.page.key, pages=True))


def _late(course: Course, history: History, stopped: Sequence[tuple[float, float]]) -> Iterator[Violation]:
    for claim in course.claims:
        # A pending page waits for its turn; one whose lease has ended may be claimed by anybody.
        latest = deadline(claim.due_was, history.rules.tick + LOOK, stopped)
        if claim.at > latest:
            yield course.violation("I7", f"{claim.worker} claimed it {claim.at - claim.due_was:.2f} s after it could")


def loops(history: History) -> Iterator[Violation]:
    """I7: no worker asks the database without end, in any few seconds, whatever it did in others."""
    bearable = SPAN * (BUSY + TRY * len(history.poison) / history.rules.tick)
    recorded = Counter(event.at // SPAN for event in history.events)
    for slot, asked in history.queries.items():
        # A slot has a proxy before each server: w1, w1.1 and w1.2 are the same worker's.
        own = f"{slot.partition('.')[0]}-"
        stepped = Counter(step.at // SPAN for step in history.steps if step.worker.startswith(own))
        for span, count in Counter(at // SPAN for at in asked).items():
            # What is asked just before the end of a span may have been written just after it.
            done = sum(work[at] for work in (recorded, stepped) for at in (span, span + 1))
            if count > bearable + EACH * done:
                yield Violation("I7", slot, None, f"{count} statements in {SPAN:.0f} s, {done} events and steps beside")


def shown(history: History) -> Iterator[Violation]:
    """I7: health shows a fault that lasts within two ticks, clears after it and stays so, and is green in the end."""
    tick = history.rules.tick
    for fault in history.faults:
        # The last beat before the fault may be as young as it, and one look may come just before the second tick ends.
        seen_by = fault.start + 2 * tick + tick / 2
        if not fault.shows or fault.end < seen_by:
            continue
        if not any(look.red for look in history.looks if fault.start < look.at <= min(fault.end, seen_by)):
            yield Violation("I7", fault.kind, None, "health did not show it within two ticks")
        yield from _cleared(fault, history)
    for look in history.looks[-1:]:
        if look.red and not any(fault.start <= look.at <= fault.over for fault in history.faults):
            yield Violation("I7", "health", None, "the light is not green in the end")


def _cleared(fault: Fault, history: History) -> Iterator[Violation]:
    """Tell whether health was red two ticks after a fault and later, until the next one began.

    There a look that had no answer in time tells nothing: half a second is the watcher's patience, on a machine that
    has other work, and no limit of health's. If health never answers again, the last look waits for it, and the run
    fails. What is answered red, or refused, tells.
    """
    clear_by = fault.over + 2 * history.rules.tick
    others = [other.start for other in history.faults if other is not fault and other.over > fault.over]
    calm_until = min(others, default=INFINITY)
    after = [look for look in history.looks if fault.over < look.at <= calm_until]
    in_time = [look for look in after if look.at <= clear_by]
    later = [look for look in after if look.at > clear_by and look.told]
    if later and all(look.red for look in in_time):
        yield Violation("I7", fault.kind, None, "health did not clear within two ticks after it")
    elif any(look.red for look in later):
        yield Violation("I7", fault.kind, None, "health was red again after it, and nothing had happened")
    elif calm_until == INFINITY and not later:
        yield Violation("I7", fault.kind, None, "nobody looked whether health had cleared after it")


def named(history: History) -> Iterator[Violation]:
    """I7: health names what a fault has to do with while it lasts, and no more two ticks after it."""
    for fault in history.faults:
        clear_by = fault.over + 2 * history.rules.tick
        for word in sorted(fault.tells):
            again = [other.start for other in history.faults if other is not fault and word in other.tells]
            calm_until = min((start for start in again if start > fault.start), default=INFINITY)
            telling = [look.at for look in history.looks if word in look.tells]
            if not any(fault.start < at <= fault.end for at in telling):
                yield Violation("I7", fault.kind, None, f"health did not tell of {word}")
            if any(clear_by < at <= calm_until for at in telling):
                yield Violation("I7", fault.kind, None, f"health told of {word} when it was over")
    for look in history.looks[-1:]:
        for word in sorted(look.tells - {f"unreadable {key}" for key in history.poison}):
            yield Violation("I7", "health", None, f"it tells of {word} in the end")


def told(texts: Mapping[str, str], secrets: Sequence[str]) -> Iterator[Violation]:
    """I8: no secret stands in anything that was written."""
    for name, text in texts.items():
        for number, secret in enumerate(secrets):
            if secret in text:
                line = next(line for line in text.splitlines() if secret in line)
                yield Violation("I8", name, None, f"secret {number} is in it: {line.replace(secret, '***')[:160]}")


def recoveries(history: History) -> list[tuple[str, float]]:
    """Return how long each page of a lost worker waited for the next claim, and what had befallen that worker.

    Outside of any outage: when nobody could have claimed it, or the machine itself stood still, nothing can be told.
    """
    waits = []
    stopped = blocks(history)
    for course in courses(history):
        for claim, following in pairwise(course.claims):
            nobody = any(start <= following.at and end >= claim.at for start, end in stopped)
            if following.was != "leased" or nobody:
                continue
            hit = [
                fault
                for fault in history.faults
                if fault.workers and fault.befell(claim.worker, claim.began, following.began)
            ]
            first = min(hit, key=lambda fault: fault.start, default=None)
            if first is not None:
                waits.append((first.kind, following.at - first.start))
    return waits
