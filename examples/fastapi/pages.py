"""A notifier: it posts each page to a webhook, as JSON."""

from collections.abc import Sequence

import aiohttp

from escalation_core import Delivered, Outcome, Page, Rejected, Retry


class Webhook:
    """Posts pages to one URL. Make it inside the event loop."""

    channel = "webhook"
    targets: Sequence[str] = ("webhook",)

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = aiohttp.ClientSession()

    async def send(self, page: Page) -> Outcome:
        """Post one page; a receiver that is down or busy gets it again later."""
        document = {
            "alert": page.incident.incident_key,
            "title": page.incident.summary,
            "severity": page.incident.severity,
            "level": page.level,
        }
        headers = {"Idempotency-Key": page.dedup_key}
        try:
            async with self._http.post(self._url, json=document, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return Retry(type(error).__name__)
        if status == 429:
            return Retry("HTTP 429", throttled=True)
        if 400 <= status < 500:
            return Rejected(f"HTTP {status}")
        return Delivered() if status < 300 else Retry(f"HTTP {status}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()
