"""The field of an instant: a ``timestamptz`` on PostgreSQL, microseconds since 1970 on SQLite."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from ..sqlite.codec import instant, micros

if TYPE_CHECKING:
    _DateTimeField = models.DateTimeField[Any, Any]
else:
    _DateTimeField = models.DateTimeField


class InstantField(_DateTimeField):
    """An instant of the engine's. It reads either form as Django reads a DateTimeField."""

    def get_internal_type(self) -> str:
        """Return the type of a whole number: Django's converters for SQLite would read a text."""
        return "BigIntegerField"

    def from_db_value(self, value: Any, *_: Any) -> Any:
        """Return microseconds as a datetime, and leave a datetime as it is."""
        if not isinstance(value, int):
            return value
        try:
            found = instant(value)
        except OverflowError:
            return None  # outside the years 1 to 9999
        return found if settings.USE_TZ else timezone.make_naive(found)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Return what the database compares: microseconds on SQLite."""
        if connection.vendor != "sqlite" or not isinstance(value, datetime):
            return super().get_db_prep_value(value, connection, prepared)
        aware = timezone.make_aware(value) if timezone.is_naive(value) else value
        return micros(aware.astimezone(UTC))
