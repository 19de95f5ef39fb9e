"""An attempt: one call of a notifier to send one message. It returns an outcome, also if the notifier raises."""

import logging
from collections.abc import Callable
from datetime import timedelta

import attrs

from ..model import Bundle, Notice, NoticeBundle, Outcome, Page, Retry
from ..ports import Notifier, SendsBundles, TellsNoticeBundles, TellsNotices
from ..rules.retry import parse_outcome
from .tasks import was_cancelled, within

log = logging.getLogger("escalation_core")


@attrs.define
class Attempt:
    """One call of a notifier, and what happens if the notifier continues after a cancellation."""

    notifier: Notifier
    message: Page | Bundle | Notice | NoticeBundle
    gone: Callable[[], None] = lambda: None
    """Called once the notifier has ended."""
    overran: Callable[[], None] = lambda: None
    """Called if the time is over and the notifier may still be sending."""

    async def within(self, longest: timedelta) -> Outcome:
        """Call the notifier for at most ``longest``, and return its outcome. A timeout becomes Retry."""
        try:
            return await within(longest, self.make(), ignored=self.complain)
        except TimeoutError:
            self.overran()
            return Retry("timed out", unanswered=True)

    async def make(self) -> Outcome:
        """Call the notifier and return its outcome. An error that it raises becomes Retry."""
        try:
            answer = await self._answer()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a faulty notifier stops neither other pages nor the worker
            fault = type(error).__name__  # only the class: the text and the traceback may contain a URL
            if not was_cancelled(error):  # a notifier whose time is over has no fault
                log.error(  # noqa: TRY400
                    "notifier %s raised %s, which counts as a failed attempt", self.notifier.channel, fault
                )
            return Retry(f"the notifier raised {fault}")
        finally:
            self.gone()
        if not isinstance(answer, Outcome):
            log.error("notifier %s returned %s, which is not an outcome", self.notifier.channel, type(answer).__name__)
        return parse_outcome(answer)

    def complain(self) -> None:
        """Log that the notifier continues after its cancellation. Many such sends leave no capacity for other pages."""
        log.error(
            "notifier %s goes on sending to %s after it was cancelled: the attempt failed, and this send still counts"
            " as one of the target's running sends",
            self.notifier.channel,
            self.message.target,
        )

    async def _answer(self) -> Outcome:
        if isinstance(self.message, Page):
            return await self.notifier.send(self.message)
        # A notifier that declares an ability has its method: the engine checks that when it is made.
        sender: object = self.notifier
        if isinstance(self.message, Bundle):
            assert isinstance(sender, SendsBundles)  # noqa: S101 - checked before
            return await sender.send_bundle(self.message)
        if isinstance(self.message, Notice):
            assert isinstance(sender, TellsNotices)  # noqa: S101 - checked before
            return await sender.tell(self.message)
        assert isinstance(sender, TellsNoticeBundles)  # noqa: S101 - checked before
        return await sender.tell_bundle(self.message)
