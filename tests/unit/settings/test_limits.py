"""The limits of settings, set by a variable or in code, and the errors for values beyond them."""

from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Settings

from ..kit import SECOND
from .helpers import COMPANIONS, ROUTE, TARGETS, VARIABLES, problems, read

SHOWN = [
    ("ESC_CRIT_ACK_MIN", "-5", "is -5; give 1 to 525600 minutes"),
    ("ESC_WARN_ACK_MIN", "525601", "is 525601; give 1 to 525600 minutes"),
    ("ESC_SNOOZE_MIN", "-1", "is -1; give 0 to 525600 minutes"),
    ("ESC_TICK_MS", "50", "is 50; give 1000 to 600000 milliseconds"),
    ("ESC_PAUSE_MIN", "10081", "is 10081; give 1 to 10080 minutes"),
    ("ESC_ACK_MIN", '{"high": -5}', "'high' is -5; give 1 to 525600 minutes"),
    ("MAX_ESC_LEVEL", "101", "is 101; give a whole number, 1 to 100"),
    ("ESC_CANARY_PCT", "-5", "is -5; give a whole number, 0 to 100"),
]


@pytest.mark.parametrize(("name", "text", "problem"), SHOWN)
def test_value_is_shown_as_it_is_written(name: str, text: str, problem: str) -> None:
    """The error shows a number outside its limits as the variable has it, and the remedy uses the same unit."""
    assert {name: problem} == problems(lambda: Settings.from_env({name: text, **COMPANIONS.get(name, {})}))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("critical_window", timedelta(minutes=-5), "is -5; give 1 to 525600 minutes"),
        ("snooze", timedelta(seconds=-30), "is -0.5; give 0 to 525600 minutes"),
        ("tick_interval", timedelta(milliseconds=50), "is 50; give 1000 to 600000 milliseconds"),
        ("pause_length", timedelta(seconds=30), "is 0.5; give 1 to 10080 minutes"),
        ("windows", {"high": timedelta(minutes=-5)}, "'high' is -5; give 1 to 525600 minutes"),
        ("windows", {"high": 5}, "'high' is int; give a timedelta"),
    ],
)
def test_span_in_code_is_shown_in_the_variables_unit(field: str, value: Any, problem: str) -> None:
    """The error shows a timedelta outside its limits as ``as_variables`` would write it."""
    assert {VARIABLES[field]: problem} == problems(lambda: Settings(**{field: value}))


@pytest.mark.parametrize(
    ("field", "span"),
    [
        ("critical_window", timedelta()),
        ("warning_window", -SECOND),
        ("critical_window", timedelta(minutes=525_600, microseconds=1)),
        ("snooze", -SECOND),
        ("tick_interval", SECOND - timedelta(microseconds=1)),
        ("tick_interval", 600 * SECOND + timedelta(microseconds=1)),
    ],
)
def test_limits_in_code(field: str, span: timedelta) -> None:
    """Settings in code have the same limits as variables."""
    assert [VARIABLES[field]] == list(problems(lambda: Settings(**{field: span})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("severity", "shown"),
    [("a\\u0000", "'a\\x00' holds a NUL character"), ("\\ud800", "'\\ud800' holds a lone surrogate")],
)
def test_severity_that_no_store_holds_is_refused(severity: str, shown: str) -> None:
    """A severity that a database cannot hold is refused, since the first heartbeat writes the windows' fingerprint."""
    assert shown == problems(lambda: read(ESC_ACK_MIN=f'{{"{severity}": 10}}'))["ESC_ACK_MIN"].fault


def test_http_needs_to_be_allowed() -> None:
    """Targets over http are valid only with ESC_ALLOW_HTTP."""
    variables = {"ESC_TARGETS": '{"a": "http://h/x", "b": "https://h/x"}'}
    assert ["ESC_TARGETS"] == list(problems(lambda: Settings.from_env(variables)))
    assert 2 == len(Settings.from_env({**variables, "ESC_ALLOW_HTTP": "true"}).targets)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"ESC_ROUTES": ROUTE}, "ESC_ROUTES"),
        ({"ESC_DEFAULT_TARGET": "a"}, "ESC_DEFAULT_TARGET"),
    ],
)
def test_targets_that_are_named_are_defined(variables: dict[str, str], name: str) -> None:
    """If ESC_TARGETS is set, routes and default may name only its targets or the log; otherwise code serves them."""
    assert [name] == list(problems(lambda: Settings.from_env({"ESC_TARGETS": TARGETS, **variables})))
    for targets in ({}, {"ESC_TARGETS": '{"a": "https://h/x"}'}):
        Settings.from_env({**targets, **variables})
    named_log = {key: text.replace('"a"', '"log"') if key == "ESC_ROUTES" else "log" for key, text in variables.items()}
    Settings.from_env({"ESC_TARGETS": TARGETS, **named_log})


# --- pause


def test_cron_needs_a_length() -> None:
    """A schedule without a length is an error that names the missing variable."""
    found = problems(lambda: read(ESC_PAUSE_CRON="0 22 * * *"))
    assert ["ESC_PAUSE_CRON"] == list(found)
    assert "ESC_PAUSE_MIN" in found["ESC_PAUSE_CRON"].fault


def test_wrong_length_is_not_a_missing_one() -> None:
    """A length that is not a valid number is one problem, not two."""
    found = problems(lambda: read(ESC_PAUSE_CRON="0 22 * * *", ESC_PAUSE_MIN="1h"))
    assert ["ESC_PAUSE_MIN"] == list(found)


def test_pause_that_never_ends_is_a_start_up_error() -> None:
    """A pause that never ends is refused at the start, since the engine would never page."""
    found = problems(lambda: read(ESC_PAUSE_CRON="0 22 * * *", ESC_PAUSE_MIN="1440"))
    assert "never ends" in found["ESC_PAUSE_CRON"].fault


def test_zone_is_checked_without_a_pause() -> None:
    """A typo in the zone is refused even when no pause is set."""
    assert ["ESC_TZ"] == list(problems(lambda: read(ESC_TZ="Europe/Berlln")))
