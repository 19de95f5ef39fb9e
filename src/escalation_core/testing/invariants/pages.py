"""The checks of pages: I3 (delivered at least once), I5 (copies only for a reason), I6 (no claim after an end)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import attrs

from .bundles import bundled_requests
from .history import (
    INFINITY,
    KILL,
    MACHINE,
    STALL,
    FinalPage,
    History,
    PageChange,
    Request,
    Verb,
    Violation,
)
from .phases import CLOCK_TOLERANCE, Phase, machine_stalls, phases
from .recipients import expected_pages, wrong_pages

CANCELS = ("cancelled", "cancelling")
SETTLED = ("delivered", "cancelled", "superseded", "handed_over", "dead")
TIMED_OUT = "timed out"
"""The reason of a page whose answer did not come within the send timeout."""
RESUME_TIME = 0.25
"""Seconds after a stall in which the worker may still send the page that it was about to send."""
LOG_TIME = 0.25
"""Seconds after a commit within which the worker logs a dead page."""
ENDS: Sequence[Verb] = ("acknowledge", "resolve", "change_key")
"""Verbs that cancel the pages recorded before them."""


@attrs.frozen
class Course:
    """A page with its changes and its requests."""

    page: FinalPage
    changes: Sequence[PageChange]
    requests: Sequence[Request]

    @property
    def claims(self) -> list[PageChange]:
        """Its claims, in order."""
        return [change for change in self.changes if change.claims]

    def claims_of(self, request: Request) -> list[PageChange]:
        """Return the claims that the sender of a request had made before it."""
        return [
            claim
            for claim in self.claims
            if claim.worker == request.worker and claim.at <= request.at + CLOCK_TOLERANCE
        ]

    def after(self, claim: PageChange) -> PageChange | None:
        """Return the change that ended a claim: the one that settled the page, or the next claim."""
        later = [change for change in self.changes if change.at > claim.at and change.fence > claim.fence]
        return later[0] if later else None

    def violation(self, invariant: str, why: str) -> Violation:
        """Return a violation that concerns this page."""
        where = f"episode {self.page.episode}, page {self.page.id} to {self.page.target}: {why}"
        return Violation(invariant, self.page.key, self.page.level, where)


def courses(history: History) -> list[Course]:
    """Return the course of each page."""
    changes: dict[int, list[PageChange]] = {}
    for change in sorted(history.changes, key=lambda change: (change.page, change.fence, change.at)):
        changes.setdefault(change.page, []).append(change)
    requests: dict[tuple[str, str], list[Request]] = {}
    for request in sorted(history.requests, key=lambda request: request.at):
        requests.setdefault((request.dedup_key, request.target), []).append(request)
    together = bundled_requests(history)
    return [
        Course(
            page,
            changes.get(page.id, []),
            sorted(
                [*requests.get((page.dedup_key, page.target), []), *together.get(page.id, [])],
                key=lambda request: request.at,
            ),
        )
        for page in history.pages
    ]


def undelivered(history: History) -> Iterator[Violation]:
    """I3: each escalation has its pages, and each page was accepted, cancelled for a reason, or reported as dead.

    Each page says which schedule named its person. ``successors`` judges pages that others took the place of.
    """
    paged: dict[tuple[str, int, int], list[FinalPage]] = {}
    for page in history.pages:
        paged.setdefault((page.key, page.episode, page.level), []).append(page)
    found = phases(history)
    for each in history.escalations:
        pages = paged.get((each.key, each.episode, each.level), ())
        named = expected_pages(each, found.get(each.key, ()), history)
        wrong = wrong_pages(pages, named, history.settings.fallbacks)
        if wrong is not None:
            yield Violation("I3", each.key, each.level, f"episode {each.episode}: {wrong}")
    for course in courses(history):
        page, state = course.page, course.page.state
        if state == "delivered" and not _accepted(course):
            yield course.violation("I3", "settled as delivered, but no receiver had accepted it from that worker")
        elif state == "dead" and not _reported(course, history):
            yield course.violation("I3", "dead, and neither logged nor counted in health")
        elif state == "cancelled" and not _may_cancel(course, found.get(page.key, ())):
            yield course.violation("I3", f"cancelled without a reason ({page.reason})")
        elif state not in SETTLED:
            yield course.violation("I3", f"still {state} at the end")


def _accepted(course: Course) -> bool:
    """Return whether the worker that settled the page had sent it, after its claim, and a receiver had accepted it."""
    settled = next((change for change in course.changes if change.state == "delivered"), None)
    if settled is None:
        return False
    claimed = max((claim.at for claim in course.claims if claim.fence < settled.fence), default=INFINITY)
    return any(
        request.accepts(course.page.key)
        and request.worker == settled.worker
        and claimed - CLOCK_TOLERANCE <= request.at <= settled.at + CLOCK_TOLERANCE
        for request in course.requests
    )


def _reported(course: Course, history: History) -> bool:
    """Return whether a dead page was reported: the worker logged an error with the page's id.

    A correct count of dead pages in health is enough if a fault may have interrupted the worker before it logged. A
    stall of the machine is not such a fault, because the worker logs after it.
    """
    if course.page.id in history.logged_dead:
        return True
    died = [change for change in course.changes if change.state == "dead"]
    all_counted = history.counted_dead == sum(page.state == "dead" for page in history.pages)
    return all_counted and any(
        fault.kind != MACHINE and fault.may_interrupt(died[-1].worker, died[-1].began, died[-1].at + LOG_TIME)
        for fault in history.faults
        if died
    )


def _may_cancel(course: Course, of_key: Sequence[Phase]) -> bool:
    """Return whether the page's incident or episode may have ended when the page was first cancelled."""
    first = next((change for change in course.changes if change.state in CANCELS), None)
    return first is not None and any(
        phase.possible(first.began, first.at)
        and (phase.episode > course.page.episode or (phase.episode == course.page.episode and phase.state != "open"))
        for phase in of_key
    )


def copied(history: History) -> Iterator[Violation]:
    """I5: a second copy only if a fault was between claim and settlement; only the last claimant sends and settles."""
    stalled = machine_stalls(history.faults)
    for course in courses(history):
        yield from _fence_violations(course)
        sent: Counter[str] = Counter()
        for request in course.requests:
            sent[request.worker] += 1
            own = course.claims_of(request)
            if len(own) < sent[request.worker]:
                why = f"{request.worker} sent it {sent[request.worker]} times on {len(own)} claims"
                yield course.violation("I5", why)
                continue
            # A request near the end of the lease arrives late if the machine stands still.
            late = sum(end - start for start, end in stalled if start <= request.at and end >= own[-1].at)
            over = request.at - (own[-1].began + history.settings.lease + late)
            if over > CLOCK_TOLERANCE and not _just_resumed(history, request):
                yield course.violation("I5", f"{request.worker} sent it {over:.2f} s after its lease had ended")
        yield from _needless_copies(course, history)


def _just_resumed(history: History, request: Request) -> bool:
    """Return whether the sender has just continued after a stall: it may have read its clock before the stall."""
    return any(
        fault.kind == STALL and fault.may_interrupt(request.worker, request.at - RESUME_TIME, request.at)
        for fault in history.faults
    )


def _fence_violations(course: Course) -> Iterator[Violation]:
    holder: str | None = None
    fence = 0
    for change in course.changes:
        if change.was in SETTLED:
            yield course.violation("I5", f"{change.worker} wrote {change.state} to a page that was {change.was}")
        grows = change.fence - change.fence_was
        if change.fence_was != fence or grows not in (0, 1) or (not grows and change.state not in CANCELS):
            yield course.violation("I5", f"{change.worker} wrote {change.state} with an old fence")
        fence = change.fence
        if change.claims:
            holder = change.worker
        elif change.was == "leased" and change.state not in CANCELS and change.worker != holder:
            yield course.violation("I5", f"{change.worker} settled a page that {holder} had claimed")


def _needless_copies(course: Course, history: History) -> Iterator[Violation]:
    accepted = [request for request in course.requests if request.accepts(course.page.key)]
    for request in accepted[:-1]:
        own = course.claims_of(request)
        if not own:
            continue
        settled = course.after(own[-1])
        until = history.ended if settled is None else settled.at
        in_time = request.answered_at is not None and request.answered_at - request.at < history.settings.send_timeout
        # The answer may have reached the worker's machine in time, and the worker too late.
        timed_out = settled is not None and not settled.claims and settled.reason == TIMED_OUT
        if in_time and not timed_out and not _interrupted(history, request, own[-1], until):
            yield course.violation("I5", f"{request.worker} delivered it, and it was sent again without a reason")


def _interrupted(history: History, request: Request, claim: PageChange, until: float) -> bool:
    """Return whether a fault may have interrupted the sender between its request and the settlement.

    A kill counts from the claim on, because the sender may be dead before its request arrives. A stall of the machine
    counts only if it lasts for more than half a lease.
    """
    still = 0.0
    for fault in history.faults:
        if fault.kind == MACHINE:
            still += max(0.0, min(fault.end, until) - max(fault.start, request.at))
        elif fault.may_interrupt(request.worker, claim.began if fault.kind == KILL else request.at, until):
            return True
    return still > history.settings.lease / 2


def unwanted(history: History) -> Iterator[Violation]:
    """I6: no page is claimed after its incident or episode has surely ended, or during a pause."""
    found = phases(history)
    for course in courses(history):
        page = course.page
        for claim in course.claims:
            for phase in found.get(page.key, ()):
                if not (phase.sure_from < claim.began and claim.at < phase.sure_to):
                    continue
                if phase.episode != page.episode or phase.state != "open":
                    since = f"since {claim.began - phase.sure_from:.2f} s"
                    was = f"{phase.state}, episode {phase.episode}, {since}"
                    yield course.violation("I6", f"{claim.worker} claimed it when the incident was {was}")
            if any(pause.sure_from < claim.began and claim.at < pause.sure_to for pause in history.pauses):
                yield course.violation("I6", f"{claim.worker} claimed it during a pause")


def outlived(history: History) -> Iterator[Violation]:
    """I6: a page that was recorded before an acknowledgement, a resolution or a change of the key is not claimed later.

    This holds even if the host has taken the acknowledgement back, or it has expired. Of a write that no trigger saw,
    only the expiry cancels pages.
    """
    written = {(each.key, each.episode, each.level): each.at for each in history.escalations}
    ends: dict[str, list[tuple[str, float, float]]] = {}
    for write in history.writes:
        if write.verb in ENDS and not write.unseen:
            ends.setdefault(write.key, []).append((repr(write.verb), write.began, write.ended))
    for key, of_key in phases(history).items():
        for phase, following in pairwise(of_key):
            if phase.state == "acknowledged" and following.expired:
                ends.setdefault(key, []).append(("an acknowledgement expired", phase.earliest, phase.latest))
    for course in courses(history):
        page = course.page
        at = written.get((page.key, page.episode, page.level), INFINITY)
        for what, began, ended in ends.get(page.key, ()):
            late = next((claim for claim in course.claims if claim.began > ended), None)
            if at < began and late is not None:
                after = f"{late.began - ended:.2f} s after {what}"
                yield course.violation("I6", f"{late.worker} claimed it {after}, and it was recorded before")
