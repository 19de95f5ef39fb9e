"""Delivery: claim pages, send them, and settle them. It sends many pages at once and claims no more than can start."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from ..errors import StoreError
from ..model import Incident, Outcome, Page, PageRecord, PageState
from ..ports import Notifier, Store, Transaction
from ..rules.retry import cancel, cancel_reason, lease, mark_dead
from ..settings import Settings
from .access import gate_at
from .attempt import Attempt
from .report import DeliveryCount, DeliveryReport
from .settle import Finished, settle
from .tasks import BackgroundTask, TaskGroup, monotonic, rest

if TYPE_CHECKING:
    from .telemetry import Telemetry

log = logging.getLogger("escalation_core")

LINGER = timedelta(milliseconds=20)
"""How long a finished page waits at most for other pages, so that one transaction settles several."""
SETTLE_AGAIN = timedelta(seconds=1)
"""How long to wait before the next try to settle a page whose row an open transaction of a host locked."""
SETTLE_TRIES = 5
"""How often a delivery pass tries to settle such pages, LINGER apart. After that the next pass tries."""


@attrs.frozen(kw_only=True)
class Exchange:
    """The result of one delivery transaction."""

    settled: Sequence[PageRecord] = ()
    """Pages whose attempt had ended, in their new state."""
    leased: Sequence[tuple[PageRecord, Incident]] = ()
    """Claimed pages to send."""
    ended: Sequence[PageRecord] = ()
    """Claimed pages that must not be sent: they are cancelled or dead now."""
    locked: Sequence[Finished] = ()
    """Pages whose attempt had ended and that are not settled yet, because other transactions lock their rows."""
    at: datetime | None = None


@attrs.define
class Delivery:
    """Sends pages. An attempt may outlive the call that started it; the next call then settles its page."""

    store: Store
    settings: Settings
    notifiers: Mapping[str, Notifier]
    """The notifier of each target."""
    telemetry: "Telemetry"
    tasks: TaskGroup = attrs.field(factory=TaskGroup)
    _in_flight: Counter[str] = attrs.field(factory=Counter)
    _finishing: BackgroundTask = attrs.field(factory=BackgroundTask)
    _finished: list[Finished] = attrs.field(factory=list)
    _count: DeliveryCount = attrs.field(factory=DeliveryCount)

    @property
    def busy(self) -> bool:
        """Whether a page is being sent, or its attempt has ended and it is not settled yet."""
        return self.tasks.busy or self.owes

    @property
    def owes(self) -> bool:
        """Whether there is a page whose attempt has ended and that is not settled yet."""
        return bool(self._finished)

    async def deliver(self, longest: timedelta) -> DeliveryReport:
        """Make one pass over the pages that are due now, claiming for at most ``longest``; return what the pass did.

        The pass tries each page at most once: a page to be retried is due later than the pass began. If the caller
        cancels the pass, or the store fails, the running attempts continue, and a background task settles their pages.
        """
        try:
            return await self._pass(longest)
        except BaseException:
            self._finish_alone()
            raise

    async def _pass(self, longest: timedelta) -> DeliveryReport:
        began, until, tries = monotonic(), None, 0
        if not self.busy and not await self._any_due():
            return self.take_report()
        while True:
            started = await self.start_due(until, claim=monotonic() - began < longest.total_seconds())
            until = until or started.at
            if started.settled:
                tries = 0
            if started.leased or started.ended:
                continue
            if self.tasks.busy:
                await self.wait()
            elif self.owes and tries < SETTLE_TRIES:
                # An attempt ended just now and freed capacity, or another transaction locks the row of its page.
                tries += 1
                await self.tasks.wait(LINGER)
            else:
                return self.take_report()

    async def start_due(self, until: datetime | None = None, *, claim: bool = True) -> Exchange:
        """Settle finished pages and claim as many as can start at once, in one transaction; start the attempts.

        It claims only pages that were due at ``until``; None means now. Without ``claim`` it only settles. If the
        caller is cancelled meanwhile, the work continues, and the claimed pages are sent.
        """
        return await self.tasks.outlive(self._start_due(until, claim=claim))

    async def _start_due(self, until: datetime | None, *, claim: bool) -> Exchange:
        deadline = monotonic() + self.settings.retry.lease.total_seconds()
        done = await self._exchange(self.capacity() if claim and not self.settings.dry_run else {}, until)
        for record, incident in done.leased:
            self._in_flight[record.target] += 1
            self.tasks.start(self._attempt(record, incident, deadline))
        return done

    def capacity(self) -> dict[str, int]:
        """Return how many more pages may be claimed now, for each target that is not full.

        It is at most half of the target's limit: while one half is settled and claimed, the other half is being sent.
        """
        most = self.settings.retry.per_target
        free = {target: most - self._in_flight[target] for target in self.notifiers}
        return {target: min(count, (most + 1) // 2) for target, count in free.items() if count > 0}

    async def wait(self, longest: timedelta | None = None) -> None:
        """Wait until an attempt ends or a tick wakes it, at most for ``longest``; then up to 20 ms more.

        One transaction can then settle several pages. A transaction for each page would cost as much as sending it.
        """
        await self.tasks.wait(longest)
        if self.tasks.busy and not self._half_free():
            await self.tasks.wait(LINGER, enough=self._half_free)

    def _half_free(self) -> bool:
        return any(0 < 2 * count <= self.settings.retry.per_target for count in self._in_flight.values())

    async def settle(self) -> None:
        """Settle finished pages. If the store is down, the pages are kept for the next call."""
        await self.tasks.outlive(self._exchange({}, None))

    def take_report(self) -> DeliveryReport:
        """Return the counts since the last report."""
        count, self._count = self._count, DeliveryCount()
        return count.report()

    async def finish(self) -> None:
        """Wait for the running attempts to end, and settle their pages.

        If the store is out of reach, or other transactions lock the rows, it retries for as long as one send may take.
        """
        self._finish_alone()
        await self._finishing.wait()

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
            "%d pages that were sent could not be settled (%s); they will be sent again", len(self._finished), why
        )

    async def _any_due(self) -> bool:
        targets = tuple(self.capacity())
        if not targets or self.settings.dry_run:
            return False
        seen = await self.store.next_due(canary=None, targets=targets)
        return seen.page_due_at is not None and seen.page_due_at <= seen.at

    async def _exchange(self, capacity: Mapping[str, int], until: datetime | None) -> Exchange:
        """Settle finished pages and claim pages up to ``capacity``, in one transaction."""
        finished, self._finished = self._finished, []
        if not finished and not capacity:
            return Exchange()
        try:
            done = await self.store.transact(lambda tx: self._settle_and_claim(tx, finished, capacity, until))
        except BaseException:
            self._finished = finished + self._finished
            raise
        self._finished = [*done.locked, *self._finished]
        self._count.stale += len(finished) - len(done.settled) - len(done.locked)
        for record in (*done.settled, *done.ended):
            self._settled(record)
        return done

    async def _settle_and_claim(
        self,
        tx: Transaction,
        finished: Sequence[Finished],
        capacity: Mapping[str, int],
        until: datetime | None,
    ) -> Exchange:
        now = await tx.now()
        settled, locked = await settle(tx, finished, self.settings.retry, now)
        if not capacity or not (await gate_at(tx, self.settings.switches, now)).may_escalate:
            return Exchange(settled=settled, locked=locked, at=now)
        leased: list[tuple[PageRecord, Incident]] = []
        ended: list[PageRecord] = []
        # If the clock stepped back within this pass, ``until`` lies in the future: claim only pages that are due now.
        for found in await tx.outbox.claim(capacity, now=now, until=min(until or now, now)):
            if found.fault is not None:
                ended.append(mark_dead(found.page, f"unrenderable: {found.fault}", now))
            elif (why := cancel_reason(found.page, found.incident)) is not None or found.incident is None:
                ended.append(cancel(found.page, why or "deleted", now))
            else:
                leased.append((lease(found.page, self.settings.retry, now), found.incident))
        if leased or ended:
            await tx.outbox.write([*(record for record, _ in leased), *ended])
        return Exchange(settled=settled, locked=locked, leased=leased, ended=ended, at=now)

    async def _attempt(self, record: PageRecord, incident: Incident, deadline: float) -> None:
        """Send one page, unless its lease would end during the attempt: then another sender could claim the page."""
        try:
            if deadline - monotonic() < self.settings.retry.send_timeout.total_seconds():
                self._count.stale += 1
                return
            outcome = await self._send(record, incident)
            self._finished.append((record, outcome))
        finally:
            self._in_flight[record.target] -= 1

    async def _send(self, record: PageRecord, incident: Incident) -> Outcome:
        notifier = self.notifiers[record.target]
        page = Page(
            incident=incident,
            episode=record.episode,
            level=record.level,
            target=record.target,
            dedup_key=record.dedup_key,
            attempt=record.attempts + 1,
        )
        self._count.sent += 1
        began = monotonic()
        with self.telemetry.sending(notifier.channel, page) as span:
            attempt = Attempt(notifier, page)

            def still_sending() -> None:
                # Most notifiers end at once when they are cancelled. A send that continues still counts for the limit
                # of its target, so that few of them can run at the same time.
                self._in_flight[page.target] += 1
                attempt.gone = lambda: self._in_flight.subtract([page.target])

            attempt.overran = still_sending
            outcome = await attempt.within(self.settings.retry.send_timeout)
            self.telemetry.sent(span, notifier.channel, outcome, monotonic() - began)
        return outcome

    def _settled(self, record: PageRecord) -> None:
        self._count.outcomes[record.state] += 1
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
