"""How pages leave: a notifier of the project's own, which ``ESCALATION["notifiers"]`` names."""

import os
from collections.abc import Sequence

import aiohttp

from escalation_core import Delivered, Notifier, Outcome, Page, Rejected, Retry


class Webhook:
    """Posts each page to a URL, which is a secret."""

    channel = "webhook"
    targets: Sequence[str] = ("webhook",)

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, page: Page) -> Outcome:
        """Post the page."""
        incident = page.incident
        body = {"incident": incident.incident_key, "title": incident.summary, "level": page.level}
        headers = {"X-Dedup-Key": page.dedup_key}
        try:
            async with aiohttp.ClientSession() as http, http.post(self._url, json=body, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return Retry(type(error).__name__)  # its text may hold the URL
        if status < 300:
            return Delivered()
        return Rejected(f"HTTP {status}") if 400 <= status < 500 else Retry(f"HTTP {status}")

    async def aclose(self) -> None:
        """Do nothing: each page has a connection of its own."""


def notifiers() -> list[Notifier]:
    """Return the project's notifiers."""
    return [Webhook(os.environ["PAGE_URL"])] if "PAGE_URL" in os.environ else []
