"""The channel of a target's URL, which its scheme tells: ``pagerduty://`` is PagerDuty, ``https://`` is a webhook."""

from collections.abc import Mapping

from escalation_core import Budget, Notifier
from escalation_core.settings.pagerduty_url import is_pagerduty

from .pagerduty_budget import pagerduty_budgets
from .slack_budget import slack_budgets


def make_channels(urls: Mapping[str, str], *, allow_http: bool) -> list[Notifier]:
    """Return the notifiers of targets: one for each channel that a URL has. Only these load an HTTP client.

    Raises:
        InvalidValue: a URL is not valid. The message does not contain it.
    """
    found: list[Notifier] = []
    if pagerduty := {name: url for name, url in urls.items() if is_pagerduty(url)}:
        from .pagerduty import PagerDutyNotifier

        found.append(PagerDutyNotifier(pagerduty, allow_http=allow_http))
    if webhooks := {name: url for name, url in urls.items() if name not in pagerduty}:
        from .slack import SlackNotifier

        found.append(SlackNotifier(webhooks, allow_http=allow_http))
    return found


def channel_budgets(urls: Mapping[str, str]) -> Mapping[str, Budget]:
    """Return the budgets that the channels of targets have of their own, without an HTTP client."""
    return {**slack_budgets(urls), **pagerduty_budgets(urls)}
