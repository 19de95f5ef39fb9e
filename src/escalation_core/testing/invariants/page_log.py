"""The log of page changes that a recorded store keeps."""

from collections.abc import Callable, Mapping

import attrs

from ...model import PageRecord, PageState
from .history import PageChange

Pages = Mapping[int, PageRecord]
UNKNOWN_WRITER = "unknown"
"""The worker of a change that a trigger or a host made, and no recorded transaction."""
_CANCELS = (PageState.CANCELLED, PageState.CANCELLING)


@attrs.frozen(eq=False)
class Attempt:
    """A transaction of a worker that reached its commit, with the pages before and after it."""

    worker: str
    began: float
    at: float
    before: Pages
    after: Pages

    def made(self, page: PageRecord) -> bool:
        """Return whether the transaction wrote this state of a page; it may also have found the page like that."""
        return self.after.get(page.id) == page != self.before.get(page.id)


@attrs.define
class PageLog:
    """Derives the changes of pages from transactions, even if their commits become known in another order."""

    clock: Callable[[], float]
    changes: list[PageChange] = attrs.field(factory=list)
    written: dict[tuple[str, int, int], float] = attrs.field(factory=dict)
    """When the first page of each (key, episode, level) was written."""
    _known: dict[int, PageRecord] = attrs.field(factory=dict)
    _attempts: list[Attempt] = attrs.field(factory=list)
    _looked: float = 0.0

    def attempt(self, attempt: Attempt) -> None:
        """Note a transaction before its commit. Keep it, because the result of the commit may stay unknown."""
        self._attempts.append(attempt)

    def commit(self, attempt: Attempt) -> None:
        """Note the changes of a committed transaction."""
        self.see(attempt.before)
        for page in attempt.after.values():
            if page != attempt.before.get(page.id):
                self._note(page, attempt)
        self._attempts.remove(attempt)
        self._looked = attempt.at

    def see(self, pages: Pages) -> None:
        """Note the pages that a transaction found. A change belongs to the attempt that made it, if there is one."""
        for page in pages.values():
            made = next((each for each in self._attempts if each.made(page)), None)
            self._note(page, made or Attempt(UNKNOWN_WRITER, self._looked, self.clock(), pages, pages))

    def _note(self, page: PageRecord, by: Attempt) -> None:
        was = self._known.get(page.id)
        if was is None:
            self.written.setdefault((page.incident_key, page.episode, page.level), by.at)
        elif page == was or page.fence < was.fence:
            return
        elif page.fence == was.fence and was.state in _CANCELS and page.state not in _CANCELS:
            return  # the transaction read the page before another transaction cancelled it
        else:
            self.changes.append(_change(was, page, by))
        self._known[page.id] = page


def _change(was: PageRecord, page: PageRecord, by: Attempt) -> PageChange:
    return PageChange(
        page=page.id,
        was=was.state.value,
        state=page.state.value,
        due_was=was.due_at.timestamp(),
        due=page.due_at.timestamp(),
        fence_was=was.fence,
        fence=page.fence,
        began=by.began,
        at=by.at,
        worker=by.worker,
        reason=page.reason,
    )
