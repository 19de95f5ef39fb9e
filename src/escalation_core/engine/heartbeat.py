"""The work after a tick: write its heartbeat, advance a recalculation, count, and find rows that no trigger saw."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import attrs

from ..errors import StoreUnavailable
from ..model import NEEDS_REPLAN, By, Candidate, LastAttempts, RecalcState, WalkStats
from ..ports import Store, Transaction, notices_of, walks_of
from ..rules.plan import ALTERED, MAX_DEFERRAL, defer
from ..rules.policies import Policies
from ..settings import Settings
from ..version import VERSION
from . import recalc as _recalc
from .access import gate_at
from .deliver import Delivery
from .health import CLOCK_TOLERANCE, Observed, clock_step
from .last_attempts import record
from .refused_rows import defer_or_pass_over, write_apart
from .report import TickReport
from .targets_health import LATELY, targets_health
from .tasks import clock, monotonic
from .versions import Versions

log = logging.getLogger("escalation_core")

RECALC_SHARE = timedelta(seconds=1)
"""How long a recalculation may delay the next tick."""
COUNT_DUTY_FACTOR = 10
"""After a count that took t seconds, wait this many times t before the next one, and keep reporting the last. A count
over very many due rows takes seconds. It delays the next tick, but not the heartbeat of its own tick."""
UNSEEN_BATCH = 1000
"""Open rows without next_due_at that one transaction of the search reads."""
UNSEEN_SHARE = timedelta(milliseconds=250)
"""How long the search after one tick may take. After the next tick it continues where it stopped."""
UNSEEN_LONG = timedelta(seconds=1)
"""After a search through all rows that took longer, wait ten times as long: very many are exhausted or passed over."""
STATS_MAX_AGE = 3
"""After this many tick intervals metrics no longer report the last counts: this engine has stopped counting."""


@attrs.define
class HeartbeatKeeper:
    """Does the work after each tick of one engine, outside of the tick's transactions, and keeps its results."""

    store: Store
    settings: Settings
    versions: Versions
    worker: str
    delivery: Delivery
    """What this engine delivers with: its targets, and the last attempts to them."""
    reload_requested_at: datetime | None = None
    """When an operator last asked for a reload of the policies file, as of the last heartbeat."""
    _digest: str | None = None
    """The digest of the policies file that this worker last recorded; empty without a file. None before the first."""
    _ticked: tuple[Callable[[], float], float] | None = None
    _last_beat: datetime | None = None
    _observed: tuple[Callable[[], float], float, Observed] | None = None
    _recalculating: bool = False
    _rests_until: float = 0.0
    _unseen_after: str | None = None
    """The key after which the search for unseen rows continues."""
    _looked_for: float = 0.0
    """Seconds that the search has taken since it began at the first row."""
    _looks_again_at: float = 0.0

    @property
    def first(self) -> bool:
        """Whether this engine has not completed a tick yet."""
        return self._ticked is None

    def lag(self) -> float | None:
        """Return the seconds since the last completed tick; None before the first."""
        return None if self._ticked is None else self._ticked[0]() - self._ticked[1]

    def observed(self) -> Observed | None:
        """Return the last counts of the store; None before the first count, and if the last one is too old."""
        if self._observed is None:
            return None
        time, at, seen = self._observed
        interval = self.settings.tick_interval.total_seconds()
        return seen if time() <= max(at + STATS_MAX_AGE * interval, self._rests_until + interval) else None

    def tick(self) -> None:
        """Record that a tick is complete, for ``lag``."""
        self._ticked = (clock(), monotonic())

    async def after(self, report: TickReport) -> bool:
        """Write the heartbeat, unless the last one is recent, and advance a requested recalculation.

        Return whether it wrote the heartbeat.
        """
        now, pending = report.at, self._recalculating
        # After the clock stepped back, the last heartbeat lies in the future: write a new one.
        beats = now is not None and (
            self._last_beat is None or not timedelta() <= now - self._last_beat < self.settings.tick_interval / 4
        )
        if beats:
            policies, ended = self.versions.policies, self.delivery.attempts.unwritten()
            pending = await self.store.transact(lambda tx: self._beat(tx, report, policies, ended))
            self._last_beat = now
            if not report.dry_run:
                self._told_file(policies)
                self.delivery.attempts.written(ended)
        began, again = monotonic(), False
        while pending and not again and not report.dry_run and monotonic() - began < RECALC_SHARE.total_seconds():
            try:
                state = await _recalc.advance(self.store, self.versions)
            except StoreUnavailable as error:
                # Another transaction locks a row for long. The batches that were committed stay, and the next tick
                # continues from the cursor.
                log.warning("the recalculation continues after the next tick: %s", error)
                self._recalculating = True
                return beats
            pending = state.requested_at is not None
            # It has reached the end and left out rows that were locked. It visits those after the next tick.
            again = pending and state.cursor is None
        self._recalculating = pending and not report.dry_run
        report.recalculating = self._recalculating and not again
        return beats

    async def count(self, tx: Transaction, now: datetime, *, detail: bool = False, walks: bool = True) -> Observed:
        """Return the store's counts, and keep them for metrics. ``walks`` includes those about policies."""
        settings = self.settings
        stats = await tx.journal.stats(now=now, canary=settings.canary, detail=detail)
        held_before = (await tx.journal.recalc(lock=False)).held_before
        unseen = await tx.incidents.unseen(self._unseen_after, limit=UNSEEN_BATCH, held_before=held_before, lock=False)
        stats = attrs.evolve(stats, unseen=len(unseen.keys))
        # While a pause or a switch stops escalation, metrics report no incident as overdue.
        late = stats.oldest_due is not None and (await gate_at(tx, settings.switches, now)).may_escalate
        overdue = now - stats.oldest_due if late and stats.oldest_due else timedelta()
        port = walks_of(tx) if walks else None
        targets = targets_health(
            await tx.journal.targets(),
            served=self.delivery.notifiers,
            unwritten=self.delivery.attempts.unwritten(),
            shares=self.delivery.shares,
            now=now,
        )
        walk_stats = WalkStats() if port is None else await port.stats(now)
        notices = notices_of(tx)
        told = {} if notices is None else await notices.counts(since=now - LATELY)
        observed = Observed(stats, overdue, walk_stats, now, targets, told)
        self._observed = (clock(), monotonic(), observed)
        return observed

    async def take_counts(self) -> None:
        """Take the counts, unless the wait after the last count is not over (``COUNT_DUTY_FACTOR``)."""
        began = monotonic()
        if began < self._rests_until:
            return
        try:
            await self.store.transact(self._counted)
        except StoreUnavailable as error:
            log.warning("the counts for metrics could not be taken: %s", error)
            self._observed = None
        self._rests_until = monotonic() + COUNT_DUTY_FACTOR * (monotonic() - began)

    async def find_unseen(self) -> None:
        """Find open rows that were written while the host's triggers were off, and let the next tick replan them.

        The search continues where the last one stopped. After a slow search through all rows it waits: ``UNSEEN_LONG``.
        """
        began = monotonic()
        if began < self._looks_again_at:
            return
        while monotonic() - began < UNSEEN_SHARE.total_seconds():
            try:
                await self.store.transact(self._mark_unseen)
            except StoreUnavailable as error:
                log.warning("the search for rows that no trigger saw failed: %s", error)
                return
            if self._unseen_after is None:
                took, self._looked_for = self._looked_for + monotonic() - began, 0.0
                if took > UNSEEN_LONG.total_seconds():
                    self._looks_again_at = monotonic() + COUNT_DUTY_FACTOR * took
                return
        self._looked_for += monotonic() - began

    async def _counted(self, tx: Transaction) -> None:
        # Without a policies file a heartbeat costs no query for policies.
        await self.count(tx, await tx.now(), walks=self.versions.concerned)

    async def _mark_unseen(self, tx: Transaction) -> None:
        now, held_before = await tx.now(), (await tx.journal.recalc(lock=False)).held_before
        found = await tx.incidents.unseen(self._unseen_after, limit=UNSEEN_BATCH, held_before=held_before)
        _, refused = await write_apart(tx, found.keys, tx.incidents.mark_unseen)
        rows = [defer(Candidate(incident_key=key, incident=None), fault, now) for key, fault in refused]
        marked = await tx.incidents.dues([key for key in found.keys if key not in dict(refused)]) if found.keys else {}
        altered = [
            defer(Candidate(incident_key=key, incident=None), ALTERED, now)
            for key, due in marked.items()
            if due != NEEDS_REPLAN
        ]
        await defer_or_pass_over(tx, rows, now, altered)
        self._unseen_after = found.last
        if found.keys:
            log.warning(
                "%d open rows were written while the triggers were off, first %r; the next tick plans %d of them",
                len(found.keys),
                found.keys[0],
                len(found.keys) - len(refused) - len(altered),
            )

    async def _beat(
        self, tx: Transaction, report: TickReport, policies: Policies | None, ended: Mapping[str, LastAttempts]
    ) -> bool:
        now = await tx.now()
        last = (await tx.journal.last_heartbeat(now)).last
        stepped = bool(clock_step(max(filter(None, (last, report.at)), default=now), now))
        if stepped and report.dry_run:
            log.warning("the store's clock stepped back; a dry run corrects nothing, but the next other tick does")
            return False
        # Lock first: if several workers notice a step at once, one corrects it, and the others find it corrected.
        state = await tx.journal.recalc(lock=stepped)
        # The tick is complete only now, even if the tick and this transaction began long ago.
        now, latest = await tx.journal.record_heartbeat(self.worker, VERSION, tolerance=CLOCK_TOLERANCE)
        # The clock may have stepped back during this tick.
        latest = max(filter(None, (latest, report.at)), default=now)
        step = clock_step(latest, now)
        if step:
            state = await self._mend(tx, state, latest, now)
        if state.fingerprint is None and state.requested_at is None:
            # No recalculation has run yet. Save this engine's policy, so that health can compare later settings to it.
            state = await tx.journal.recalc()
            if state.fingerprint is None and state.requested_at is None:
                await tx.journal.save_recalc(attrs.evolve(state, fingerprint=self.versions.fingerprint()))
        await self.versions.forget_lost(tx)
        state = await self._tell_file(tx, state, _digest_of(policies), dry_run=report.dry_run)
        if not report.dry_run:
            retry = self.settings.retry
            pages = await tx.outbox.bring_forward(
                # The worker that notices a step corrects the pages of all targets: no other worker notices it later.
                None if step else tuple(self.delivery.notifiers),
                now=now,
                step=step,
                beyond=now + retry.furthest,
                lease_ends=now + retry.lease,
            )
            if pages:
                log.warning("%d pages were due too far in the future; they are due earlier now", pages)
            await record(tx, ended, now=now, step=step)
        return state.requested_at is not None

    async def _tell_file(self, tx: Transaction, state: RecalcState, digest: str, *, dry_run: bool) -> RecalcState:
        """Record which policies file this worker runs. If it is another one than before, request a recalculation.

        A dry run leaves the request to the next tick that is not a dry run.
        """
        walks = walks_of(tx)
        if walks is None or (not digest and self._digest == ""):
            # The first heartbeat also tells of no file: a worker of the same name may have had one.
            return state
        self.reload_requested_at = await walks.record_digest(self.worker, digest)
        if dry_run or state.fingerprint is None or digest in state.fingerprint:
            return state
        # A worker with another file may have finished the recalculation that this file asked for. When all workers run
        # this file, it is asked for again.
        again = state.requested_at is None and set((await walks.stats(await tx.now())).worker_digests) == {digest}
        if digest != self._digest or again:
            return await _recalc.request(tx, By(reason="the policies file changed"))
        return state

    def _told_file(self, policies: Policies | None) -> None:
        """Keep what the heartbeat recorded, after its commit: a heartbeat that failed requested no recalculation."""
        digest = _digest_of(policies)
        if digest != self._digest and policies is not None:
            # Here, and not where the file is loaded: a command that answers an incident need not repeat them.
            for warning in policies.warnings:
                log.warning("policies: %s", warning)
        self._digest = digest

    async def _mend(self, tx: Transaction, state: RecalcState, latest: datetime, now: datetime) -> RecalcState:
        """Correct pauses and rows that were written while the clock was ahead. ``_beat`` corrects the pages."""
        step = latest - now
        log.warning(
            "the store's clock stepped back by %.0f s or more: recalculating due instants", step.total_seconds()
        )
        await tx.operations.shift_pauses(now, step)
        if (notices := notices_of(tx)) is not None:
            await notices.shift(now, step)
        await tx.incidents.end_passing(now + MAX_DEFERRAL)
        return await _recalc.mend(tx, state, now, latest + self.settings.tick_interval)


def _digest_of(policies: Policies | None) -> str:
    return "" if policies is None else policies.digest
