"""Clocks for tests and replays: anything that is called without arguments and returns an aware datetime is one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ..checks import check_instant

Clock = Callable[[], datetime]
"""What stores take: a call returns the instant, aware."""


class ManualClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, start: datetime = datetime(2025, 1, 1, tzinfo=UTC)) -> None:
        self._now = check_instant(start, "start")

    def __call__(self) -> datetime:
        """Return the instant at which it stands."""
        return self._now

    def set(self, instant: datetime) -> None:
        """Put it to an instant; backwards too, as real clocks are sometimes."""
        self._now = check_instant(instant, "instant")

    def advance(self, span: timedelta) -> datetime:
        """Move it on, and return where it stands then."""
        self._now += span
        return self._now


def system_clock() -> datetime:
    """Return the process's own idea of now."""
    return datetime.now(UTC)
