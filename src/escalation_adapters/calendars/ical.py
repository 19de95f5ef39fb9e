"""Schedules from iCalendar files and https URLs: ``IcalSource``."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..extras import needs

with needs(__name__, "ical"):
    from yarl import URL

from escalation_core import InvalidValue, SchedulesError
from escalation_core.checks import visible
from escalation_core.errors import Problem
from escalation_core.ports import Schedule
from escalation_core.rules.shifts import Shifts

from ..channels.http import parse, session
from .child import expanded
from .fetch import fetch

BEFORE = timedelta(days=7)
AHEAD = timedelta(days=90)
AT_ONCE = 4
"""How many calendars are expanded at the same time: each takes a process."""
MAX_SECONDS = 25.0
"""The longest time for all calendars together. The engine waits a little longer for a source, and then drops it all."""


class IcalSource:
    """Reads schedules from calendars: each event is a shift, and its SUMMARY is the person.

    ``calendars`` maps the name of a schedule to a path, or to an https URL. Relative paths count from ``folder``, or
    else from the current folder. ``tls`` is for servers with a certificate of your own. ``clock`` defaults to the
    system's.

    Raises:
        InvalidValue: an entry is neither a path nor an https URL.
    """

    def __init__(
        self,
        calendars: Mapping[str, str],
        *,
        folder: Path | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._places = {name: _place(name, where, folder or Path()) for name, where in calendars.items()}
        self._tls = tls
        self._clock = clock or _now

    async def load(self) -> Mapping[str, Schedule]:
        """Return the shifts of each calendar from 7 days ago to 90 days ahead, on whole days of UTC.

        The horizon is the end of these 90 days, also if the last event ends earlier: a calendar has all events that
        its owner wrote, so after the last one there is a gap, and no one is on call. Whole days keep the digest of an
        unchanged calendar the same from one load to the next.

        Raises:
            SchedulesError: at least one calendar cannot be read. The error has the schedules of the others.
        """
        today = self._clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        at_once, deadline = asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop().time() + MAX_SECONDS
        async with session() as http:

            async def read(place: URL | Path) -> Shifts | InvalidValue:
                try:
                    async with asyncio.timeout_at(deadline):
                        content = await fetch(place, http, self._tls)
                        async with at_once:
                            return await expanded(content, today - BEFORE, today + timedelta(days=1) + AHEAD)
                except InvalidValue as fault:
                    return fault
                except TimeoutError:
                    return InvalidValue(
                        "calendar", f"had no turn within {MAX_SECONDS:g} seconds", "use fewer calendars"
                    )

            async with asyncio.TaskGroup() as group:
                tasks = {name: group.create_task(read(place)) for name, place in self._places.items()}
        read_all = {name: task.result() for name, task in tasks.items()}
        loaded = {name: found for name, found in read_all.items() if isinstance(found, Shifts)}
        problems = {name: _problem(fault) for name, fault in read_all.items() if isinstance(fault, InvalidValue)}
        if problems:
            raise SchedulesError(problems, loaded)
        return loaded


def _place(name: str, where: object, folder: Path) -> URL | Path:
    field = f"calendars.{name}"
    if not isinstance(where, str) or not where:
        raise InvalidValue(field, "is not a path or a URL", "give a path or an https URL")
    if "://" not in where:
        return folder / where
    url = parse(where, allow_http=False)
    if url is None:
        raise InvalidValue(field, "is not a valid https URL", "write https://HOST/..., also in place of webcal://")
    return url


def _problem(fault: InvalidValue) -> Problem:
    """Return a fault and its remedy. A calendar's own text may be in it: no character of it controls a terminal."""
    return Problem(visible(f"{fault.field} {fault.fault}"), fault.remedy)


def _now() -> datetime:
    return datetime.now(UTC)
