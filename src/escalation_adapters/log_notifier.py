"""A channel that needs no network: each page becomes one line in the process's own log."""

import logging
from collections.abc import Sequence

from escalation_core import Delivered, Outcome, Page


class LogNotifier:
    """Writes each page as one WARNING and calls it delivered. For first steps, tests, and as a last resort.

    ``target`` is the name that routes use; ``logger`` defaults to ``escalation_adapters.log_notifier``.
    """

    channel = "log"

    def __init__(self, target: str = "log", logger: logging.Logger | None = None) -> None:
        self.targets: Sequence[str] = (target,)
        self._log = logging.getLogger(__name__) if logger is None else logger

    async def send(self, page: Page) -> Outcome:
        """Log the page. What the host wrote is shown as Python shows it, so a line feed in it starts no second line."""
        incident = page.incident
        self._log.warning(
            "page to %s: incident %r level %d episode %d severity %r summary %r labels %r dedup_key %s attempt %d",
            page.target,
            incident.incident_key,
            page.level,
            page.episode,
            incident.severity,
            incident.summary,
            dict(incident.labels),
            page.dedup_key,
            page.attempt,
        )
        return Delivered()

    async def aclose(self) -> None:
        """Do nothing: the log belongs to the process."""
