"""A limiter whose counts all workers share, for example in Redis or Valkey, through the library ``limits``."""

import math
import time
from datetime import timedelta

from ..extras import needs

with needs(__name__, "redis"):
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import MovingWindowSupport, Storage
    from limits.aio.strategies import MovingWindowRateLimiter

from escalation_core import InvalidValue

from .rate_limit import Decision, Limit


class LibraryLimiter:
    """Counts requests over a moving window, in a storage of the library ``limits``: for example Redis or Valkey.

    The library reads the wall clock, and its windows are whole seconds: a window is rounded up.

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
            Exception: an error of the storage. A caller treats any error as a refusal.
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
