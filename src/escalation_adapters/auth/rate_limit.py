"""Rate limits: how many requests a caller may make. ``MemoryLimiter`` counts in this process's memory."""

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
    """At most ``count`` requests within any ``window``."""

    count: int = attrs.field(converter=_count)
    window: timedelta = attrs.field(default=timedelta(minutes=1), converter=_window)


@attrs.frozen
class Decision:
    """A limiter's decision about one request."""

    allowed: bool
    remaining: int
    """Number of further requests that the limit allows now."""
    retry_after: timedelta = timedelta()
    """Time until the limit allows another request, if it refuses this one."""


class RateLimiter(Protocol):
    """Counts requests by key, over a sliding window. If it raises, the request is refused."""

    async def hit(self, key: str, limit: Limit) -> Decision:
        """Count one request, unless the limit is reached: a refused request does not count."""


class MemoryLimiter:
    """Counts requests in memory, for one process. Beyond ``most_keys`` keys it drops the least recently used one.

    ``now`` is a monotonic clock, in seconds.
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
