"""A channel that needs no network: each page becomes one line in the process's own log."""

import logging
from collections.abc import Sequence

from escalation_core import Delivered, Outcome, Page
from escalation_core.checks import quoted
from escalation_core.rules.routing import check_target

MAX_TEXT_CHARS = 1500
"""Characters that the line has for a summary, and as many for the labels."""


class LogNotifier:
    """Writes each page as one WARNING and calls it delivered. For first steps, tests, and as a last resort.

    ``target`` is the name that routes use; ``logger`` defaults to ``escalation_adapters.channels.log``.
    """

    channel = "log"

    def __init__(self, target: str = "log", logger: logging.Logger | None = None) -> None:
        self.targets: Sequence[str] = (check_target(target, "target"),)
        self._log = logging.getLogger(__name__) if logger is None else logger

    async def send(self, page: Page) -> Outcome:
        """Log the page, on one line of bounded length: what the host wrote is shown as Python shows it."""
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

    async def aclose(self) -> None:
        """Do nothing: the log belongs to the process."""
