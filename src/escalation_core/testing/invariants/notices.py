"""The checks of notices, I9: those who were paged, and only those, learn once what became of the incident."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from .history import History, Violation
from .notice_records import FinalNotice, Told
from .phases import CLOCK_TOLERANCE

MAX_WAIT = 1.0
"""Seconds that a page may have been waiting, at most, when a worker claims a notice to the same target."""
RESOLVED = "resolved"
_Place = tuple[str, int, str]
"""An incident, an episode and a target."""


def notice_keys(history: History) -> Iterator[Violation]:
    """I9: the key of a notice names its kind, incident, episode and instant, and so no two of them share one."""
    for notice in history.notices or ():
        if notice.dedup_key != _expected_key(notice):
            yield _violation(notice, f"{notice.kind} to {notice.target} has another key")


def pageless(history: History) -> Iterator[Violation]:
    """I9: a notice follows a page of its episode that arrived at its target, or may have opened a thread there."""
    claimed = {change.page for change in history.changes if change.claims}
    delivered = {(page.key, page.episode, page.target) for page in history.pages if page.state == "delivered"}
    sent = {(page.key, page.episode, page.target) for page in history.pages if page.id in claimed}
    for notice in history.notices or ():
        thread = notice.kind == RESOLVED and notice.target in history.settings.threads
        if _place(notice) not in (sent if thread else delivered):
            yield _violation(notice, f"{notice.kind} to {notice.target}, where no page of its episode arrived")


def early(history: History) -> Iterator[Violation]:
    """I9: a notice is claimed after the pages are settled that were on their way when it happened."""
    settled: dict[int, float] = {}
    claimed: dict[int, float] = {}
    for change in sorted(history.changes, key=lambda change: (change.page, change.fence, change.at)):
        if change.claims:
            claimed.setdefault(change.page, change.at)
        elif change.state not in ("leased", "cancelling"):
            settled[change.page] = change.at
    pages = {page.id: page for page in history.pages}
    spans: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for number, at in claimed.items():
        page = pages[number]
        spans.setdefault((page.key, page.episode), []).append((at, settled.get(number, history.ended)))
    first: dict[int, float] = {}
    for claim in history.notice_claims:
        first[claim.notice] = min(claim.at, first.get(claim.notice, claim.at))
    for notice in history.notices or ():
        for began, ended in spans.get((notice.key, notice.episode), ()):
            if began < notice.at - CLOCK_TOLERANCE and ended > first.get(notice.id, ended) + CLOCK_TOLERANCE:
                yield _violation(notice, f"{notice.kind} to {notice.target} was claimed before a page was settled")


def repeated(history: History) -> Iterator[Violation]:
    """I9: of each episode a target learns once that it is resolved; a second copy is sent only after a fault."""
    seen: set[_Place] = set()
    for notice in history.notices or ():
        if notice.kind == RESOLVED and notice.state == "delivered":
            if _place(notice) in seen:
                yield _violation(notice, f"{notice.target} learned twice that the episode is resolved")
            seen.add(_place(notice))
    first: dict[tuple[str, str], Told] = {}
    # An incident may be acknowledged several times in one thread, and resolved once.
    alone = [told for told in history.told if told.kind in (None, RESOLVED)]
    for told in sorted(alone, key=lambda told: told.at):
        before = first.setdefault((told.dedup_key, told.target), told)
        if not told.accepted or before is told:
            continue
        faults = [fault for fault in history.faults if fault.start <= told.at and fault.over >= before.at]
        if before.accepted and before.answered and not faults:
            yield Violation("I9", told.dedup_key[:12], None, f"{told.target} got a second copy of a notice")


def untold(history: History) -> Iterator[Violation]:
    """I9: when an incident has ended, each target that asks for it has learned that its episodes are resolved.

    A target with threads learns it of all episodes that it was paged about, any other of the last one.
    """
    if history.notices is None:
        return
    told = {_place(one) for one in history.notices if one.kind == RESOLVED and one.state in ("delivered", "dead")}
    accepted = {(one.dedup_key, one.target) for one in history.requests if one.accepted}
    threads = history.settings.threads
    arrived = {
        page.id
        for page in history.pages
        if page.state == "delivered" or (page.target in threads and (page.dedup_key, page.target) in accepted)
    }
    asking = {target for target, kinds in history.settings.notices.items() if RESOLVED in kinds}
    for key, since in _ended(history).items():
        pages = [page for page in history.pages if page.key == key and page.id in arrived]
        # The last episode is the one of its last escalation; a later one, without any, has no page.
        last = max((one.episode for one in history.escalations if one.key == key), default=0)
        for page in pages:
            concerned = page.target in asking and (page.target in threads or page.episode == last)
            if concerned and (key, page.episode, page.target) not in told:
                why = f"{page.target} did not learn that episode {page.episode} is resolved, at {since:.3f}"
                yield Violation("I9", key, page.level, why)


def unknown_threads(history: History) -> Iterator[Violation]:
    """I9: a target with threads gets each notice under the key of a thread that its pages have opened."""
    claimed = {change.page for change in history.changes if change.claims}
    opened = {(_thread_key(page.key, page.episode), page.target) for page in history.pages if page.id in claimed}
    for told in history.told:
        if told.target in history.settings.threads and (told.dedup_key, told.target) not in opened:
            yield Violation("I9", told.dedup_key[:12], None, f"{told.target} got a notice of a thread without a page")


def delayed(history: History) -> Iterator[Violation]:
    """I9: no worker claims a notice while a page to its target has been waiting."""
    first_claims: dict[int, float] = {}
    for change in history.changes:
        if change.claims:
            first_claims[change.page] = min(change.at, first_claims.get(change.page, change.at))
    targets: Mapping[int, str] = {notice.id: notice.target for notice in history.notices or ()}
    for claim in history.notice_claims:
        if any(fault.may_interrupt(claim.worker, claim.at - MAX_WAIT, claim.at) for fault in history.faults):
            continue
        for page in history.pages:
            waited = claim.at - (page.created_at or claim.at)
            claimed = first_claims.get(page.id)
            if page.target == targets.get(claim.notice) and waited > MAX_WAIT and claimed is not None:
                late = claimed - claim.at
                if late > CLOCK_TOLERANCE:
                    why = f"page {page.id} to {page.target} had waited for {waited:.2f} s when a notice was claimed"
                    yield Violation("I9", page.key, page.level, why)


def _ended(history: History) -> dict[str, float]:
    """Return when each incident ended whose last write resolved it."""
    last: dict[str, tuple[float, str]] = {}
    for write in sorted(history.writes, key=lambda write: write.ended):
        if write.verb in ("open", "resolve"):
            last[write.key] = write.ended, write.verb
        elif write.verb == "change_key":
            last.pop(write.key, None)
            last.pop(write.new_key or "", None)
    return {key: at for key, (at, verb) in last.items() if verb == "resolve"}


def _expected_key(notice: FinalNotice) -> str:
    at = datetime.fromtimestamp(notice.at_micros / 1_000_000, UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(f"\0{notice.kind}|{notice.episode}|{at}|{notice.key}".encode()).hexdigest()


def _thread_key(key: str, episode: int) -> str:
    text = f"{key}|0" if episode == 1 else f"\0{episode}|0|{key}"
    return hashlib.sha256(text.encode()).hexdigest()


def _place(notice: FinalNotice) -> _Place:
    return notice.key, notice.episode, notice.target


def _violation(notice: FinalNotice, why: str) -> Violation:
    return Violation("I9", notice.key, notice.level, f"episode {notice.episode}: {why}")
