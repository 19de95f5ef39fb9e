"""The operators' verbs, which concern the engine as a whole. Every worker obeys a pause from its next tick."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs

from ..checks import check_instant, check_text
from ..errors import InvalidValue, StoreError
from ..model import By, Integrity, Pause
from ..ports import Notifier, Transaction
from ..rules.gate import pause_from
from ..rules.page_test import PageTest
from . import recalc
from .access import StoreAccess
from .page_test import send_test_page
from .prune import Pruned, prune

log = logging.getLogger("escalation_core")


@attrs.frozen(kw_only=True)
class Resumed:
    """The result of a resume."""

    ended: int = 0
    """How many operators' pauses it ended."""
    schedule_lifted_until: datetime | None = None
    """Until when the schedule does not count; None if no scheduled pause was running or it was not overridden."""


class OperatorVerbs(StoreAccess):
    """The operators' verbs. The audit records each operator's action: actor, action, instant and reason."""

    _notifiers: Sequence[Notifier] = ()

    async def now(self) -> datetime:
        """Return the present instant by the store's clock, which decides when incidents and pages are due."""
        return await self._read(lambda tx: tx.now())

    async def note(self, action: str, *, reason: str | None = None, by: str | None = None) -> None:
        """Record an operator's action in the audit, if the action itself records none."""
        check_text(action, "action")
        who = By(by, reason)

        async def work(tx: Transaction) -> None:
            await tx.journal.note([who.entry(await tx.now(), action)])

        await self._run(work)

    @property
    def notifiers(self) -> Sequence[Notifier]:
        """The notifiers that this engine sends with."""
        return self._notifiers

    async def test_page(self, target: str, *, reason: str | None = None, by: str | None = None) -> PageTest:
        """Send one page that says that it is a test, through the target's own notifier, and return what became of it.

        It writes no incident and no page, and pauses, switches and a dry run do not stop it. The audit gets a note. If
        only the note fails, the engine logs a warning. See ``send_test_page`` for a test without a store.

        Raises:
            InvalidValue: no notifier serves the target.
            StoreUnavailable: the database is out of reach, and the page was not sent.
        """
        at, retry = await self.now(), self.settings.retry
        sent = await send_test_page(self._notifiers, target, at=at, by=by, reason=reason, retry=retry)
        try:
            await self.note_test_page(sent, reason=reason, by=by)
        except StoreError as error:
            log.warning("the audit has no note of the test page to %s: %s", target, error)
        return sent

    async def note_test_page(self, sent: PageTest, *, reason: str | None = None, by: str | None = None) -> None:
        """Record a test page and its result in the audit, for example after ``send_test_page``."""
        who = By(by, reason)
        said = f"{sent.target} {sent.verdict.value}"

        async def work(tx: Transaction) -> None:
            await tx.journal.note([who.entry(await tx.now(), "test page", said, sent.reason)])

        await self._run(work)

    async def remember_request(self, message_id: str, *, expires: datetime) -> bool:
        """Save the id of a signed request until it expires; return False if the id was saved before."""
        check_text(message_id, "message_id")
        expires = check_instant(expires, "expires")

        async def work(tx: Transaction) -> bool:
            return await tx.requests.claim_request_id(message_id, now=await tx.now(), expires=expires)

        return await self._run(work)

    async def recalc(
        self, *, reason: str | None = None, by: str | None = None, progress: Callable[[int], None] | None = None
    ) -> int:
        """Plan every unresolved incident again, for example after windows got shorter or the maximum higher.

        ``progress`` is called with the number of rows visited so far. If the call is interrupted, the workers finish.

        Returns:
            How many rows were visited.
        """
        await self.request_recalc(reason=reason, by=by)
        while True:
            state = await recalc.advance(self.store, self._versions, wait=True)
            if progress is not None:
                progress(state.visited)
            if state.requested_at is None:
                return state.visited

    async def request_recalc(self, *, reason: str | None = None, by: str | None = None) -> None:
        """Request a recalculation. The workers do it between their ticks and with their own settings."""
        who = By(by, reason)
        await self._run(lambda tx: recalc.request(tx, who))

    async def pause(self, until: datetime | timedelta, *, reason: str | None = None, by: str | None = None) -> Pause:
        """Pause all workers until an instant or for a span of at most 24 hours: they escalate nothing and send no page.

        Acknowledging and resolving still work. Pauses add up: a new pause neither shortens nor replaces a running one.
        Health reports the end of all pauses together.

        Raises:
            InvalidValue: the end is over already, more than 24 hours away, or naive.
        """
        until = until if isinstance(until, timedelta) else check_instant(until, "until")
        who = By(by, reason)

        async def work(tx: Transaction) -> Pause:
            now = await tx.now()
            pause = pause_from(now, until, who)
            await tx.operations.add_pause(pause)
            await tx.journal.note([who.entry(now, "pause", f"until {pause.ends_at.isoformat()}")])
            return pause

        return await self._run(work)

    async def prune(
        self,
        older_than: timedelta,
        *,
        reason: str | None = None,
        by: str | None = None,
        progress: Callable[[int], None] = lambda gone: None,
    ) -> Pruned:
        """Delete escalations, pages, audit entries and ended pauses older than a span, in batches.

        It keeps the rows of open incidents and of each key's highest episode, because the engine still needs them. It
        also deletes expired ids of signed requests. ``progress`` is called with the number of rows deleted so far.

        Raises:
            InvalidValue: the span is shorter than a day.
        """
        who = By(by, reason)
        await self.check()
        return await prune(self.store, older_than, who, progress)

    async def prove(self) -> Integrity:
        """Count the recorded escalations and pages, to prove that each escalation exists once and has its pages."""
        return await self._read(lambda tx: tx.operations.integrity())

    async def resume(
        self, *, override_schedule: bool = False, reason: str | None = None, by: str | None = None
    ) -> Resumed:
        """End every operator's pause, and with ``override_schedule`` also the scheduled pause that is running.

        The next scheduled pause begins as usual, and the switches of the settings still apply. The schedule comes from
        this engine's settings, so they must be the same as the workers' settings.
        """
        if not isinstance(override_schedule, bool):
            raise InvalidValue("override_schedule", f"is {type(override_schedule).__name__}", "give True or False")
        who = By(by, reason)

        async def work(tx: Transaction) -> Resumed:
            now = await tx.now()
            ended = await tx.operations.end_pauses(now)
            schedule = self.settings.pause
            lifted = schedule.paused_until(now) if override_schedule and schedule is not None else None
            if lifted is not None:
                await tx.operations.add_pause(
                    Pause(starts_at=now, ends_at=lifted, actor=who.actor, reason=who.reason, lifts_schedule=True)
                )
            said = None if lifted is None else f"schedule lifted until {lifted.isoformat()}"
            await tx.journal.note([who.entry(now, "resume", said)])
            return Resumed(ended=ended, schedule_lifted_until=lifted)

        return await self._run(work)
