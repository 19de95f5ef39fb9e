"""Text with invisible characters: ``visible`` writes them as escapes."""

from typing import Any

import pytest

from escalation_adapters.channels.slack_text import render
from escalation_core import Incident, Page
from escalation_core.checks import visible

from .kit import START

INVISIBLE = {
    "\x07": "\\x07",
    "\x7f": "\\x7f",
    "\x9f": "\\x9f",
    "\u202e": "\\u202e",
    "\u2066": "\\u2066",
    "\u200b": "\\u200b",
    "\u200f": "\\u200f",
    "\ufeff": "\\ufeff",
    "\u2060": "\\u2060",
    "\U000e0041": "\\U000e0041",
}


@pytest.mark.parametrize("char", INVISIBLE, ids=lambda char: f"{ord(char):x}")
def test_what_is_invisible_shows(char: str) -> None:
    """Each invisible character is an escape in ``visible`` and in a Slack message, so that no text is reordered."""
    assert f"a{INVISIBLE[char]}b" == visible(f"a{char}b")
    fields: dict[str, Any] = {"severity": f"s{char}s", "summary": f"t{char}t", "labels": {f"n{char}n": f"v{char}v"}}
    if not "\x00" <= char <= "\x9f":
        fields["incident_key"] = f"k{char}k"
    incident = Incident(**{"incident_key": "k", "first_seen": START, **fields})
    shown = render(Page(incident=incident, episode=1, level=1, target="t", dedup_key="d", at=incident.first_seen))
    assert char not in shown
    assert f"t{INVISIBLE[char]}t\n" in shown
    assert f"Incident {visible(incident.incident_key)}, severity" in shown
    assert f"n{INVISIBLE[char]}n=v{INVISIBLE[char]}v" in shown
    assert f"severity s{INVISIBLE[char]}s" in shown


def test_what_is_visible_stays() -> None:
    """Letters of other scripts, accents and emoji stay as they are."""
    assert visible("\N{WARNING SIGN}\ufe0f") == "\N{WARNING SIGN}\ufe0f"
    assert visible("\U0001f469\u200d\U0001f467") == "\U0001f469\\u200d\U0001f467"
    assert visible("Ådne ключ ディスク \U0001f4df é") == "Ådne ключ ディスク \U0001f4df é"
