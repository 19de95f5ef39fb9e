"""Judges of what is sent. I3: heard at least once. I5: copies only for a reason. I6: never after an acknowledgement."""

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from .history import INFINITY, KILL, Event, History, Op, PageRow, Post, Step, Verb, Violation
from .lives import INSTANT, Stretch, lives, stalls

ENDS = ("cancelled", "cancelling")
AWAKENING = 0.25
"""Seconds within which a worker that was stopped has sent what it was about to send."""
TIMED_OUT = "timed out"
"""What a worker writes that waited for an answer as long as it may."""
TELLING = 0.25
"""Seconds within which a worker has logged what it has committed, if it is let."""
ENDING: Sequence[Verb] = ("acknowledge", "resolve", "change_key")
"""Verbs after which nothing goes that was recorded before them."""
FINAL = ("delivered", "cancelled", "dead")


@attrs.frozen
class Course:
    """A page, the steps that it took, and the requests that were made for it."""

    page: PageRow
    steps: Sequence[Step]
    posts: Sequence[Post]

    @property
    def claims(self) -> list[Step]:
        """Its claims, in order."""
        return [step for step in self.steps if step.claims]

    def claims_of(self, post: Post) -> list[Step]:
        """Return the claims that a request's sender had made before it."""
        return [claim for claim in self.claims if claim.worker == post.worker and claim.at <= post.at + INSTANT]

    def after(self, claim: Step) -> Step | None:
        """Return what its claim ended with: the step that settled it, or the next claim."""
        later = [step for step in self.steps if step.at > claim.at and step.fence > claim.fence]
        return later[0] if later else None

    def violation(self, invariant: str, why: str) -> Violation:
        """Return a breach of this page."""
        where = f"episode {self.page.episode}, page {self.page.id} to {self.page.target}: {why}"
        return Violation(invariant, self.page.key, self.page.level, where)


def courses(history: History) -> list[Course]:
    """Return what each page went through."""
    steps: dict[int, list[Step]] = {}
    for step in sorted(history.steps, key=lambda step: (step.page, step.fence, step.at)):
        steps.setdefault(step.page, []).append(step)
    posts: dict[tuple[str, str], list[Post]] = {}
    for post in sorted(history.posts, key=lambda post: post.at):
        posts.setdefault((post.dedup_key, post.target), []).append(post)
    return [
        Course(page, steps.get(page.id, []), posts.get((page.dedup_key, page.target), [])) for page in history.pages
    ]


def unheard(history: History) -> Iterator[Violation]:
    """I3: each recorded escalation has its pages, and each of them was accepted, cancelled for a reason, or buried."""
    paged: dict[tuple[str, int, int], list[str]] = {}
    for page in history.pages:
        paged.setdefault((page.key, page.episode, page.level), []).append(page.target)
    found = lives(history)
    for event in history.events:
        targets = sorted(paged.get((event.key, event.episode, event.level), ()))
        owed = _owed(event, found.get(event.key, ()), history.targets)
        if targets not in owed:
            why = f"episode {event.episode}: it paged {targets}, and not {' or '.join(map(str, owed))}"
            yield Violation("I3", event.key, event.level, why)
    for course in courses(history):
        page, state = course.page, course.page.state
        if state == "delivered" and not _got(course):
            yield course.violation("I3", "marked delivered, and nobody had got it from whoever says so")
        elif state == "dead" and not _alarmed(course, history):
            yield course.violation("I3", "dead without an alarm")
        elif state == "cancelled" and not _ended(course, found.get(page.key, ())):
            yield course.violation("I3", f"cancelled without a reason ({page.reason})")
        elif state not in FINAL:
            yield course.violation("I3", f"still {state} in the end")


def _got(course: Course) -> bool:
    """Tell whether it was accepted between the claim of the worker that marked it, and that mark."""
    mark = next((step for step in course.steps if step.state == "delivered"), None)
    if mark is None:
        return False
    claimed = max((claim.at for claim in course.claims if claim.fence < mark.fence), default=INFINITY)
    return any(
        post.accepted and post.worker == mark.worker and claimed - INSTANT <= post.at <= mark.at + INSTANT
        for post in course.posts
    )


def _owed(event: Event, stretches: Sequence[Stretch], targets: Sequence[str]) -> list[list[str]]:
    """Return whom an escalation may have to page: critical ones everybody, others the first target.

    There is more than one answer only if the severity may have changed while it was recorded, or nobody knows it.
    """
    severities = {
        stretch.severity
        for stretch in stretches
        if stretch.episode == event.episode and stretch.possible(event.created_at, event.at)
    }
    ways = {severity == "critical" for severity in severities} or {True, False}
    return [sorted(targets if everybody else targets[:1]) for everybody in sorted(ways)]


def _alarmed(course: Course, history: History) -> bool:
    """Tell whether somebody was told of a page's death: by an error in its worker's log that names it.

    Only if something befell that worker between the burial's transaction and the line that follows it, health will do,
    and only if that counted every dead page in the end. A machine that stands still keeps no line from being written.
    """
    if course.page.id in history.alarmed:
        return True
    buried = [step for step in course.steps if step.state == "dead"]
    all_counted = history.counted == sum(page.state == "dead" for page in history.pages)
    return all_counted and any(
        fault.kind != "machine" and fault.befell(buried[-1].worker, buried[-1].began, buried[-1].at + TELLING)
        for fault in history.faults
        if buried
    )


def _ended(course: Course, stretches: Sequence[Stretch]) -> bool:
    """Tell whether the page's incident or episode may have been over when the page was first cancelled."""
    first = next((step for step in course.steps if step.state in ENDS), None)
    return first is not None and any(
        stretch.possible(first.began, first.at)
        and (
            stretch.episode > course.page.episode
            or (stretch.episode == course.page.episode and stretch.state != "open")
        )
        for stretch in stretches
    )


def copied(history: History) -> Iterator[Violation]:
    """I5: a second copy only if something fell between claim and mark; nothing is sent or settled by who lost it."""
    stalled = stalls(history.faults)
    for course in courses(history):
        yield from _steps(course)
        sent: Counter[str] = Counter()
        for post in course.posts:
            sent[post.worker] += 1
            own = course.claims_of(post)
            if len(own) < sent[post.worker]:
                yield course.violation("I5", f"{post.worker} sent it {sent[post.worker]} times on {len(own)} claims")
                continue
            # What is on its way when the lease is nearly over arrives late if the machine stands still.
            late = sum(end - start for start, end in stalled if start <= post.at and end >= own[-1].at)
            over = post.at - (own[-1].began + history.rules.lease + late)
            if over > INSTANT and not _awoke(history, post):
                yield course.violation("I5", f"{post.worker} sent it {over:.2f} s after its lease was over")
        yield from _copies(course, history)


def _awoke(history: History, post: Post) -> bool:
    """Tell whether the sender has just been let go on: it had looked at its clock before it was stopped."""
    return any(
        fault.kind == "stall" and fault.befell(post.worker, post.at - AWAKENING, post.at) for fault in history.faults
    )


def _steps(course: Course) -> Iterator[Violation]:
    holder: str | None = None
    fence = 0
    for step in course.steps:
        if step.was in FINAL:
            yield course.violation("I5", f"{step.worker} wrote {step.state} to a page that was {step.was}")
        grows = step.fence - step.fence_was
        if step.fence_was != fence or grows not in (0, 1) or (not grows and step.state not in ENDS):
            yield course.violation("I5", f"{step.worker} wrote {step.state} with a number that is old")
        fence = step.fence
        if step.claims:
            holder = step.worker
        elif step.was == "leased" and step.state not in ENDS and step.worker != holder:
            yield course.violation("I5", f"{step.worker} settled what {holder} had claimed")


def _copies(course: Course, history: History) -> Iterator[Violation]:
    accepted = [post for post in course.posts if post.accepted]
    for post in accepted[:-1]:
        own = course.claims_of(post)
        if not own:
            continue
        settled = course.after(own[-1])
        until = history.ended if settled is None else settled.at
        in_time = post.answered_at is not None and post.answered_at - post.at < history.rules.send_timeout
        # The answer may have come in time to the worker's machine, and not to the worker.
        timed_out = settled is not None and not settled.claims and settled.reason == TIMED_OUT
        if in_time and not timed_out and not _hit(history, post, own[-1], until):
            yield course.violation("I5", f"{post.worker} delivered it, and it was sent once more for no reason")


def _hit(history: History, post: Post, claim: Step, until: float) -> bool:
    """Tell whether anything befell the sender between its request and the mark.

    A sender that is dead may be so before its request arrives. A machine that stands still is no reason, unless it does
    so for half a lease.
    """
    still = 0.0
    for fault in history.faults:
        if fault.kind == "machine":
            still += max(0.0, min(fault.end, until) - max(fault.start, post.at))
        elif fault.befell(post.worker, claim.began if fault.kind == KILL else post.at, until):
            return True
    return still > history.rules.lease / 2


def unwanted(history: History) -> Iterator[Violation]:
    """I6: no page is claimed for sending when its incident has surely ended, or while everything is paused."""
    found = lives(history)
    for course in courses(history):
        page = course.page
        for claim in course.claims:
            for stretch in found.get(page.key, ()):
                if not (stretch.sure_from < claim.began and claim.at < stretch.sure_to):
                    continue
                if stretch.episode != page.episode or stretch.state != "open":
                    said = f"{stretch.state}, episode {stretch.episode}, since {claim.began - stretch.sure_from:.2f} s"
                    yield course.violation("I6", f"{claim.worker} claimed it when the incident was {said}")
            if any(held.sure_from < claim.began and claim.at < held.sure_to for held in history.held):
                yield course.violation("I6", f"{claim.worker} claimed it during a pause")


def outlived(history: History) -> Iterator[Violation]:
    """I6: no page that was recorded before its incident was acknowledged, resolved or renamed is claimed after that.

    Not even if that was taken back meanwhile.
    """
    written = {(event.key, event.episode, event.level): event.at for event in history.events}
    ends: dict[str, list[Op]] = {}
    for op in history.ops:
        if op.verb in ENDING and not op.unseen:
            ends.setdefault(op.key, []).append(op)
    for course in courses(history):
        page = course.page
        at = written.get((page.key, page.episode, page.level), INFINITY)
        for op in ends.get(page.key, ()):
            late = next((claim for claim in course.claims if claim.began > op.ended), None)
            if at < op.began and late is not None:
                after = f"{late.began - op.ended:.2f} s after {op.verb!r}"
                yield course.violation("I6", f"{late.worker} claimed it {after}, and it was recorded before")
