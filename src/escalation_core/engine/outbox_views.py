"""The views of the outboxes: pages and notices, by target, state and bundle."""

from collections.abc import Sequence

from ..checks import check_count, check_optional_text
from ..errors import InvalidValue
from ..model import UNSETTLED, NoticeRecord, NoticeState, PageRecord, PageState
from ..ports import Transaction, notices_of
from ..rules.bundle import MAX_BUNDLE, bundle_order, check_bundle
from .access import StoreAccess

MAX_ENTRIES = 1_000_000
"""How many entries one call returns at most."""
PAGES = 50
"""How many pages a list of pages has unless a limit is given; that of a bundle has the whole bundle."""


def usual_limit(bundle: str | None) -> int:
    """Return how many pages a list has at most unless a limit is given."""
    return PAGES if bundle is None else MAX_BUNDLE


class OutboxViews(StoreAccess):
    """The views of pages and notices. Each reads one snapshot of the store and changes nothing."""

    async def dead(self, *, limit: int = 1000) -> Sequence[PageRecord]:
        """Return dead pages, oldest first."""
        check_count(limit, "limit", 1, MAX_ENTRIES)
        return await self._read(lambda tx: tx.outbox.pages(limit=limit, state=PageState.DEAD))

    async def pages(
        self,
        *,
        target: str | None = None,
        state: str | None = None,
        bundle: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Sequence[PageRecord]:
        """Return the pages in a state, oldest first; without one, those that wait: pending, leased or cancelling.

        ``target`` leaves out pages to other targets. With the key of a ``bundle``, or its first 8 digits or more,
        return the pages of this bundle, worst first, whatever their state is unless one is given. To read further
        pages, give the last one's id as ``after``. The limit is 50 by default, and 1,000 for a bundle.

        Raises:
            InvalidValue: an argument is not valid, for example the limit is not between 1 and 1,000,000, or several
                bundles have keys that begin so.
        """
        most = check_count(usual_limit(bundle) if limit is None else limit, "limit", 1, MAX_ENTRIES)
        check_count(after, "after", 0)
        check_optional_text(target, "target")
        if state is not None and state not in list(PageState):
            raise InvalidValue("state", f"{state!r} is not a state of a page", f"give one of {', '.join(PageState)}")
        if bundle is not None:
            prefix = check_bundle(bundle)
            found = await self._read(lambda tx: _read_bundle(tx, prefix, after))
            return [page for page in found if state in (None, page.state) and target in (None, page.target)][:most]
        wanted = UNSETTLED if state is None else (PageState(state),)

        async def work(tx: Transaction) -> Sequence[PageRecord]:
            found = [
                page
                for one in wanted
                for page in await tx.outbox.pages(after=after, limit=most, state=one, target=target)
            ]
            return sorted(found, key=lambda page: page.id)[:most]

        return await self._read(work)

    async def notices(
        self,
        *,
        target: str | None = None,
        state: str | None = None,
        bundle: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Sequence[NoticeRecord]:
        """Return the notices in a state, oldest first; without one, those of every state.

        ``target`` leaves out notices to other targets, and ``bundle`` those whose last message had another key, of
        which the first 8 digits will do. To read further ones, give the last one's id as ``after``. The limit is 50 by
        default, and 1,000 for a bundle.

        Raises:
            InvalidValue: an argument is not valid, for example the limit is not between 1 and 1,000,000.
        """
        most = check_count(usual_limit(bundle) if limit is None else limit, "limit", 1, MAX_ENTRIES)
        check_count(after, "after", 0)
        check_optional_text(target, "target")
        if state is not None and state not in list(NoticeState):
            known = ", ".join(NoticeState)
            raise InvalidValue("state", f"{state!r} is not a state of a notice", f"give one of {known}")
        wanted, prefix = None if state is None else NoticeState(state), None if bundle is None else check_bundle(bundle)

        async def work(tx: Transaction) -> Sequence[NoticeRecord]:
            port = notices_of(tx)
            if port is None:
                return ()
            return await port.notices(after=after, limit=most, state=wanted, target=target, bundle=prefix)

        return await self._read(work)


async def _read_bundle(tx: Transaction, prefix: str, after: int) -> Sequence[PageRecord]:
    """Return the pages of the one bundle whose key begins so, worst first, behind the page with the id ``after``."""
    found = sorted(await tx.outbox.pages_of_bundle(prefix), key=bundle_order)
    if (count := len({page.bundle for page in found})) > 1:
        raise InvalidValue("bundle", f"{prefix!r} begins the keys of {count} bundles", "give more of the key")
    if not after:
        return found
    ids = [page.id for page in found]
    if after not in ids:
        raise InvalidValue(
            "after", f"{after} is not the id of a page of this bundle", "give that of the last page read"
        )
    return found[ids.index(after) + 1 :]
