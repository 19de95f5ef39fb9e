"""One call of a notifier. It ends with an outcome, whatever the notifier raises or ignores."""

import logging
from collections.abc import Callable

import attrs

from ..model import Outcome, Page, Retry
from ..ports import Notifier
from ..rules.retry import parse_outcome

log = logging.getLogger("escalation_core")


@attrs.define
class Attempt:
    """One call of a notifier, which ends with an outcome, whatever the notifier does."""

    notifier: Notifier
    page: Page
    gone: Callable[[], None] = lambda: None
    """Called once the notifier has ended."""

    async def make(self) -> Outcome:
        """Let the notifier send, and return its outcome."""
        try:
            answer = await self.notifier.send(self.page)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a notifier's own fault stops no other page, nor the worker
            fault = type(error).__name__  # and no more of it: its text and its traceback may hold a URL
            log.error("notifier %s raised %s; the page is tried again", self.notifier.channel, fault)  # noqa: TRY400
            return Retry(f"the notifier raised {fault}")
        finally:
            self.gone()
        if not isinstance(answer, Outcome):
            log.error("notifier %s answered with %s: no outcome", self.notifier.channel, type(answer).__name__)
        return parse_outcome(answer)

    def complain(self) -> None:
        """Tell that it goes on though it was cancelled: many of that kind leave no place for other pages."""
        log.error(
            "notifier %s goes on sending to %s after it was cancelled: that page is tried again, and its place among"
            " those in flight stays taken",
            self.notifier.channel,
            self.page.target,
        )
