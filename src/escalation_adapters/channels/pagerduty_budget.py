"""The budget of PagerDuty's routing keys, for the notifier and for commands that load no HTTP client."""

from collections import Counter
from collections.abc import Mapping

from escalation_core import Budget, InvalidValue
from escalation_core.settings.pagerduty_url import PagerDutyAddress, is_pagerduty, parse_pagerduty

RATE, BURST, MIN_RATE = 1.5, 30, 0.001
"""Events a second for one routing key, events at once, and the least rate of a budget.

PagerDuty documents a limit of about 120 calls a minute for each integration key, counted over the last 60 seconds:
https://github.com/PagerDuty/developer-docs/blob/main/docs/events-API-v2/05-Rate-Limits.md.
This budget allows 30 + 60 * 1.5 events in a minute."""


def budgets_by_address(addresses: Mapping[str, PagerDutyAddress]) -> Mapping[str, Budget]:
    """Return the budget of each target. Targets with one routing key share the budget of this key."""
    sharing = Counter(address.routing_key for address in addresses.values())
    return {name: _share(sharing[address.routing_key]) for name, address in addresses.items()}


def pagerduty_budgets(urls: Mapping[str, str]) -> Mapping[str, Budget]:
    """Return the budgets of the targets whose URLs are PagerDuty's. A URL that is not valid has none."""
    found = {}
    for name, url in urls.items():
        if is_pagerduty(url):
            try:
                found[name] = parse_pagerduty(url, allow_http=True)
            except InvalidValue:
                continue
    return budgets_by_address(found)


def _share(targets: int) -> Budget:
    return Budget(rate=max(RATE / targets, MIN_RATE), burst=max(BURST // targets, 1))
