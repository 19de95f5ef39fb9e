"""How many messages a worker sends to a target at once: few at first, and more as messages arrive (slow start)."""

import attrs

from ..model import Delivered, Outcome, Retry
from .pace import QUIET

FIRST = 8
"""How many messages a worker sends at once to a target that has not taken any yet."""
_QUIET = QUIET.total_seconds()


@attrs.define
class Windows:
    """Keeps how many messages this worker may have on their way to each target, by a clock in seconds.

    Only targets that have taken messages are kept. All others begin with ``FIRST``.
    """

    most: int
    """No target gets more at once than this."""
    _grown: dict[str, tuple[int, float]] = attrs.field(factory=dict, init=False)
    """The size of each window that has grown, and when a message last arrived while it was in use."""

    def size(self, target: str, now: float) -> int:
        """Return how many messages may be on their way. Once it was not in use for a minute, it is ``FIRST`` again."""
        grown, at = self._grown.get(target, (FIRST, now))
        return min(FIRST if now - at >= _QUIET else grown, self.most)

    def in_use(self, target: str, count: int, now: float) -> bool:
        """Return whether ``count`` messages on their way use at least half of the window."""
        return 2 * count >= self.size(target, now)

    def learn(self, target: str, outcome: Outcome, *, in_use: bool, now: float) -> None:
        """Raise the window by 1 for each message that arrives, and begin again after a failure or a 429.

        Messages that began while the window was not ``in_use`` do not show that the receiver takes as many at once. A
        message that the receiver refuses for good changes nothing: its fault is its own.
        """
        if isinstance(outcome, Retry):
            self._grown.pop(target, None)
        elif isinstance(outcome, Delivered) and in_use:
            self._grown[target] = min(self.size(target, now) + 1, self.most), now
