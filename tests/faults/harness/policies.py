"""The policies files of runs, and their shortest times: a test cannot wait for a minute."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from escalation_adapters.policies_file import load_policies
from escalation_core import Policies

MIN_ACK_TIMEOUT = timedelta(seconds=1)
ALWAYS = {"zone": "Europe/Berlin", "windows": [{"days": "mon-sun", "from": "00:00", "to": "24:00"}]}
FILE: Mapping[str, Any] = {
    "policies": {
        # Two rounds of two levels. An acknowledgement that expires lets the walk go on.
        "ops": {
            "levels": [{"after": "1s", "to": ["ops"]}, {"after": "1s", "to": ["boss", "ops"], "deliver": "always"}],
            "repeat": {"times": 1, "after": "2s"},
            "ack_timeout": "2s",
        },
        # An acknowledgement that expires lets the walk begin again. The router names the targets.
        "days": {
            "levels": [{"after": "1s", "deliver": "always"}, {"after": "1s"}],
            "ack_timeout": "1s",
            "on_ack_expiry": "restart",
        },
    },
    "hours": {"always": ALWAYS},
    "assign": [{"severity": "critical", "policy": "ops"}, {"severity": "warning", "policy": "days"}],
}
"""The file of most runs. Incidents of any other severity have the built-in policy."""
ON_CALL: Mapping[str, Any] = {
    "policies": {
        # A gap, people who change, a schedule that ends during the run, and a person without a target.
        "ops": {
            "levels": [
                {"after": "1s", "to": ["oncall:gap"]},
                {"after": "1s", "to": ["oncall:quick"]},
                {"after": "1s", "to": ["oncall:gap", "oncall:ends"]},
                {"after": "1s", "to": ["oncall:unmapped"]},
            ],
            "ack_timeout": "2s",
        },
        # A schedule that is stale, and a gap at the end of each round.
        "days": {
            "levels": [{"after": "1s", "to": ["oncall:stale"]}, {"after": "1s", "to": ["oncall:gap"]}],
            "repeat": {"times": 1, "after": "1s"},
            "ack_timeout": "1s",
            "on_ack_expiry": "restart",
        },
        # Only gaps.
        "empty": {"levels": [{"after": "1s", "to": ["oncall:gap"]}] * 2, "repeat": {"times": 1}},
    },
    "assign": [
        {"severity": "critical", "policy": "ops"},
        {"severity": "warning", "policy": "days"},
        {"severity": "info", "policy": "empty"},
    ],
    "people": {"ann": "boss", "bob": "ops"},
}
"""A file of who is on call. A source has the schedules; see ``schedules.rosters``. The default target is ``ops``."""
SEVERITIES = ("critical", "critical", "warning", "warning", "info")


def changed(file: Mapping[str, Any], policy: str, **fields: Any) -> Mapping[str, Any]:
    """Return a file with other values of one policy."""
    return {**file, "policies": {**file["policies"], policy: {**file["policies"][policy], **fields}}}


def new_version(file: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """Return a file with hours of another name: a new version of each policy, which means the same."""
    hours = f"always-{number}"
    return {
        **file,
        "policies": {
            name: {**each, "levels": [{**level, "deliver": hours} for level in each["levels"]]}
            for name, each in file["policies"].items()
        },
        "hours": {hours: ALWAYS},
    }


def write(path: Path, file: Mapping[str, Any]) -> None:
    """Write a file in one step, because workers may read it at any time."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(file), encoding="utf-8")
    new.replace(path)


def load(path: str | Path) -> Policies:
    """Read a file."""
    return load_policies(path)


@contextmanager
def short_times() -> Iterator[None]:
    """Let files have an ``ack_timeout`` of a second."""
    limits: Any = import_module("escalation_core.rules.policies_limits")
    before, limits.MIN_ACK_TIMEOUT = limits.MIN_ACK_TIMEOUT, MIN_ACK_TIMEOUT
    try:
        yield
    finally:
        limits.MIN_ACK_TIMEOUT = before
