"""Instants as whole microseconds since 1970, as cursors write them."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(instant: datetime) -> int:
    """Return the microseconds from 1970 to an instant."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(number: int) -> datetime:
    """Return the instant so many microseconds after 1970.

    Raises:
        OverflowError: it lies outside the years 1 to 9999.
    """
    return _EPOCH + number * _MICROSECOND
