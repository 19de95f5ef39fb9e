"""A channel that needs no network: it writes each page to the process's log, as one line."""

import logging
from collections.abc import Sequence

from escalation_core import Abilities, Delivered, Notice, Outcome, Page
from escalation_core.checks import quoted
from escalation_core.model import EVERY_KIND
from escalation_core.rules.routing import check_target

MAX_TEXT_CHARS = 1500
"""Longest summary in the line, in characters; the labels have the same limit."""


class LogNotifier:
    """Logs each page as one WARNING and reports it as delivered. For first steps, tests, and as a last resort.

    ``target`` is the name that routes use; ``logger`` defaults to ``escalation_adapters.channels.log``.
    """

    channel = "log"
    abilities = Abilities(notices=EVERY_KIND)

    def __init__(self, target: str = "log", logger: logging.Logger | None = None) -> None:
        self.targets: Sequence[str] = (check_target(target, "target"),)
        self._log = logging.getLogger(__name__) if logger is None else logger

    async def send(self, page: Page) -> Outcome:
        """Log the page on one line of bounded length, with the host's texts as Python's ``repr`` shows them."""
        incident = page.incident
        self._log.warning(
            "page to %s: incident %r level %d episode %d severity %s summary %s labels %s dedup_key %s attempt %d",
            page.target,
            incident.incident_key,
            page.level,
            page.episode,
            quoted(incident.severity),
            quoted(incident.summary, MAX_TEXT_CHARS),
            quoted(dict(incident.labels), MAX_TEXT_CHARS),
            page.dedup_key,
            page.attempt,
        )
        return Delivered()

    async def tell(self, notice: Notice) -> Outcome:
        """Log the notice on one line. Only targets that ask for notices get any."""
        self._log.warning(
            "notice to %s: incident %r episode %d %s by %s at %s summary %s dedup_key %s attempt %d",
            notice.target,
            notice.incident_key,
            notice.episode,
            notice.kind.value,
            quoted(notice.actor),
            notice.at.isoformat(),
            quoted(notice.title, MAX_TEXT_CHARS),
            notice.dedup_key,
            notice.attempt,
        )
        return Delivered()

    async def aclose(self) -> None:
        """Do nothing: the log belongs to the process."""
