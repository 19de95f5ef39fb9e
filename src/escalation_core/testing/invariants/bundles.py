"""The checks of bundles: which pages a message tells of, and I4 for the keys of bundles."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import attrs

from ...rules.retry import REFUSED
from .history import History, PageChange, Request, Violation
from .phases import CLOCK_TOLERANCE

MAX_BUNDLE = 1000
"""How many pages a bundle has at most."""


@attrs.frozen
class Message:
    """One claim of a bundle: the pages that its worker sends together."""

    bundle: str
    worker: str
    began: float
    pages: frozenset[int]


def messages(changes: Sequence[PageChange]) -> list[Message]:
    """Return the claims of bundles, oldest first."""
    found: dict[tuple[str, str, float], set[int]] = {}
    for change in changes:
        if change.claims and change.bundle is not None:
            found.setdefault((change.bundle, change.worker, change.began), set()).add(change.page)
    claims = [Message(*claim, frozenset(pages)) for claim, pages in found.items()]
    return sorted(claims, key=lambda message: message.began)


def bundled_requests(history: History) -> Mapping[int, list[Request]]:
    """Return the requests of bundles that told of each page, by the page's id."""
    claims = messages(history.changes)
    found: dict[int, list[Request]] = {}
    for request in history.requests:
        for page in _told_of(request, claims):
            found.setdefault(page, []).append(request)
    return found


def _told_of(request: Request, claims: Sequence[Message]) -> frozenset[int]:
    """Return the pages that a request of a bundle told of. ``claims`` are those of bundles, oldest first."""
    own = [
        message
        for message in claims
        if (message.bundle, message.worker) == (request.dedup_key, request.worker)
        and message.began <= request.at + CLOCK_TOLERANCE
    ]
    return own[-1].pages if own else frozenset()


def dropped(history: History) -> Iterator[Violation]:
    """I3: a receiver that drops each message whose key it has accepted before still gets each delivered page.

    It does not drop the next try of a bundle that it accepted in part.
    """
    claims = messages(history.changes)
    incidents = {page.id: page.key for page in history.pages}
    alone: dict[tuple[str, str], set[int]] = {}
    for page in history.pages:
        alone.setdefault((page.dedup_key, page.target), set()).add(page.id)
    accepted: set[tuple[str, str]] = set()
    arrived: set[int] = set()
    for request in sorted(history.requests, key=lambda request: request.at):
        name = request.dedup_key, request.target
        if name not in accepted:
            pages = alone.get(name) or _told_of(request, claims)
            arrived.update(page for page in pages if request.accepts(incidents[page]))
        if request.accepted:
            accepted.add(name)
    for page in history.pages:
        if page.state == "delivered" and page.id not in arrived:
            why = f"page {page.id} to {page.target}: a receiver that drops copies by key never accepted it"
            yield Violation("I3", page.key, page.level, f"episode {page.episode}, {why}")


def changed_bundles(history: History) -> Iterator[Violation]:
    """I4: a bundle has a key of its own, which stands for the pages of its first message, or for fewer of them."""
    targets = {page.id: page.target for page in history.pages}
    own_keys = {page.dedup_key for page in history.pages}
    first: dict[str, Message] = {}
    for message in messages(history.changes):
        begun = first.setdefault(message.bundle, message)
        more = message.pages - begun.pages
        name = f"bundle {message.bundle[:12]}"
        if more:
            yield Violation("I4", "bundle", None, f"{name} was tried again with {len(more)} other pages")
        if message.bundle in own_keys:
            yield Violation("I4", "bundle", None, f"{name} has the dedup key of an escalation")
        if len({targets.get(page) for page in message.pages}) > 1:
            yield Violation("I4", "bundle", None, f"{name} has pages to several targets")
        if len(message.pages) > MAX_BUNDLE:
            yield Violation("I4", "bundle", None, f"{name} has {len(message.pages)} pages")


def unhalved(history: History) -> Iterator[Violation]:
    """I4: the pages of a refused bundle go on in two halves under new keys; a half of one page goes alone."""
    claimed_in: dict[int, str | None] = {}
    refused: dict[tuple[str, str, float], list[str | None]] = {}
    for change in sorted(history.changes, key=lambda change: (change.page, change.fence, change.at)):
        if change.claims:
            claimed_in[change.page] = change.bundle
        elif change.was == "leased" and change.state == "pending" and (change.reason or "").startswith(REFUSED):
            bundle = claimed_in.get(change.page) or ""
            refused.setdefault((bundle, change.worker, change.began), []).append(change.bundle)
    for (bundle, _, _), keys in refused.items():
        sizes = Counter(key for key in keys if key is not None)
        alone = len(keys) - sizes.total()
        name = f"bundle {bundle[:12]}"
        if bundle in sizes:
            yield Violation("I4", "bundle", None, f"{name} was refused, and its pages kept the key")
        elif len(sizes) + alone > 2 or max(sizes.values(), default=1) > (len(keys) + 1) // 2:
            parts = sorted([*sizes.values(), *[1] * alone])
            yield Violation("I4", "bundle", None, f"{name} was refused, and its pages went on in {parts}")
