"""What operators do to the engine as a whole: pause it, and let it go on. Every worker obeys from its next tick."""

from collections.abc import Callable
from datetime import datetime, timedelta

import attrs

from ..checks import check_instant, check_text
from ..errors import InvalidValue
from ..model import By, Integrity, Pause
from ..ports import Transaction
from ..rules.gate import pause_from
from . import recalc
from .access import StoreAccess
from .prune import Pruned, prune


@attrs.frozen(kw_only=True)
class Resumed:
    """What a resume did."""

    ended: int = 0
    """How many operators' pauses it ended."""
    schedule_lifted_until: datetime | None = None
    """Until when the schedule does not count, if it was overridden and a scheduled pause was running."""


class OperatorVerbs(StoreAccess):
    """The operators' verbs. Each leaves an entry in the audit: who, what, when, why."""

    async def now(self) -> datetime:
        """Return the instant by the store's clock, which decides what is due."""
        return await self._read(lambda tx: tx.now())

    async def note(self, action: str, *, reason: str | None = None, by: str | None = None) -> None:
        """Keep in the audit what an operator did, for actions that leave no entry of their own."""
        check_text(action, "action")
        who = By(by, reason)

        async def work(tx: Transaction) -> None:
            await tx.journal.note([who.entry(await tx.now(), action)])

        await self._run(work)

    async def remember_request(self, message_id: str, *, expires: datetime) -> bool:
        """Keep the id of a signed request until it expires; return False if any worker saw it before."""
        check_text(message_id, "message_id")
        expires = check_instant(expires, "expires")

        async def work(tx: Transaction) -> bool:
            return await tx.requests.claim_request_id(message_id, now=await tx.now(), expires=expires)

        return await self._run(work)

    async def recalc(
        self, *, reason: str | None = None, by: str | None = None, progress: Callable[[int], None] | None = None
    ) -> int:
        """Give every open incident its true next_due_at, now; needed after windows got shorter or the maximum higher.

        ``progress`` is told the number of rows visited so far. Interrupted, it is resumed by the workers.

        Returns:
            How many rows were visited.
        """
        await self.request_recalc(reason=reason, by=by)
        while True:
            state = await recalc.advance(self.store, self.settings.policy, wait=True)
            if progress is not None:
                progress(state.visited)
            if state.requested_at is None:
                return state.visited

    async def request_recalc(self, *, reason: str | None = None, by: str | None = None) -> None:
        """Ask the workers to recalculate, between their ticks and with their own settings."""
        who = By(by, reason)
        await self.check()
        await recalc.request(self.store, who)

    async def pause(self, until: datetime | timedelta, *, reason: str | None = None, by: str | None = None) -> Pause:
        """Let nothing escalate and no page be sent, in any worker, until an instant or for a span; at most 24 hours.

        Acknowledging and resolving go on. Pauses add up: one that is running is neither shortened nor replaced, and
        until when paging is paused by all of them together, health says.

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
        """Remove escalations, pages, audit entries and the like that are older, in batches.

        Nothing of an open incident and nothing of a key's highest episode goes: those are still needed.

        Raises:
            InvalidValue: the span is shorter than a day.
        """
        who = By(by, reason)
        await self.check()
        return await prune(self.store, older_than, who, progress)

    async def prove(self) -> Integrity:
        """Count what is recorded, so that the promise shows: each escalation once, each with its pages."""
        return await self._read(lambda tx: tx.operations.integrity())

    async def resume(
        self, *, override_schedule: bool = False, reason: str | None = None, by: str | None = None
    ) -> Resumed:
        """End every operator's pause, and with ``override_schedule`` the scheduled one that is running, too.

        The next scheduled pause comes as ever. The switches of the settings still win. Which schedule there is, this
        engine's settings say: they are to be the workers' own.
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
