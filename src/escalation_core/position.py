"""Where an entry stands in the audit: what the next page of entries begins after."""

import re
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import attrs

from .errors import InvalidValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Source(IntEnum):
    """Where entries come from; those of one instant stand in this order."""

    ESCALATION = 1
    PAGE = 2
    NOTE = 3


@attrs.frozen(order=True)
class Position:
    """An entry's place: newest first, at one instant by source and then by id."""

    at: datetime
    source: int
    id: int

    @property
    def cursor(self) -> str:
        """The place as a text, for whoever asks for the next page."""
        return f"{(self.at - _EPOCH) // _MICROSECOND}.{self.source}.{self.id}"


def position_of(cursor: str) -> Position:
    """Return the place that a cursor tells.

    Raises:
        InvalidValue: it is none.
    """
    match = re.fullmatch(r"(-?[0-9]{1,18})\.([123])\.([0-9]{1,18})", cursor) if isinstance(cursor, str) else None
    try:
        if match is not None:
            return Position(_EPOCH + int(match[1]) * _MICROSECOND, int(match[2]), int(match[3]))
    except OverflowError:
        pass
    raise InvalidValue("after", "is no cursor", "give the cursor of the last entry that you have")
