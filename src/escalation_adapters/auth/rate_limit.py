"""Rate limits: how many requests a caller may make. The limiter here keeps its counts in this process's memory."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import attrs

from escalation_core.checks import check_count, check_span


def _count(value: int) -> int:
    return check_count(value, "count", 0)


def _window(value: timedelta) -> timedelta:
    return check_span(value, "window")


@attrs.frozen
class Limit:
    """At most ``count`` within any ``window``."""

    count: int = attrs.field(converter=_count)
    window: timedelta = attrs.field(default=timedelta(minutes=1), converter=_window)


@attrs.frozen
class Decision:
    """What a limiter says about one request."""

    allowed: bool
    remaining: int
    """How many more are free just now."""
    retry_after: timedelta = timedelta()
    """When the next one is free, if this one is not."""


class RateLimiter(Protocol):
    """Counts requests by key, over a sliding window. If it raises, the request is refused."""

    async def hit(self, key: str, limit: Limit) -> Decision:
        """Count one request, unless the limit is reached; refused ones do not count."""


class MemoryLimiter:
    """Counts in memory, for one process. Beyond ``most_keys`` the key of the oldest request is forgotten.

    ``now`` is a clock that never goes back, in seconds.
    """

    def __init__(self, *, most_keys: int = 10_000, now: Callable[[], float] = time.monotonic) -> None:
        self._most_keys = check_count(most_keys, "most_keys", 1)
        self._now = now
        self._hits: OrderedDict[str, deque[float]] = OrderedDict()

    async def hit(self, key: str, limit: Limit) -> Decision:
        """Count one request."""
        now, window = self._now(), limit.window.total_seconds()
        hits = self._hits.setdefault(key, deque())
        self._hits.move_to_end(key)
        while len(self._hits) > self._most_keys:
            self._hits.popitem(last=False)
        while hits and hits[0] <= now - window:
            hits.popleft()
        if len(hits) >= limit.count:
            wait = hits[len(hits) - limit.count] + window - now if limit.count else window
            return Decision(False, 0, timedelta(seconds=wait))
        hits.append(now)
        return Decision(True, limit.count - len(hits))
