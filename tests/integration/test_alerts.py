"""The alert rules that the docs ship: what fires when, by Prometheus' own tool, on metrics that the engine has."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs/how-to/prometheus"
SUFFIXES = {"s": "_seconds"}


@pytest.mark.system("promtool")
def test_rules() -> None:
    """They are legal, and fire when they should and not before."""
    for command in (["check", "rules", "escalation.rules.yml"], ["test", "rules", "escalation.rules.test.yml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=RULES, capture_output=True, text=True, timeout=60, check=False
        )
        assert 0 == done.returncode, done.stdout + done.stderr


def test_rules_speak_of_metrics_that_exist() -> None:
    """Each name in the rules is one that a Prometheus exporter makes of an instrument in the table."""
    table = (ROOT / "docs/reference/telemetry.md").read_text(encoding="utf-8")
    made = set()
    for name, kind, unit in re.findall(r"^\| `(escalation[\w.]+)` \| (\w+) \| `([^`]+)` \|", table, re.MULTILINE):
        known = name.replace(".", "_") + SUFFIXES.get(unit, "")
        made.add(f"{known}_count" if kind == "histogram" else f"{known}_total" if kind == "counter" else known)
    used = set(
        re.findall(r"\bescalation_(?!target\b)\w+", (RULES / "escalation.rules.yml").read_text(encoding="utf-8"))
    )
    assert used
    assert set() == used - made
