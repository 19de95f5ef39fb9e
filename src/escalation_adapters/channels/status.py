"""What a receiver answered over HTTP, and the one table from its status to the outcome of a page, for all channels.

=============  =====================================================================
status         outcome
=============  =====================================================================
2xx            delivered if the body confirms the page, else retry: see ADR 0010
3xx            rejected: ``redirect``. A secret must not go to another host
408, 425       retry: the request came too slowly or too early
429            retry, and the target is throttled for the time of Retry-After
other 4xx      rejected
5xx, others    retry after the time of Retry-After
=============  =====================================================================
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import attrs

from escalation_core import Delivered, Outcome, Rejected, Retry

_AGAIN = frozenset({408, 425})
"""Client errors that are not final."""
_THROTTLED = 429


@attrs.frozen
class Reply:
    """A receiver's reply. Its repr has the status alone, because a receiver may echo a secret."""

    status: int
    body: bytes = attrs.field(default=b"", repr=False)
    """The beginning of the body; empty if the client did not read it."""
    truncated: bool = attrs.field(default=False, repr=False)
    """The body is longer than the client reads."""
    retry_after: str | None = attrs.field(default=None, repr=False)
    """The header Retry-After, as the receiver wrote it."""
    date: str | None = attrs.field(default=None, repr=False)
    """The header Date, as the receiver wrote it."""

    @property
    def after(self) -> timedelta | None:
        """The wait that the receiver asked for; None if it asked for none."""
        return parse_retry_after(self.retry_after, self.date)


def is_success(status: int) -> bool:
    """Return whether a reply is a success. A proxy before the receiver may say so as well."""
    return 200 <= status < 300


def is_refusal(status: int) -> bool:
    """Return whether a reply refuses the request permanently."""
    return 400 <= status < 500 and status != _THROTTLED and status not in _AGAIN


def outcome_of(reply: Reply, *, confirmed: bool, lacking: str, whole_target: bool = False) -> Outcome:
    """Return the outcome of a reply, by the table above. Its reason quotes nothing of the reply.

    ``confirmed`` counts for a success: the body confirms the page. If it does not, it lacks what ``lacking`` names.
    ``whole_target`` counts for a refusal: the body says that the receiver would refuse any message to this target.
    """
    status = reply.status
    if is_success(status):
        return Delivered() if confirmed else Retry(f"HTTP {status} without {lacking}", reply.after)
    if 300 <= status < 400:
        return Rejected("redirect")
    if is_refusal(status):
        return Rejected(f"HTTP {status}", whole_target=whole_target)
    return Retry(f"HTTP {status}", reply.after, throttled=status == _THROTTLED)


def parse_retry_after(value: str | None, date: str | None = None) -> timedelta | None:
    """Return the span of a Retry-After (RFC 9110, 10.2.3), in seconds or as a date; None for any other text.

    A date counts from the reply's own ``Date``, so that a wrong clock on either side changes nothing.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch("[0-9]+", text):
        return timedelta(seconds=int(text)) if len(text) < 10 else timedelta.max
    until = _date(text)
    if until is None:
        return None
    return max(until - (_date(date or "") or datetime.now(UTC)), timedelta())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
