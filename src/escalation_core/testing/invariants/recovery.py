"""The checks of recovery (I7: workers recover, without a busy loop, and health shows the fault) and secrets (I8)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from .history import INFINITY, KILL, Fault, History, Violation
from .pages import Course, courses
from .phases import deadline, stops

IDLE_STATEMENTS = 50
"""Statements in a second that an idle worker may send, at four heartbeats a second; a busy loop sends thousands."""
STATEMENTS_EACH = 12
"""Statements that one change of a page or one escalation may cost, retries included. A pass costs most, alone in its
tick: it reads versions and overrides, and sets a savepoint."""
STATEMENTS_NOTED = 12
"""Statements that an acknowledgement or an end of a paged incident may cost: its saved change, which a worker deletes
in a transaction of its own even if it makes no notice of it."""
STATEMENTS_A_SLOT = 8
"""Statements that a slot of a budget may cost a worker, even if another worker takes the slot."""
STATEMENTS_A_START = 60
"""Statements of a worker's start, which checks the tables and reads switches, versions and schedules."""
STATEMENTS_REFUSED = 2
"""Statements that an unplannable row may cost in each tick."""
COUNTED_OVER = 5.0
"""Seconds over which statements are counted."""
LOOK_TIME = 0.25
"""Seconds that a worker's search for due pages may take on a busy machine. A worker searches once in a tick. If a page
is committed during a search, the next search finds it."""


def unclaimed(history: History) -> Iterator[Violation]:
    """I7: a page that may be sent is claimed within a tick; a page of a dead worker within a tick after its lease.

    A page to a target with a budget may have to wait for its slot: see ``starving``.
    """
    for course in courses(history):
        if course.page.target not in history.settings.budgets:
            yield from _claimed_late(course, history, stops(history, course.page.key, claims=True))


def _claimed_late(course: Course, history: History, stopped: Sequence[tuple[float, float]]) -> Iterator[Violation]:
    for change in course.changes:
        if not change.claims and change.state != "superseded":
            continue
        # due_was: when a pending page was due, or when the lease of another worker ended.
        latest = deadline(change.due_was, history.settings.tick + LOOK_TIME, stopped)
        if change.at > latest:
            what = "claimed" if change.claims else "superseded"
            yield course.violation("I7", f"{change.worker} {what} it {change.at - change.due_was:.2f} s after it could")


def busy_loops(history: History) -> Iterator[Violation]:
    """I7: no worker sends more statements in five seconds than its work can explain."""
    idle = COUNTED_OVER * (IDLE_STATEMENTS + STATEMENTS_REFUSED * len(history.unplannable) / history.settings.tick)
    recorded = Counter(each.at // COUNTED_OVER for each in history.escalations)
    limited = {page.id for page in history.pages if page.target in history.settings.budgets}
    slots = Counter(each.at // COUNTED_OVER for each in history.changes if each.claims and each.page in limited)
    noted = Counter(each.ended // COUNTED_OVER for each in history.writes if each.verb in ("acknowledge", "resolve"))
    for slot, sent in history.statements.items():
        killed = Counter(fault.end // COUNTED_OVER for fault in history.faults if _kills(fault, slot))
        own = [change for change in history.changes if _is_of(slot, change.worker)]
        changed = Counter(change.at // COUNTED_OVER for change in own)
        told = Counter(claim.at // COUNTED_OVER for claim in history.notice_claims if _is_of(slot, claim.worker))
        for span, count in Counter(at // COUNTED_OVER for at in sent).items():
            # A statement near the end of one span may cause a write near the beginning of the next one.
            work = sum(done[at] for done in (recorded, changed, told) for at in (span, span + 1))
            taken = sum(slots[at] for at in (span, span + 1))
            # A change may be saved in the span before, and wait for a page that is being sent.
            saved = sum(noted[at] for at in (span - 1, span, span + 1))
            # The next worker of the slot starts soon after.
            started = sum(killed[at] for at in (span - 1, span))
            allowed = idle + STATEMENTS_EACH * work + STATEMENTS_A_SLOT * taken + STATEMENTS_NOTED * saved
            if count > allowed + STATEMENTS_A_START * started:
                why = f"{count} statements in {COUNTED_OVER:.0f} s, for {work} escalations, pages and notices"
                yield Violation("I7", slot, None, why)


def _is_of(slot: str, worker: str) -> bool:
    return worker == slot or worker.startswith(f"{slot}-")


def _kills(fault: Fault, slot: str) -> bool:
    return fault.kind == KILL and any(_is_of(slot, worker) for worker in fault.workers or ())


def unhealthy(history: History) -> Iterator[Violation]:
    """I7: health shows a fault within two ticks, clears within two ticks after it, and is healthy at the end."""
    tick = history.settings.tick
    for fault in history.faults:
        # The last heartbeat may be as recent as the fault, and a sample may come just before the second tick ends.
        seen_by = fault.start + 2 * tick + tick / 2
        if not fault.unhealthy or fault.end < seen_by:
            continue
        if not any(sample.unhealthy for sample in history.health if fault.start < sample.at <= min(fault.end, seen_by)):
            yield Violation("I7", fault.kind, None, "health did not show it within two ticks")
        yield from _not_cleared(fault, history)
    for sample in history.health[-1:]:
        if sample.unhealthy and not any(fault.start <= sample.at <= fault.over for fault in history.faults):
            yield Violation("I7", "health", None, "health is unhealthy at the end")


def _not_cleared(fault: Fault, history: History) -> Iterator[Violation]:
    """Yield a violation if health was unhealthy two ticks after a fault or later, before the next fault began.

    A sample without an answer does not count then, because the test's timeout is short and the machine may be busy. If
    health never answers again, the last sample waits for the answer, and the run fails.
    """
    clear_by = fault.over + 2 * history.settings.tick
    others = [other.start for other in history.faults if other is not fault and other.over > fault.over]
    calm_until = min(others, default=INFINITY)
    after = [sample for sample in history.health if fault.over < sample.at <= calm_until]
    in_time = [sample for sample in after if sample.at <= clear_by]
    later = [sample for sample in after if sample.at > clear_by and sample.answered]
    if later and all(sample.unhealthy for sample in in_time):
        yield Violation("I7", fault.kind, None, "health did not clear within two ticks after it")
    elif any(sample.unhealthy for sample in later):
        yield Violation("I7", fault.kind, None, "health was unhealthy again after it, without another fault")
    elif calm_until == INFINITY and not later:
        yield Violation("I7", fault.kind, None, "no sample shows whether health cleared after it")


def findings(history: History) -> Iterator[Violation]:
    """I7: health lists the findings of a fault during the fault, and no longer than two ticks after it."""
    for fault in history.faults:
        clear_by = fault.over + 2 * history.settings.tick
        for finding in sorted(fault.findings):
            again = [other.start for other in history.faults if other is not fault and finding in other.findings]
            calm_until = min((start for start in again if start > fault.start), default=INFINITY)
            listed = [sample.at for sample in history.health if finding in sample.findings]
            if not any(fault.start < at <= fault.end for at in listed):
                yield Violation("I7", fault.kind, None, f"health did not list {finding}")
            if any(clear_by < at <= calm_until for at in listed):
                yield Violation("I7", fault.kind, None, f"health listed {finding} after the fault was over")
    for sample in history.health[-1:]:
        for finding in sorted(sample.findings - {f"unreadable {key}" for key in history.unplannable}):
            yield Violation("I7", "health", None, f"health lists {finding} at the end")


def leaked(texts: Mapping[str, str], secrets: Sequence[str]) -> Iterator[Violation]:
    """I8: no text that the run wrote contains a secret. The violation does not repeat the secret."""
    for name, text in texts.items():
        for number, secret in enumerate(secrets):
            if secret in text:
                line = next(line for line in text.splitlines() if secret in line)
                shown = line.replace(secret, "***")[:160]
                yield Violation("I8", name, None, f"it contains secret {number}: {shown}")


def recoveries(history: History) -> list[tuple[str, float]]:
    """Return for each page of an interrupted worker the kind of the fault, and the seconds until the next claim.

    Leave out claims during an outage, a pause or a stall of the machine, because no worker could have claimed the page,
    and pages of a target with a budget, which wait for their slots.
    """
    waits = []
    stopped = stops(history)
    for course in courses(history):
        if course.page.target in history.settings.budgets:
            continue
        for claim, following in pairwise(course.claims):
            impossible = any(start <= following.at and end >= claim.at for start, end in stopped)
            if following.was != "leased" or impossible:
                continue
            met = [
                fault
                for fault in history.faults
                if fault.workers and fault.may_interrupt(claim.worker, claim.began, following.began)
            ]
            first = min(met, key=lambda fault: fault.start, default=None)
            if first is not None:
                waits.append((first.kind, following.at - first.start))
    return waits
