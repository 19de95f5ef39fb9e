"""The messages about claimed pages: what each page carries, as it is when its worker claims it."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from ..model import Bundle, Incident, Notice, NoticeBundle, NoticeRecord, Page, PageRecord, PageState
from ..ports import Transaction
from ..rules.planner import Planner
from .sends import Leased
from .versions import Versions

log = logging.getLogger("escalation_core")

Episode = tuple[str, int]


@attrs.frozen
class Send:
    """One message that is sent to a target, and its leased rows of the outbox."""

    message: Page | Bundle | Notice | NoticeBundle
    records: Sequence[PageRecord | NoticeRecord]

    @property
    def target(self) -> str:
        """The target."""
        return self.message.target


@attrs.frozen(kw_only=True)
class Messages:
    """Makes the pages that notifiers send, with what one transaction knows about their incidents."""

    planner: Planner
    arrived: Mapping[Episode, Sequence[PageRecord]]
    """The delivered pages of each episode that rose beyond its first level."""
    now: datetime

    @classmethod
    async def read(cls, tx: Transaction, versions: Versions, packed: Sequence[Leased], now: datetime) -> "Messages":
        """Read what the messages about these pages need: versions of policies, and who was paged before."""
        pages = [one for each in packed for one in each]
        planner = await versions.planner(tx, (incident for _, incident in pages))
        later = sorted({(page.incident_key, page.episode) for page, _ in pages if page.level > 1})
        arrived: dict[Episode, list[PageRecord]] = {}
        for page in await tx.outbox.pages_of(later) if later else ():
            if page.state is PageState.DELIVERED:
                arrived.setdefault((page.incident_key, page.episode), []).append(page)
        return cls(planner=planner, arrived=arrived, now=now)

    def send(self, pages: Leased) -> Send:
        """Return the message about leased pages, worst first: one page, or the bundle that they form."""
        made, records = [self._page(record, incident) for record, incident in pages], [record for record, _ in pages]
        first = records[0]
        if first.bundle is None:
            return Send(made[0], records)
        bundle = Bundle(target=first.target, dedup_key=first.bundle, pages=made, attempt=first.attempts + 1)
        return Send(bundle, records)

    def _page(self, record: PageRecord, incident: Incident) -> Page:
        of_round, next_names = self._place(record, incident)
        return Page(
            incident=incident,
            episode=record.episode,
            level=record.level,
            target=record.target,
            dedup_key=record.dedup_key,
            at=self.now,
            attempt=record.attempts + 1,
            round=of_round,
            paged_before=self._paged_before(record) if record.level > 1 else (),
            next_names=next_names,
        )

    def _paged_before(self, record: PageRecord) -> Sequence[str]:
        earlier = [
            one for one in self.arrived.get((record.incident_key, record.episode), ()) if one.level < record.level
        ]
        earlier.sort(key=lambda one: (one.level, one.id))
        return tuple(dict.fromkeys(one.target for one in earlier))

    def _place(self, record: PageRecord, incident: Incident) -> tuple[int, Sequence[str]]:
        """Return the round of the page's level, and whom the level after it names."""
        try:
            policy = self.planner.settle(incident, self.now).policy
            step = policy.step(incident, record.level)
        except Exception as error:  # noqa: BLE001 - a page is sent, also if its place in the policy is unknown
            log.warning("incident %r: its place in its policy is unknown: %s", incident.incident_key, error)
            return 1, ()
        return step.round, policy.level(step.position + 1).to if step.position < step.total else ()
