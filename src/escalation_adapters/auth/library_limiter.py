"""A limiter that all workers share, in Redis or Valkey, through the library ``limits``."""

import math
import time
from datetime import timedelta

from limits import RateLimitItemPerSecond
from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter

from escalation_core import InvalidValue

from .rate_limit import Decision, Limit


class LibraryLimiter:
    """Counts wherever a storage of the library ``limits`` does, over a moving window: Redis, Valkey, Memcached.

    The library counts by whole seconds and reads the wall clock.

    Raises:
        InvalidValue: the storage has no moving window.
    """

    def __init__(self, storage: Storage) -> None:
        if not isinstance(storage, MovingWindowSupport):
            raise InvalidValue(
                "storage", f"{type(storage).__name__} has no moving window", "use Redis, Valkey or memory"
            )
        self._limiter = MovingWindowRateLimiter(storage)

    async def hit(self, key: str, limit: Limit) -> Decision:
        """Count one request.

        Raises:
            Exception: the storage's own; whoever asks takes any as a refusal.
        """
        window = max(1, math.ceil(limit.window.total_seconds()))
        if limit.count < 1:
            return Decision(False, 0, timedelta(seconds=window))
        item = RateLimitItemPerSecond(limit.count, window, namespace="escalation")
        allowed = await self._limiter.hit(item, key)
        stats = await self._limiter.get_window_stats(item, key)
        if allowed:
            return Decision(True, stats.remaining)
        return Decision(False, 0, timedelta(seconds=max(stats.reset_time - time.time(), 0.001)))
