"""Settings as a whole: defaults, all problems at once, warnings, and values set in code."""

from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import BuiltinPolicy, PauseSchedule, Settings, SettingsError

from ..kit import MINUTE, SECOND
from .helpers import PLAIN, ROUTE, URL, VARIABLES, problems, read

# --- defaults


def test_defaults_are_what_no_variables_give() -> None:
    """Settings() equals Settings.from_env({})."""
    assert Settings() == Settings.from_env({})


def test_defaults_are_those_of_the_rules() -> None:
    """Each default is the one in the rules."""
    expected = {
        "ESCALATION_WORKER_ENABLED": "true",
        "ESCALATION_V1": "true",
        "ESC_DRY_RUN": "false",
        "MAX_ESC_LEVEL": None,
        "ESC_CRIT_ACK_MIN": "5",
        "ESC_WARN_ACK_MIN": "15",
        "ESC_ACK_MIN": None,
        "ESC_SNOOZE_MIN": "30",
        "ESC_TICK_MS": "60000",
        "ESC_CANARY_PCT": "100",
        "ESC_PAUSE_CRON": None,
        "ESC_PAUSE_MIN": None,
        "ESC_TZ": "UTC",
        "ESC_DATABASE_URL": None,
        "ESC_TARGETS": None,
        "ESC_BUDGETS": None,
        "ESC_BUNDLE_SEC": "10",
        "ESC_NOTICES": None,
        "ESC_FALLBACKS": None,
        "ESC_FALLBACK_MIN": "3",
        "ESC_SEVERITY_ORDER": '["critical", "error", "warning", "info"]',
        "ESC_ROUTES": None,
        "ESC_POLICIES": None,
        "ESC_DEFAULT_TARGET": None,
        "ESC_HEARTBEAT_URL": None,
        "ESC_ALLOW_HTTP": "false",
        "ESC_PLUGINS": None,
        "OPS_HMAC_SECRET": None,
        "OPS_HMAC_SECRET_PREVIOUS": None,
        "OPS_ADMIN_ROLE": "ops_admin",
        "OPS_READ_ROLE": "ops_read",
    }
    assert expected == Settings().as_variables()
    assert ((), None) == (Settings().warnings, Settings().pause)


def test_default_policy_is_the_policys_own() -> None:
    """The policy of default settings equals a default BuiltinPolicy."""
    assert BuiltinPolicy() == Settings().policy


def test_policy_is_made_of_the_settings() -> None:
    """Windows, maximum, snooze and tick reach the policy; the warning window is the default for other severities."""
    settings = read(
        ESC_CRIT_ACK_MIN="1",
        ESC_WARN_ACK_MIN="2",
        ESC_ACK_MIN='{" High ": 3}',
        MAX_ESC_LEVEL="4",
        ESC_SNOOZE_MIN="6",
        ESC_TICK_MS="7000",
    )
    expected = BuiltinPolicy(
        windows={"critical": MINUTE, "warning": 2 * MINUTE, "high": 3 * MINUTE},
        default_window=2 * MINUTE,
        max_level=4,
        snooze=6 * MINUTE,
        tick_interval=7 * SECOND,
    )
    assert expected == settings.policy


def test_maximum_level_is_known_to_be_set() -> None:
    """Settings tell whether MAX_ESC_LEVEL is set; the built-in policy uses 7 if it is not."""
    assert (None, 7) == (Settings().max_level, Settings().policy.max_level)
    assert (7, 7) == (read(MAX_ESC_LEVEL="7").max_level, read(MAX_ESC_LEVEL="7").policy.max_level)
    assert {"MAX_ESC_LEVEL": None} == {
        name: value for name, value in Settings().as_variables().items() if name == "MAX_ESC_LEVEL"
    }


def test_policies_file_is_a_path() -> None:
    """ESC_POLICIES is kept as text; nothing is read. An empty path is refused."""
    assert "no/such/file.yaml" == read(ESC_POLICIES="no/such/file.yaml").policies_file
    assert ["ESC_POLICIES"] == list(problems(lambda: read(ESC_POLICIES="")))
    assert ["ESC_POLICIES"] == list(problems(lambda: read(ESC_POLICIES=" a")))
    assert ["ESC_POLICIES"] == list(problems(lambda: Settings(policies_file="a\0b")))
    assert ["ESC_POLICIES"] == list(problems(lambda: Settings(policies_file=5)))  # type: ignore[arg-type] # wrong on purpose


def test_pause_is_made_of_the_settings() -> None:
    """The pause has the settings' cron expression, length and zone."""
    settings = read(ESC_PAUSE_CRON="0 22 * * *", ESC_PAUSE_MIN="480", ESC_TZ="Europe/Berlin")
    assert PauseSchedule("0 22 * * *", 480, "Europe/Berlin") == settings.pause


# --- all problems at once


def test_all_problems_are_told_at_once() -> None:
    """One error names every wrong variable with its fault and remedy."""
    wrong = {
        "ESCALATION_V1": "yes",
        "MAX_ESC_LEVEL": "0",
        "ESC_CRIT_ACK_MIN": "x",
        "ESC_WARN_ACK_MIN": "0",
        "ESC_ACK_MIN": "[]",
        "ESC_TICK_MS": "5",
        "ESC_CANARY_PCT": "101",
        "ESC_PAUSE_CRON": "x",
        "ESC_PAUSE_MIN": "0",
        "ESC_TZ": "Mars",
        "ESC_TARGETS": "{",
        "ESC_ROUTES": "{}",
        "OPS_HMAC_SECRET": "short",
        "OPS_ADMIN_ROLE": "",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(wrong)
    assert set(wrong) == set(caught.value.problems)
    assert str(caught.value).startswith("14 settings are wrong:\n  ")
    assert 14 == sum(f"\n  {name}: {problem}" in str(caught.value) for name, problem in caught.value.problems.items())


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"ESC_TARGETS": '{"a": "http://h"}', "ESC_ALLOW_HTTP": "yes"}, "ESC_ALLOW_HTTP"),
        ({"ESC_PAUSE_CRON": "0 22 * * *", "ESC_PAUSE_MIN": "1h"}, "ESC_PAUSE_MIN"),
        ({"ESC_TARGETS": "x", "ESC_ROUTES": ROUTE, "ESC_DEFAULT_TARGET": "a"}, "ESC_TARGETS"),
    ],
)
def test_text_that_is_not_legal_makes_no_further_problem(variables: dict[str, str], name: str) -> None:
    """An unreadable variable causes no problem for another variable whose check depends on it."""
    assert [name] == list(problems(lambda: Settings.from_env(variables)))


@pytest.mark.parametrize(
    "variables",
    [
        {"ESC_HEARTBEAT_URL": "https://", "ESC_ALLOW_HTTP": "yes"},
        {"ESC_TARGETS": '{"a": "ftp://h"}', "ESC_ALLOW_HTTP": "yes"},
        {"ESC_PAUSE_CRON": "* * * * *", "ESC_PAUSE_MIN": "1h"},
        {"ESC_PAUSE_CRON": "0 22 * * *", "ESC_TZ": ""},
    ],
)
def test_text_that_is_not_legal_hides_no_problem(variables: dict[str, str]) -> None:
    """A value that is wrong for every value of the other variable is reported together with it."""
    assert set(variables) == set(problems(lambda: Settings.from_env(variables)))


def test_problems_of_several_fields_are_told_at_once() -> None:
    """A wrong URL hides neither a missing target, a schedule without a length nor a wrong zone."""
    variables = {
        "ESC_TARGETS": '{"b": "http://h"}',
        "ESC_ROUTES": ROUTE,
        "ESC_DEFAULT_TARGET": "a",
        "ESC_PAUSE_CRON": "0 22 * * *",
        "ESC_TZ": "Mars",
    }
    assert set(variables) == set(problems(lambda: Settings.from_env(variables)))


def test_a_single_problem_is_one() -> None:
    """For one problem the error's text uses the singular, and hosts can catch it as a ValueError."""
    with pytest.raises(
        ValueError, match=r"^1 setting is wrong:\n  ESC_CANARY_PCT: is 101; give a whole number, 0 to 1"
    ):
        read(ESC_CANARY_PCT="101")


@given(st.dictionaries(st.sampled_from(list(VARIABLES.values())), st.text(max_size=20)))
def test_any_text_is_a_setting_or_a_problem(variables: dict[str, str]) -> None:
    """For any environment, from_env returns settings or raises one error that names the wrong variables."""
    named: set[str] = set()
    try:
        Settings.from_env(variables)
    except SettingsError as error:
        named = set(error.problems)
    assert named <= set(variables)


# --- warnings


def test_canary_of_0_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A canary of 0 percent is valid, and settings warn that no incident escalates."""
    settings = read(ESC_CANARY_PCT="0")
    assert ["ESC_CANARY_PCT is 0: no incident escalates; write 100 for all of them"] == list(settings.warnings)
    assert settings.warnings == tuple(record.getMessage() for record in caplog.records)
    assert 1 == len(Settings(canary_pct=0).warnings)


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("ESC_TICKS_MS", "ESC_TICK_MS"),
        ("ESC_SNOOZE_MINUTES", "ESC_SNOOZE_MIN"),
        ("ESC_MAX_LEVEL", "MAX_ESC_LEVEL"),
        ("ESC_TARGET", "ESC_TARGETS"),
        ("ESC_PAUSE_CRON_FILE", "ESC_PAUSE_CRON"),
    ],
)
def test_unknown_names_are_warned_of_with_the_nearest(
    unknown: str, nearest: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An ESC_ name that is not a setting is ignored, and the warning names the nearest setting."""
    settings = Settings.from_env({unknown: "T0K3N", "PATH": "/bin", "ESCAPE": "1"})
    assert [f"{unknown} is not a setting and was ignored; the nearest is {nearest}"] == list(settings.warnings)
    assert [settings.warnings[0]] == [record.getMessage() for record in caplog.records]
    assert Settings() == settings
    assert "T0K3N" not in caplog.text


def test_unrelated_variables_are_not_warned_of() -> None:
    """A variable that does not begin with ESC_ belongs to another program, and causes no warning."""
    assert () == Settings.from_env({"HOME": "/", "ESC": "1", "ESCALATION_V2": "x", "OPS_X": "y"}).warnings


def test_length_without_cron_is_warned_of() -> None:
    """A length without a cron expression pauses nothing, and settings warn of it."""
    settings = read(ESC_PAUSE_MIN="60")
    assert None is settings.pause
    assert ["ESC_PAUSE_MIN is set without ESC_PAUSE_CRON: nothing is paused; set both"] == list(settings.warnings)


# --- in code


WRONG_TYPES: list[tuple[str, Any]] = [
    ("worker_enabled", "true"),
    ("v1", 1),
    ("dry_run", None),
    ("allow_http", "false"),
    ("max_level", "7"),
    ("max_level", True),
    ("max_level", 7.0),
    ("canary_pct", "100"),
    ("canary_pct", True),
    ("canary_pct", None),
    ("critical_window", 5),
    ("warning_window", "15"),
    ("snooze", 30),
    ("tick_interval", 60_000),
    ("windows", [("high", MINUTE)]),
    ("windows", {"high": 10}),
    ("windows", {7: MINUTE}),
    ("pause_cron", 7),
    ("pause_length", 60),
    ("tz", None),
    ("database_url", 7),
    ("targets", ["a"]),
    ("targets", {"a": 7}),
    ("targets", {7: URL}),
    ("routes", 7),
    ("routes", [{"targets": ["a"]}]),
    ("default_target", 7),
    ("default_target", "https://hooks.example/T0K3N"),
    ("default_target", " "),
    ("ops_hmac_secret", PLAIN.encode()),
    ("ops_hmac_secret_previous", 7),
    ("ops_admin_role", None),
    ("ops_read_role", " "),
]


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES)
def test_wrong_types_in_code_are_problems_too(field: str, value: Any) -> None:
    """A value of a wrong type is reported under its variable's name, with a remedy."""
    found = problems(lambda: Settings(**{field: value}))
    assert [VARIABLES[field]] == list(found)
    assert found[VARIABLES[field]].remedy


@pytest.mark.parametrize("value", ["text", None, 30])
def test_retry_is_a_policy(value: Any) -> None:
    """``retry`` must be a RetryPolicy."""
    assert "retry" in problems(lambda: Settings(retry=value))


@pytest.mark.parametrize(
    ("field", "span"),
    [
        ("critical_window", timedelta(microseconds=1)),
        ("warning_window", 90 * SECOND),
        ("snooze", 1.5 * SECOND),
        ("tick_interval", 1.5 * SECOND),
    ],
)
def test_finer_steps_in_code(field: str, span: timedelta) -> None:
    """Settings in code take spans finer than the variables' units."""
    assert span == getattr(Settings(**{field: span}), field)  # type: ignore[arg-type]


def test_changed_settings_are_checked_again() -> None:
    """A changed copy of settings has the new policy, or is refused."""
    assert 3 == attrs.evolve(Settings(), max_level=3).policy.max_level
    assert ["MAX_ESC_LEVEL"] == list(problems(lambda: attrs.evolve(Settings(), max_level=0)))
