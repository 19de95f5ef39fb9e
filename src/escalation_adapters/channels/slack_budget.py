"""The budget of Slack's webhooks, for the notifier and for commands that load no HTTP client."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from escalation_core import Budget

SLACK_BUDGET = Budget(rate=1, burst=3)
"""What Slack documents of a webhook: one message a second, and short bursts."""


def is_slack(host: str | None) -> bool:
    """Return whether a host is Slack's own."""
    return host is not None and f".{host}".endswith((".slack.com", ".slack-gov.com"))


def slack_budgets(urls: Mapping[str, str]) -> Mapping[str, Budget]:
    """Return the budgets of the targets whose URLs are Slack's own. A URL that cannot be read has none."""

    def host(url: str) -> str | None:
        try:
            return urlsplit(url).hostname
        except ValueError:
            return None

    return {name: SLACK_BUDGET for name, url in urls.items() if is_slack(host(url))}
