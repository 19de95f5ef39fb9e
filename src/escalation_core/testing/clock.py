"""Clocks for tests and replays. A clock is a callable without arguments that returns an aware datetime."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ..checks import check_instant

Clock = Callable[[], datetime]
"""The type of a store's clock. A call returns the current instant as an aware datetime."""


class ManualClock:
    """A clock that changes only when the test sets or advances it.

    It starts at ``start`` (aware), by default at the current instant. Rows of the host have real instants, and the
    engine cannot read a row whose first_seen is more than 24 hours ahead of the store's clock.

    Raises:
        InvalidValue: ``start`` is naive.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = system_clock() if start is None else check_instant(start, "start")

    def __call__(self) -> datetime:
        """Return the current instant of this clock."""
        return self._now

    def set(self, instant: datetime) -> None:
        """Set the clock to an instant. It may be earlier, because real clocks step back, too."""
        self._now = check_instant(instant, "instant")

    def advance(self, span: timedelta) -> datetime:
        """Advance the clock by ``span``, and return the new instant."""
        self._now += span
        return self._now


def system_clock() -> datetime:
    """Return the current instant of the operating system's clock."""
    return datetime.now(UTC)
