"""Who is on call, and how an operator changes it for a while."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..checks import check_instant, check_text, nearest, quoted
from ..errors import InvalidValue
from ..model import By, ShiftOverride
from ..ports import Schedule, Transaction
from ..rules.on_call import OnCall, ends_program
from ..rules.wall_clock import later
from .policies import PolicyVerbs
from .schedules import ScheduleLoader
from .versions import need_walks

MAX_OVERRIDE = timedelta(days=366)
"""The longest override, and how far ahead one may begin."""


@attrs.frozen(kw_only=True)
class OnCallNow:
    """Who is on call for one schedule at an instant."""

    schedule: str
    people: tuple[str, ...] | None
    """Sorted; empty if no one is. None: it is not known, because the schedule is missing or has ended."""
    targets: tuple[str, ...] = ()
    """The targets of these people; a person without one is left out."""
    until: datetime | None = None
    """When that changes next; None if it does not within two years, or if it is not known."""
    override: ShiftOverride | None = None
    """The override in force, if there is one."""
    horizon: datetime | None = None
    """The end of what the schedule knows; None for a schedule that is missing."""


class OnCallVerbs(PolicyVerbs):
    """Who is on call, and overrides."""

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """The schedules of the policies file and those that the sources loaded last, by name."""
        return self._versions.schedules()

    @property
    def schedule_loader(self) -> ScheduleLoader:
        """What loads the schedules of the sources."""
        return self._versions.schedule_loader

    async def _load_due_schedules(self) -> None:
        """Load the sources if that is due, as a tick does: this process may not tick."""
        await self.check()
        await self.schedule_loader.keep_loaded(self.store)

    def _missing_schedules(self) -> Sequence[str]:
        """Return the schedules that policies name and no one has, once the sources were loaded."""
        loader = self.schedule_loader
        if loader.sources and not loader.was_loaded:
            return ()
        return sorted(self._schedule_names() - {*self.schedules} - {*loader.places})

    def _unread_calendars(self) -> Sequence[str]:
        """Return the calendars of the policies file that this engine neither reads nor has from a source."""
        loader = self.schedule_loader
        return () if loader.calendars is not None else sorted({*loader.places} - {*self.schedules})

    def _doubled_schedules(self) -> Sequence[str]:
        return sorted({*self.schedule_loader.loaded} & {*(() if self.policies is None else self.policies.schedules)})

    async def load_schedules(self) -> None:
        """Load the sources of schedules now. A tick does it by itself, at first and then every five minutes."""
        await self.schedule_loader.load_now(await self._read(lambda tx: tx.now()))

    async def on_call(self, at: datetime | None = None) -> Sequence[OnCallNow]:
        """Return who is on call for each schedule, now or at another instant, sorted by the schedules' names."""
        wanted = None if at is None else check_instant(at, "at")

        async def work(tx: Transaction) -> Sequence[OnCallNow]:
            now = await tx.now()
            at = wanted or now
            on_call = self._versions.on_call(await need_walks(tx).overrides(at), now)
            return [_now(on_call, name, at) for name in sorted(self._schedule_names())]

        return await self._read(work)

    async def overrides(self, since: datetime | None = None) -> Sequence[ShiftOverride]:
        """Return the overrides that had not ended at ``since`` (default: now), in the order in which they were made."""
        wanted = None if since is None else check_instant(since, "since")

        async def work(tx: Transaction) -> Sequence[ShiftOverride]:
            return await need_walks(tx).overrides(wanted or await tx.now())

        return await self._read(work)

    async def override(
        self,
        schedule: str,
        person: str,
        *,
        until: datetime | timedelta,
        start: datetime | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> ShiftOverride:
        """Put a person on call for a schedule, alone, from ``start`` (default: now) until an instant or for a span.

        All workers obey it from their next tick on. To end it early, or to correct it, make another one: of several
        that cover an instant, the one that was made last counts. The audit has a note.

        Raises:
            InvalidValue: the schedule or the person is not known, or the override ends before it begins, is over
                already, begins more than a year ahead, or is longer than a year.
        """
        who = By(by, reason)
        self._check_schedule(check_text(schedule, "schedule"))
        self._check_person(check_text(person, "person"))
        begins = None if start is None else check_instant(start, "start")
        end = until if isinstance(until, timedelta) else check_instant(until, "until")

        async def work(tx: Transaction) -> ShiftOverride:
            now = await tx.now()
            starts = now if begins is None else begins
            ends = later(starts, end) if isinstance(end, timedelta) else end
            _check_span(starts, ends, now)
            made = ShiftOverride(
                schedule=schedule,
                person=person,
                starts_at=starts,
                ends_at=ends,
                made_at=now,
                actor=who.actor,
                reason=who.reason,
            )
            await need_walks(tx).add_override(made)
            said = f"{person} is on call for {schedule} from {starts.isoformat()} until {ends.isoformat()}"
            await tx.journal.note([who.entry(now, "override", said)])
            return made

        return await self._run(work)

    def _schedule_names(self) -> set[str]:
        """Return the names of all schedules: those that are loaded, and those that the policies file names."""
        names = set(self.schedules)
        if self.policies is not None:
            names.update(self.policies.calendars, *(one.schedules for one in self.policies.policies.values()))
        return names

    def _check_schedule(self, name: str) -> None:
        known = self._schedule_names()
        if name not in known:
            raise _unknown("schedule", name, known, "a schedule of the policies file or of a source")

    def _check_person(self, name: str) -> None:
        known = set() if self.policies is None else set(self.policies.people)
        if name not in known:
            raise _unknown("person", name, known, "a person that the policies file has under people")


def _unknown(field: str, name: str, known: set[str], what: str) -> InvalidValue:
    remedy = f"the nearest is {nearest(name, sorted(known))!r}" if known else f"give {what}"
    return InvalidValue(field, f"{quoted(name)} is not known", remedy)


def _check_span(starts: datetime, ends: datetime, now: datetime) -> None:
    if ends <= starts:
        raise InvalidValue("until", "is not after the start", "give a later end")
    if ends <= now:
        raise InvalidValue("until", "is over already", "give an instant ahead")
    if ends - starts > MAX_OVERRIDE or starts - now > MAX_OVERRIDE:
        raise InvalidValue("until", f"is too far away: {ends.isoformat()}", f"give at most {MAX_OVERRIDE.days} days")


def _now(on_call: OnCall, name: str, now: datetime) -> OnCallNow:
    people, _ = on_call.on_call(name, now)
    schedule = on_call.schedules.get(name)
    return OnCallNow(
        schedule=name,
        people=None if people is None else tuple(sorted(people)),
        targets=tuple(on_call.people[one] for one in sorted(people or ()) if one in on_call.people),
        until=on_call.next_change(name, now),
        override=on_call.override(name, now),
        horizon=_horizon(schedule),
    )


def _horizon(schedule: Schedule | None) -> datetime | None:
    try:
        return None if schedule is None else schedule.horizon
    except BaseException as error:
        # A host's schedule may raise anything.
        if ends_program(error):
            raise
        return None
