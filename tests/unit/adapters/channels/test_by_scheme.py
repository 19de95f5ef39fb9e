"""The scheme of a target's URL tells its channel."""

import pytest

from escalation_adapters.channels.by_scheme import channel_budgets, make_channels
from escalation_core import Budget, InvalidValue

from ....pagerduty_server import KEY

WEBHOOK = "https://hooks.slack.com/T0HUSH"


def test_each_channel_gets_its_targets() -> None:
    """There is one notifier for each channel that a URL has, with the targets of this channel."""
    made = make_channels(
        {"slack:ops": WEBHOOK, "pd:ops": f"pagerduty://{KEY}", "pd:eu": f"PagerDuty://{KEY}@events.eu.pagerduty.com"},
        allow_http=False,
    )
    assert {"pagerduty": ("pd:ops", "pd:eu"), "slack": ("slack:ops",)} == {one.channel: one.targets for one in made}
    assert [] == make_channels({}, allow_http=False)
    assert ["slack"] == [one.channel for one in make_channels({"slack:ops": WEBHOOK}, allow_http=False)]


def test_budgets_are_those_of_the_notifiers() -> None:
    """A process that makes no notifier knows the same budgets."""
    urls = {"slack:ops": WEBHOOK, "own": "https://hooks.example.org/x", "pd:ops": f"pagerduty://{KEY}"}
    assert {"slack:ops": Budget(rate=1, burst=3), "pd:ops": Budget(rate=1.5, burst=30)} == channel_budgets(urls)


@pytest.mark.parametrize(
    "url",
    [
        f"pagerduty://{KEY}x",
        f"pagerduty+http://{KEY}@127.0.0.1",
        f"pagerduty://{KEY}@xn--\u00df-",
        f"pagerduty2://{KEY}",
    ],
)
def test_bad_urls_are_refused_without_showing_them(url: str) -> None:
    """The error names the target alone."""
    with pytest.raises(InvalidValue, match="'pd:ops'") as caught:
        make_channels({"pd:ops": url}, allow_http=False)
    assert "R0UT1NG" not in str(caught.value)
