"""Shared by tests of settings: helpers that read variables and problems, and valid values."""

import json
from collections.abc import Callable

import pytest

from escalation_core import Settings, SettingsError
from escalation_core.errors import Problem
from escalation_core.settings.fields import FIELDS

VARIABLES = {field.name: field.variable for field in FIELDS}
PLAIN = "hush-hush-hush-hush-hush-hush-32"
WHSEC = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
ROUTING_KEY = "T0K3N" * 6 + "12"
URL = "https://hooks.example/T0K3N"
TARGETS = json.dumps({"slack:ops": URL})
ROUTE = '[{"targets": ["a"]}]'
COMPANIONS = {"ESC_PAUSE_CRON": {"ESC_PAUSE_MIN": "60"}, "ESC_PAUSE_MIN": {"ESC_PAUSE_CRON": "0 22 1 * *"}}


def problems(call: Callable[[], object]) -> dict[str, Problem]:
    """Return the problems that a call raises."""
    with pytest.raises(SettingsError) as caught:
        call()
    return caught.value.problems


def read(**variables: str) -> Settings:
    """Return the settings read from variables."""
    return Settings.from_env(variables)
