"""Budgets, fallbacks and the order of severities as variables."""

from datetime import timedelta

import pytest

from escalation_core import Budget, Settings, SettingsError

TEXT = '{"slack:ops": {"rate": 1, "burst": 3}, "slack:bulk": {"rate": 0.5}, "log": null}'
BUDGETS = {"slack:ops": Budget(rate=1, burst=3), "slack:bulk": Budget(rate=0.5), "log": None}


def test_storm_settings_are_read_and_written() -> None:
    """Each variable reads back from what it was written to."""
    variables = {
        "ESC_BUDGETS": TEXT,
        "ESC_FALLBACKS": '{"slack:ops": "log"}',
        "ESC_FALLBACK_MIN": "5",
        "ESC_BUNDLE_SEC": "30",
        "ESC_SEVERITY_ORDER": '["P1", "P2"]',
    }
    settings = Settings.from_env(variables)
    assert BUDGETS == settings.budgets
    assert {"slack:ops": "log"} == settings.fallbacks
    assert (timedelta(minutes=5), timedelta(seconds=30)) == (settings.fallback_after, settings.bundle_after)
    assert ("P1", "P2") == tuple(settings.severity_order)
    written = {name: text for name, text in settings.as_variables().items() if name in variables and text is not None}
    assert variables.keys() == written.keys()
    assert settings == Settings.from_env(written)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {"rate": 0}}', "'a', rate is 0; give 0.001 to 10000 messages a second"),
        ('{"a": {"rate": -1}}', "'a', rate is -1; give"),
        ('{"a": {"rate": 1000000000}}', "'a', rate is 1000000000; give"),
        ('{"a": {"rate": 1, "burst": 0}}', "'a', burst is 0; give 1 to 1000 messages"),
        ('{"a": {"burst": 3}}', "'a' has no rate and burst; write"),
        ('{"a": {"rate": 1, "per": "s"}}', "'a' has no rate and burst; write"),
        ('{"a": 1}', "'a' has no rate and burst; write"),
        ("[]", "is not a valid JSON object; write for example"),
        ('{"https://hooks.example.org/T0KEN": {"rate": 0}}', "has a URL where a name belongs; map names to URLs"),
        ('{"https://hooks.example.org/T0KEN": 1}', "has a URL where a name belongs; map names to URLs"),
    ],
)
def test_bad_budgets_are_refused(text: str, said: str) -> None:
    """The message names the target, the fault and the remedy, and never a URL."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"ESC_BUDGETS": text})
    assert f"ESC_BUDGETS: {said}" in str(caught.value)
    assert "T0KEN" not in str(caught.value)


def test_budgets_of_unknown_targets_are_refused() -> None:
    """With targets in the settings a budget must name one of them."""
    with pytest.raises(SettingsError, match=r"ESC_BUDGETS: names the target 'b'; define it in ESC_TARGETS"):
        Settings(targets={"a": "https://example.org/"}, budgets={"b": Budget(rate=1)})
