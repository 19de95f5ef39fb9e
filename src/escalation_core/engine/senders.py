"""The messages on their way: how many a worker sends to each target at once, and one send."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ..model import Notice, NoticeBundle, Outcome
from ..ports import Notifier
from ..rules.retry import RetryPolicy
from ..rules.window import Windows
from .attempt import Attempt
from .messages import Send
from .tasks import monotonic

if TYPE_CHECKING:
    from .telemetry import Telemetry


@attrs.define
class Senders:
    """Counts the messages on their way to each target, and sends one.

    Notices are counted apart, and few are sent at once, so that they take no page's place.
    """

    notifiers: Mapping[str, Notifier]
    """The notifier of each target."""
    policy: RetryPolicy
    telemetry: "Telemetry"
    windows: Windows = attrs.field(init=False)
    _in_flight: Counter[str] = attrs.field(factory=Counter)
    _telling: Counter[str] = attrs.field(factory=Counter)

    def __attrs_post_init__(self) -> None:
        """Begin with small windows."""
        self.windows = Windows(self.policy.per_target)

    @property
    def has_capacity(self) -> bool:
        """Whether any message to any target may be sent now."""
        return any(self.capacity(name) or self.notice_capacity(name) for name in self.notifiers)

    def capacity(self, target: str) -> int:
        """Return how many more pages to a target may be claimed now: none to a target that no notifier serves.

        It is at most half of the target's window: while one half is settled and claimed, the other half is being sent.
        """
        if target not in self.notifiers:
            return 0
        most = self.windows.size(target, monotonic())
        return min(max(most - self._in_flight[target], 0), (most + 1) // 2)

    def notice_capacity(self, target: str) -> int:
        """Return how many more notices to a target may be claimed now: a quarter of its window, at least one."""
        if target not in self.notifiers:
            return 0
        most = max(self.windows.size(target, monotonic()) // 4, 1)
        return max(most - self._telling[target], 0)

    def half_free(self) -> bool:
        """Return whether half of the window of any target is free, to which pages are on their way."""
        now = monotonic()
        return any(0 < 2 * count <= self.windows.size(target, now) for target, count in self._in_flight.items())

    def began(self, send: Send) -> None:
        """Count a message that is about to be sent."""
        self._count_of(send)[send.target] += 1

    def ended(self, send: Send) -> None:
        """Count a message off that is not on its way any more."""
        self._count_of(send)[send.target] -= 1

    async def send(self, send: Send) -> Outcome:
        """Send one message, within the time that one attempt may take, and return the outcome."""
        target, message, notifier = send.target, send.message, self.notifiers[send.target]
        began, count = monotonic(), self._count_of(send)
        in_use = self.windows.in_use(target, self._in_flight[target], began)
        with self.telemetry.sending(notifier.channel, message) as span:
            attempt = Attempt(notifier, message)

            def still_sending() -> None:
                # Most notifiers end at once when they are cancelled. A send that continues still counts for the limit
                # of its target, so that few of them can run at the same time.
                count[target] += 1
                attempt.gone = lambda: count.subtract([target])

            attempt.overran = still_sending
            outcome = await attempt.within(self.policy.send_timeout)
            ended = monotonic()
            if not is_notice(send):
                self.windows.learn(target, outcome, in_use=in_use, now=ended)
            self.telemetry.sent(span, notifier.channel, outcome, ended - began, message)
        return outcome

    def _count_of(self, send: Send) -> Counter[str]:
        return self._telling if is_notice(send) else self._in_flight


def is_notice(send: Send) -> bool:
    """Return whether a message tells notices."""
    return isinstance(send.message, Notice | NoticeBundle)
