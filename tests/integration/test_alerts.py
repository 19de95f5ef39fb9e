"""Tests of the docs' alert rules: Prometheus' own tool checks when they fire, and they use metrics of the engine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs/how-to/prometheus"
SUFFIXES = {"s": "_seconds"}


@pytest.mark.system("promtool")
def test_rules() -> None:
    """``promtool`` accepts the rules, and its tests show that each alert fires when it should and not before."""
    for command in (["check", "rules", "escalation.rules.yml"], ["test", "rules", "escalation.rules.test.yml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=RULES, capture_output=True, text=True, timeout=60, check=False
        )
        assert 0 == done.returncode, done.stdout + done.stderr


def test_rules_speak_of_metrics_that_exist() -> None:
    """The rules use only names that a Prometheus exporter makes from the instruments in ``telemetry.md``."""
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
