"""The text of a Slack message."""

import pytest

from escalation_adapters.channels.slack import render
from escalation_core import Incident, Page
from escalation_core.checks import visible

from ...kit import START


@pytest.mark.parametrize("blank", ["  ", "\xa0", "\u2028", "\u3000"])
def test_two_keys_never_look_alike_by_white_space(blank: str) -> None:
    """White space of a summary is folded; of a key none is."""
    incident = Incident(incident_key=f"a{blank}b", first_seen=START, summary=f"a{blank}b\n")
    summary, key = render(Page(incident=incident, episode=1, level=1, target="t", dedup_key="d")).splitlines()
    assert "a b" == summary
    assert f"Incident a{visible(blank)}b, severity" in key
    assert "Incident a b, severity" not in key
