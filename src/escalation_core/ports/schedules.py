"""The ports for who is on call: a schedule, which is a snapshot, and a source of schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    """Who is on call, as far as one snapshot knows. It is pure: no I/O, no clock, and the same answer each time.

    Every instant is aware. People are names, which the policies file maps to targets.
    """

    @property
    def horizon(self) -> datetime:
        """The end of what the snapshot knows. From then on it is unknown who is on call: that is not a gap."""

    @property
    def digest(self) -> str:
        """What identifies the snapshot's content, 1 to 64 characters. It is recorded with each page."""

    def on_call(self, at: datetime) -> frozenset[str]:
        """Return the people who are on call at ``at``, an instant before the horizon. Empty: no one, a known gap."""

    def next_change(self, after: datetime) -> datetime | None:
        """Return the first instant after ``after`` at which the answer of ``on_call`` changes.

        None: it does not change before the horizon, or not within two years.
        """


@runtime_checkable
class ScheduleSource(Protocol):
    """Loads schedules, for example from a calendar or from another service."""

    async def load(self) -> Mapping[str, Schedule]:
        """Return the schedules by name, as they are now. The engine calls it again and again, beside its ticks.

        Any error means: not available now. The engine goes on with what it loaded last, and health says so.
        """


@runtime_checkable
class CalendarReader(Protocol):
    """Reads the calendars that a policies file names under ``schedules``, each with ``ical``."""

    async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
        """Return the schedules by name, as ``ScheduleSource.load`` does.

        ``calendars`` are those of the file in force: a path or a URL, which is a secret, for each name.
        """
