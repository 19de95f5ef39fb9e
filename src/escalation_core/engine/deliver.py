"""Delivery: claim pages, send them, and settle them. It sends many pages at once and claims no more than can start."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from ..errors import StoreError
from ..model import NoticeRecord, Outcome, PageRecord, PageState
from ..ports import Notifier, Store, Transaction
from ..rules.abilities import abilities_of, budgets_of
from ..rules.notices import LOST_NOTICE, Wanted
from ..rules.unheard import GIVEN_UP
from ..settings import Settings
from .exchange import Exchange, Exchanger
from .last_attempts import AttemptLog
from .messages import Send
from .notices import FinishedNotice
from .report import DeliveryCount, DeliveryReport
from .senders import Senders, is_notice
from .settle import Finished
from .shares import Shares
from .tasks import BackgroundTask, TaskGroup, monotonic, rest
from .unheard import UnheardSearch
from .versions import Versions

if TYPE_CHECKING:
    from .telemetry import Telemetry

log = logging.getLogger("escalation_core")

MAX_TELLING_TIME = timedelta(seconds=5)
"""How long a delivery pass claims notices at most. A host's tick waits for the pass, and escalations for the tick."""
LINGER = timedelta(milliseconds=20)
"""How long a finished page waits at most for other pages, so that one transaction settles several."""
SETTLE_AGAIN = timedelta(seconds=1)
"""How long to wait before the next try to settle a page whose row an open transaction of a host locked."""
SETTLE_TRIES = 5
"""How often a delivery pass tries to settle such pages, LINGER apart. After that the next pass tries."""


@attrs.define
class Delivery:
    """Sends pages. An attempt may outlive the call that started it; the next call then settles its page."""

    store: Store
    settings: Settings
    notifiers: Mapping[str, Notifier]
    """The notifier of each target."""
    telemetry: "Telemetry"
    versions: Versions
    tasks: TaskGroup = attrs.field(factory=TaskGroup)
    senders: Senders = attrs.field(init=False)
    shares: Shares = attrs.field(init=False)
    wanted: Wanted = attrs.field(init=False)
    _finishing: BackgroundTask = attrs.field(factory=BackgroundTask)
    _finished: list[Finished] = attrs.field(factory=list)
    _told: list[FinishedNotice] = attrs.field(factory=list)
    _count: DeliveryCount = attrs.field(factory=DeliveryCount)
    unheard: UnheardSearch = attrs.field(init=False)
    attempts: AttemptLog = attrs.field(factory=AttemptLog)

    def __attrs_post_init__(self) -> None:
        """Find what each target can get, by the abilities of its notifier."""
        self.unheard = UnheardSearch(self.store)
        self.senders = Senders(self.notifiers, self.settings.retry, self.telemetry)
        abilities = {name: abilities_of(notifier) for name, notifier in self.notifiers.items()}
        self.shares = Shares(
            budgets=budgets_of(abilities, self.settings.budgets),
            bundling={name for name, found in abilities.items() if found.bundles},
            bundle_after=self.settings.bundle_after,
            fallbacks=self.settings.fallback,
            capacity=self.senders.capacity,
            notice_capacity=self.senders.notice_capacity,
        )
        self.wanted = Wanted(abilities=abilities, given=self.settings.notices, routes=self.settings.routes)

    @property
    def busy(self) -> bool:
        """Whether a page is being sent, or its attempt has ended and it is not settled yet."""
        return self.tasks.busy or self.owes

    @property
    def owes(self) -> bool:
        """Whether there is a page or a notice whose attempt has ended and that is not settled yet."""
        return bool(self._finished or self._told)

    async def deliver(self, longest: timedelta) -> DeliveryReport:
        """Make one pass over the pages that are due now, claiming for at most ``longest``; return what the pass did.

        The pass tries each page at most once: a page to be retried is due later than the pass began. If the caller
        cancels the pass, or the store fails, the running attempts continue, and a background task settles their pages.
        """
        try:
            await self._pass(longest)
            await self.unheard.find_if_due()
        except BaseException:
            self._finish_alone()
            raise
        return self.take_report()  # last, so that the next pass reports what an error leaves

    async def _pass(self, longest: timedelta) -> None:
        # A claim whose caller was cancelled may be in the store. Its pages are locked, and then in flight.
        began, until, tries, waited_at = monotonic(), None, 0, None
        await self.tasks.outlived(longest)
        if not self.busy and not await self._any_due():
            return
        while True:
            left = longest - timedelta(seconds=monotonic() - began)
            started = await self.start_due(until, claim=left > timedelta(), tell=longest - left < MAX_TELLING_TIME)
            until = until or started.at
            if started.settled:
                tries = 0
            if started.more:
                continue
            if self.tasks.busy:
                await self.wait()
            elif self.owes and tries < SETTLE_TRIES:
                # An attempt ended just now and freed capacity, or another transaction locks the row of its page.
                tries += 1
                await self.tasks.wait(LINGER)
            else:
                # Pages of a budget may have to wait for their slots, and a host that ticks by itself calls once.
                wait = await self._next_slot_in(until, left)
                if wait is None or started.at == waited_at:  # a clock that stands still brings no slot
                    return
                waited_at = started.at
                await self.tasks.wait(wait)

    async def start_due(self, until: datetime | None = None, *, claim: bool = True, tell: bool = True) -> Exchange:
        """Settle finished pages and claim as many as can start at once, in one transaction; start the attempts.

        It claims only pages that were due at ``until``; None means now. Without ``claim`` it only settles, and without
        ``tell`` it claims no notices. If the caller is cancelled meanwhile, the work continues, and the claimed pages
        are sent.
        """
        started = await self.tasks.outlive(self._start_due(until, claim=claim, tell=tell))
        await self.unheard.find_if_due()
        return started

    async def _start_due(self, until: datetime | None, *, claim: bool, tell: bool) -> Exchange:
        deadline = monotonic() + self.settings.retry.lease.total_seconds()
        claim = claim and not self.settings.dry_run and self.senders.has_capacity
        done = await self._exchange(until, claim=claim, tell=tell)
        for send in done.sends:
            self.senders.began(send)
            self.tasks.start(self._attempt(send, deadline))
        return done

    async def wait(self, longest: timedelta | None = None) -> None:
        """Wait until an attempt ends or a tick wakes it, at most for ``longest``; then up to 20 ms more.

        One transaction can then settle several pages. A transaction for each page would cost as much as sending it.
        """
        await self.tasks.wait(longest)
        if self.tasks.busy and not self.senders.half_free():
            await self.tasks.wait(LINGER, enough=self.senders.half_free)

    async def settle(self) -> None:
        """Settle finished pages. If the store is down, the pages are kept for the next call."""
        await self.tasks.outlive(self._exchange(None, claim=False))

    def take_report(self) -> DeliveryReport:
        """Return the counts since the last report."""
        count, self._count = self._count, DeliveryCount()
        return count.report()

    async def finish(self) -> None:
        """Wait for the running attempts to end, settle their pages, and write when the last attempts ended.

        If the store is out of reach, or other transactions lock the rows, it retries for as long as one send may take.
        """
        self._finish_alone()
        await self._finishing.wait()
        if not self.owes:
            await self.attempts.write(self.store)

    async def abandon(self) -> None:
        """Cancel the running attempts. Their pages may have arrived or not; they are sent again when the leases end."""
        await self.tasks.cancel()
        await self._finishing.end()

    def _finish_alone(self) -> None:
        """Start a background task that waits for the running attempts and settles their pages."""
        self._finishing.start(self._finish)

    async def _finish(self) -> None:
        await self.tasks.drained()
        until, why = (
            monotonic() + self.settings.retry.send_timeout.total_seconds(),
            "other transactions lock their rows",
        )
        while True:
            try:
                await self.settle()
            except StoreError as error:
                why = str(error)
            if not self.owes:
                return
            if monotonic() >= until:
                break
            await rest(SETTLE_AGAIN)
        log.warning(
            "%d pages and %d notices that were sent could not be settled (%s); they will be sent again",
            len(self._finished),
            len(self._told),
            why,
        )

    async def _any_due(self) -> bool:
        if self.settings.dry_run or not self.notifiers:
            return False
        seen = await self.store.next_due(canary=None, pages=True)
        at = self.shares.next_page_at(seen)
        return at is not None and at <= seen.at

    async def _next_slot_in(self, until: datetime | None, left: timedelta) -> timedelta | None:
        """Return how long to wait for the next slot of a page that is due; None if that is longer than is left."""
        if until is None or left <= timedelta():
            return None
        wait = self.shares.next_slot_in(await self.store.next_due(canary=None, pages=True), until)
        return None if wait is None or wait >= left else wait

    async def _exchange(self, until: datetime | None, *, claim: bool, tell: bool = False) -> Exchange:
        """Settle finished pages and claim pages, in one transaction."""
        finished, self._finished = self._finished, []
        notices, self._told = self._told, []
        if not finished and not notices and not claim:
            return Exchange()
        one = Exchanger(settings=self.settings, versions=self.versions, shares=self.shares, wanted=self.wanted)

        async def work(tx: Transaction) -> Exchange:
            return await one.exchange(tx, finished, notices, until, claim=claim, tell=tell)

        try:
            done = await self.store.transact(work)
        except BaseException:
            self._finished, self._told = finished + self._finished, notices + self._told
            raise
        self._finished = [*done.locked, *self._finished]
        self.attempts.add(finished, done.at)
        self._count.stale += len(finished) - len(done.settled) - len(done.locked)
        for record in (*done.settled, *done.ended):
            self._settled(record)
        for notice in (*done.told, *done.untold):
            self._count.notices[notice.state] += 1
            self.telemetry.told(notice)
            if notice.state in LOST_NOTICE:
                log.warning(
                    "notice %d is %s: %s of incident %r to %s: %s",
                    notice.id,
                    notice.state,
                    notice.kind,
                    notice.incident_key,
                    notice.target,
                    notice.reason,
                )
        return done

    async def _attempt(self, send: Send, deadline: float) -> None:
        """Send one message, unless its lease would end during the attempt: then others could claim its pages."""
        try:
            if deadline - monotonic() < self.settings.retry.send_timeout.total_seconds():
                self._count.stale += 0 if is_notice(send) else len(send.records)
                return
            outcome = await self._send(send)
            for record in send.records:
                if isinstance(record, NoticeRecord):
                    self._told.append((record, outcome))
                else:
                    self._finished.append((record, outcome))
        finally:
            self.senders.ended(send)

    async def _send(self, send: Send) -> Outcome:
        self._count.sent += 0 if is_notice(send) else len(send.records)
        return await self.senders.send(send)

    def _settled(self, record: PageRecord) -> None:
        self._count.outcomes[record.state] += 1
        if record.state in GIVEN_UP:
            self.unheard.due = True
        if record.state is PageState.DEAD:
            log.error(
                "page %d is dead: incident %r level %d to %s: %s",
                record.id,
                record.incident_key,
                record.level,
                record.target,
                record.reason,
            )
        self.telemetry.settled(record)
