"""Settings: one strict reader, every problem at once, and no secret anywhere."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import EscalationPolicy, PauseSchedule, Route, Settings, SettingsError
from escalation_core.errors import Problem
from escalation_core.settings import SECRETS
from escalation_core.settings.fields import FIELDS

from .kit import MINUTE, SECOND

VARIABLES = {field.name: field.variable for field in FIELDS}
PLAIN = "hush-hush-hush-hush-hush-hush-32"
WHSEC = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
URL = "https://hooks.example/T0K3N"
TARGETS = json.dumps({"slack:ops": URL})


def problems(call: Callable[[], object]) -> dict[str, Problem]:
    """Return the problems that a call meets."""
    with pytest.raises(SettingsError) as caught:
        call()
    return caught.value.problems


def read(**variables: str) -> Settings:
    """Read variables."""
    return Settings.from_env(variables)


# --- defaults


def test_defaults_are_what_no_variables_give() -> None:
    """Settings() equals Settings.from_env({})."""
    assert Settings() == Settings.from_env({})


def test_defaults_are_those_of_the_rules() -> None:
    """Each default is the one that the rules name."""
    expected = {
        "ESCALATION_WORKER_ENABLED": "true",
        "ESCALATION_V1": "true",
        "ESC_DRY_RUN": "false",
        "MAX_ESC_LEVEL": "7",
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
        "ESC_ROUTES": None,
        "ESC_DEFAULT_TARGET": None,
        "ESC_HEARTBEAT_URL": None,
        "ESC_ALLOW_HTTP": "false",
        "OPS_HMAC_SECRET": None,
        "OPS_HMAC_SECRET_PREVIOUS": None,
        "OPS_ADMIN_ROLE": "ops_admin",
        "OPS_READ_ROLE": "ops_read",
    }
    assert expected == Settings().as_variables()
    assert ((), None) == (Settings().warnings, Settings().pause)


def test_default_policy_is_the_policys_own() -> None:
    """An engine and a bare policy agree without settings."""
    assert EscalationPolicy() == Settings().policy


def test_policy_is_made_of_the_settings() -> None:
    """Windows, maximum, snooze and tick reach the policy; the warning window is everybody's default."""
    settings = read(
        ESC_CRIT_ACK_MIN="1",
        ESC_WARN_ACK_MIN="2",
        ESC_ACK_MIN='{" High ": 3}',
        MAX_ESC_LEVEL="4",
        ESC_SNOOZE_MIN="6",
        ESC_TICK_MS="7000",
    )
    expected = EscalationPolicy(
        windows={"critical": MINUTE, "warning": 2 * MINUTE, "high": 3 * MINUTE},
        default_window=2 * MINUTE,
        max_level=4,
        snooze=6 * MINUTE,
        tick_interval=7 * SECOND,
    )
    assert expected == settings.policy


def test_pause_is_made_of_the_settings() -> None:
    """Cron expression, length and zone make the pause."""
    settings = read(ESC_PAUSE_CRON="0 22 * * *", ESC_PAUSE_MIN="480", ESC_TZ="Europe/Berlin")
    assert PauseSchedule("0 22 * * *", 480, "Europe/Berlin") == settings.pause


def test_table_has_every_field() -> None:
    """Each field that a variable may set has its row, in the same order."""
    fields = [field.name for field in attrs.fields(Settings) if field.init]
    assert fields == [*VARIABLES, "retry", "warnings"]


# --- what each variable takes

BOOLEANS = ["ESCALATION_WORKER_ENABLED", "ESCALATION_V1", "ESC_DRY_RUN", "ESC_ALLOW_HTTP"]
NUMBERS = {
    "MAX_ESC_LEVEL": (1, 100),
    "ESC_CRIT_ACK_MIN": (1, 525_600),
    "ESC_WARN_ACK_MIN": (1, 525_600),
    "ESC_SNOOZE_MIN": (0, 525_600),
    "ESC_TICK_MS": (1000, 600_000),
    "ESC_CANARY_PCT": (0, 100),
    "ESC_PAUSE_MIN": (1, 10_080),
}
ROUTE = '[{"targets": ["a"]}]'
LEGAL: list[tuple[str, str, str, Any]] = [
    ("ESC_ACK_MIN", '{"high": 10, "low": 525600}', "windows", {"high": 10 * MINUTE, "low": 525_600 * MINUTE}),
    ("ESC_ACK_MIN", "{}", "windows", {}),
    ("ESC_PAUSE_CRON", "0 22 * * 1-5", "pause_cron", "0 22 * * 1-5"),
    ("ESC_TZ", "Europe/Berlin", "tz", "Europe/Berlin"),
    ("ESC_DATABASE_URL", "sqlite:///incidents.db", "database_url", "sqlite:///incidents.db"),
    ("ESC_DATABASE_URL", "postgresql://u:p@h/d", "database_url", "postgresql://u:p@h/d"),
    ("ESC_TARGETS", TARGETS, "targets", {"slack:ops": URL}),
    ("ESC_TARGETS", '{"a": "HTTPS://h/x"}', "targets", {"a": "HTTPS://h/x"}),
    ("ESC_ROUTES", ROUTE, "routes", (Route(targets=["a"]),)),
    (
        "ESC_ROUTES",
        '[{"severity": "critical", "min_level": 3, "labels": {"a": "b"}, "targets": ["x", "y"]}]',
        "routes",
        (Route(severity="critical", min_level=3, labels={"a": "b"}, targets=["x", "y"]),),
    ),
    ("ESC_ROUTES", "[]", "routes", ()),
    ("ESC_DEFAULT_TARGET", "slack:ops", "default_target", "slack:ops"),
    ("OPS_HMAC_SECRET", PLAIN, "ops_hmac_secret", PLAIN),
    ("OPS_HMAC_SECRET", WHSEC, "ops_hmac_secret", WHSEC),
    ("OPS_HMAC_SECRET", "ü" * 16, "ops_hmac_secret", "ü" * 16),
    ("OPS_HMAC_SECRET_PREVIOUS", PLAIN, "ops_hmac_secret_previous", PLAIN),
    ("OPS_ADMIN_ROLE", "root", "ops_admin_role", "root"),
    ("OPS_READ_ROLE", "guest", "ops_read_role", "guest"),
]
COMPANIONS = {"ESC_PAUSE_CRON": {"ESC_PAUSE_MIN": "60"}, "ESC_PAUSE_MIN": {"ESC_PAUSE_CRON": "0 22 1 * *"}}


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_booleans_are_true_or_false(name: str, text: str, value: bool) -> None:
    """A boolean is exactly true or false."""
    field = next(field for field, variable in VARIABLES.items() if variable == name)
    assert value is getattr(Settings.from_env({name: text}), field)


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize("text", ["yes", "no", "1", "0", "True", "TRUE", "False", "on", "", " true", "true\n", "t"])
def test_anything_else_is_no_boolean(name: str, text: str) -> None:
    """What people write for booleans elsewhere is refused, with what to write."""
    found = problems(lambda: Settings.from_env({name: text}))
    assert {name: f"{text!r} is not a boolean; write true or false"} == found


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_taken_to_their_limits(name: str) -> None:
    """The least and the greatest value of each number are legal, and are what is in force."""
    for number in NUMBERS[name]:
        variables = {name: str(number), **COMPANIONS.get(name, {})}
        assert str(number) == Settings.from_env(variables).as_variables()[name]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_beyond_their_limits_are_refused(name: str) -> None:
    """One below the least and one above the greatest are refused, with the limits."""
    least, most = NUMBERS[name]
    for number in (least - 1, most + 1, -5, 10**14):
        variables = {name: str(number), **COMPANIONS.get(name, {})}
        found = problems(partial(Settings.from_env, variables))
        assert [name] == list(found)
        assert found[name].fault
        assert found[name].remedy


NO_NUMBERS = [
    "yes",
    "True",
    "10%",
    " 5",
    "5 ",
    "5\n",
    "+5",
    "1_000",
    "٣",
    "\uff15",
    "5.0",
    "5e0",
    "0x5",
    "",
    "--5",
    "5m",
    "-",
    "nan",
    "inf",
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", NO_NUMBERS, ids=lambda text: text[:20])
def test_what_is_no_number_in_ascii_digits_is_refused(name: str, text: str) -> None:
    """Numbers are ASCII digits and nothing else."""
    found = problems(lambda: Settings.from_env({name: text, **COMPANIONS.get(name, {})}))
    assert [name] == list(found)
    assert "write digits alone, for example 15" == found[name].remedy


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("text", "size"),
    [("1" * 20, "large"), ("9" * 5000, "large"), ("-" + "1" * 20, "small")],
    ids=lambda text: text[:20],
)
def test_number_of_many_digits_is_too_large(name: str, text: str, size: str) -> None:
    """A number of any length is a number, and the fault is its size."""
    found = problems(lambda: Settings.from_env({name: text, **COMPANIONS.get(name, {})}))
    assert [name] == list(found)
    assert found[name].fault.startswith(text[:20])
    assert found[name].fault.endswith(f"1 is too {size}" if "1" in text else f"9 is too {size}")


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
    """A number out of its limits is told as the variable has it, and the remedy counts in the same unit."""
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
    """A timedelta out of its limits is told as ``as_variables`` would write it."""
    assert {VARIABLES[field]: problem} == problems(lambda: Settings(**{field: value}))


def test_example_is_told_as_one() -> None:
    """A text that is not JSON is answered with an example."""
    assert 'is not JSON; write for example {"high": 10}' == problems(lambda: read(ESC_ACK_MIN="x"))["ESC_ACK_MIN"]


@pytest.mark.parametrize(("name", "text", "field", "value"), LEGAL)
def test_legal_texts(name: str, text: str, field: str, value: Any) -> None:
    """The text is read as this value."""
    settings = Settings.from_env({name: text, **COMPANIONS.get(name, {})})
    assert value == getattr(settings, field)


ILLEGAL: list[tuple[str, str, str]] = [
    *(
        (name, "", "empty")
        for name in VARIABLES.values()
        if "JSON" not in name and name in {"ESC_TZ", "OPS_ADMIN_ROLE"}
    ),
    ("ESC_ACK_MIN", "", "not JSON"),
    ("ESC_ACK_MIN", "high=10", "not JSON"),
    ("ESC_ACK_MIN", "[10]", "not a JSON object"),
    ("ESC_ACK_MIN", '{"high": 10.5}', "not a whole number"),
    ("ESC_ACK_MIN", '{"high": 10.0}', "not a whole number"),
    ("ESC_ACK_MIN", '{"high": "10"}', "not a whole number"),
    ("ESC_ACK_MIN", '{"high": true}', "not a whole number"),
    ("ESC_ACK_MIN", '{"high": null}', "not a whole number"),
    ("ESC_ACK_MIN", '{"high": NaN}', "holds NaN, which JSON has not"),
    ("ESC_ACK_MIN", '{"high": Infinity}', "holds Infinity, which JSON has not"),
    ("ESC_ACK_MIN", '{"high": 1, "high": 2}', "twice"),
    ("ESC_ACK_MIN", '{"high": 1, " HIGH": 2}', "second time"),
    ("ESC_ACK_MIN", '{"critical": 1}', "second time"),
    ("ESC_ACK_MIN", '{"Warning ": 1}', "second time"),
    ("ESC_ACK_MIN", '{" ": 1}', "empty"),
    ("ESC_ACK_MIN", '{"high": 0}', "'high' is 0"),
    ("ESC_ACK_MIN", '{"high": -1}', "'high' is -1"),
    ("ESC_ACK_MIN", '{"high": 525601}', "'high' is 525601"),
    ("ESC_ACK_MIN", '{"high": 1' + "0" * 400 + "}", "0 is too large"),
    ("ESC_ACK_MIN", '{"high": -1' + "0" * 20 + "}", "'high': -100000000000000000000 is too small"),
    ("ESC_ACK_MIN", "[" * 100_000, "not JSON"),
    ("ESC_PAUSE_CRON", "0 22 * *", "five fields"),
    ("ESC_PAUSE_CRON", "0 22 30 2 *", "not a valid cron expression"),
    ("ESC_PAUSE_CRON", " 0 22 * * *", "blanks"),
    ("ESC_TZ", "Mars", "not a valid time zone"),
    ("ESC_TZ", " UTC", "blanks"),
    ("ESC_DATABASE_URL", "", "is empty or has surrounding blanks"),
    ("ESC_DATABASE_URL", " sqlite:///x", "is empty or has surrounding blanks"),
    ("ESC_TARGETS", "", "not JSON"),
    ("ESC_TARGETS", "[]", "not a JSON object"),
    ("ESC_TARGETS", '{"a": 7}', "the URL of 'a' is not https"),
    ("ESC_TARGETS", '{"a": "http://h/x"}', "not https"),
    ("ESC_HEARTBEAT_URL", "http://h/T0K3N", "is not https"),
    ("ESC_HEARTBEAT_URL", "https://", "names no host"),
    *(
        ("ESC_TARGETS", f'{{"a": "https://{rest}"}}', "names no host, or no port")
        for rest in ("", "/x", "h:abc/x", "h:65536", ":443/x", "me:pass@/x", "?x")
    ),
    ("ESC_TARGETS", '{"a": "ftp://h/x"}', "not https"),
    ("ESC_TARGETS", '{"a": "https://h/x y"}', "not https"),
    ("ESC_TARGETS", '{"a": "https://h/x\\n"}', "not https"),
    ("ESC_TARGETS", '{"a": ""}', "not https"),
    ("ESC_TARGETS", '{" ": "https://h/x"}', "not a valid target name"),
    ("ESC_TARGETS", '{"https://h/x": "ops"}', "has a URL where a name belongs"),
    ("ESC_ROUTES", "", "not JSON"),
    ("ESC_ROUTES", "{}", "not a JSON list"),
    ("ESC_ROUTES", '["a"]', "not an object"),
    ("ESC_ROUTES", "[{}]", "names no targets"),
    ("ESC_ROUTES", '[{"targets": []}]', "empty"),
    ("ESC_ROUTES", '[{"targets": "a"}]', "route 1, targets is str"),
    ("ESC_ROUTES", '[{"targets": [7]}]', "route 1, targets is int"),
    ("ESC_ROUTES", '[{"targets": ["a"], "level": 1}]', "no field 'level'"),
    ("ESC_ROUTES", '[{"targets": ["a"], "min_level": "1"}]', "min_level is str"),
    ("ESC_ROUTES", '[{"targets": ["a"], "min_level": -1}]', "min_level is -1"),
    ("ESC_ROUTES", '[{"targets": ["a"], "severity": 1}]', "severity is int"),
    ("ESC_ROUTES", '[{"targets": ["a"], "labels": []}]', "labels is list"),
    ("ESC_ROUTES", '[{"targets": ["a"], "labels": {"x": 1}}]', "is int"),
    ("ESC_ROUTES", '[{"targets": ["a"]}, {"targets": [" "]}]', "route 2"),
    ("ESC_DEFAULT_TARGET", "", "not a valid target name"),
    ("ESC_DEFAULT_TARGET", "a\nb", "not a valid target name"),
    ("ESC_DEFAULT_TARGET", "https://hooks.example/T0K3N", "URL where a name belongs"),
    ("OPS_HMAC_SECRET", "", "is empty or has surrounding blanks"),
    ("OPS_HMAC_SECRET", "change_me", "is the placeholder"),
    ("OPS_HMAC_SECRET", "x" * 31, "shorter than 32 bytes"),
    ("OPS_HMAC_SECRET", PLAIN + " ", "is empty or has surrounding blanks"),
    ("OPS_HMAC_SECRET", "\t" + PLAIN, "is empty or has surrounding blanks"),
    ("OPS_HMAC_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY", "is not base64"),
    ("OPS_HMAC_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NQ==", "shorter than 24 bytes"),
    ("OPS_HMAC_SECRET", "whsec_" + "-" * 40, "is not base64"),
    ("OPS_HMAC_SECRET", "whsec_", "shorter than 24 bytes"),
    ("OPS_HMAC_SECRET_PREVIOUS", "x" * 31, "shorter than 32 bytes"),
    ("OPS_ADMIN_ROLE", " root", "blanks"),
    ("OPS_READ_ROLE", "", "empty"),
]


@pytest.mark.parametrize(("name", "text", "fault"), ILLEGAL, ids=lambda text: text[:40])
def test_illegal_texts(name: str, text: str, fault: str) -> None:
    """The text is refused under its variable's name, with the fault and a remedy."""
    found = problems(lambda: Settings.from_env({name: text, **COMPANIONS.get(name, {})}))
    assert [name] == list(found)
    assert fault in found[name].fault
    assert found[name].remedy
    assert f"{found[name].fault}; {found[name].remedy}" == found[name]


@pytest.mark.parametrize(
    ("severity", "shown"),
    [("a\\u0000", "'a\\x00' holds a NUL character"), ("\\ud800", "'\\ud800' holds a lone surrogate")],
)
def test_severity_that_no_store_holds_is_refused(severity: str, shown: str) -> None:
    """The windows' fingerprint goes to the database with the first beat: what it cannot hold is a problem now."""
    assert shown == problems(lambda: read(ESC_ACK_MIN=f'{{"{severity}": 10}}'))["ESC_ACK_MIN"].fault


def test_http_needs_to_be_allowed() -> None:
    """Targets over http are legal with ESC_ALLOW_HTTP alone."""
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
    """Beside ESC_TARGETS, routes and default name targets that it defines, or the log; without it code serves them."""
    assert [name] == list(problems(lambda: Settings.from_env({"ESC_TARGETS": TARGETS, **variables})))
    for targets in ({}, {"ESC_TARGETS": '{"a": "https://h/x"}'}):
        Settings.from_env({**targets, **variables})
    named_log = {key: text.replace('"a"', '"log"') if key == "ESC_ROUTES" else "log" for key, text in variables.items()}
    Settings.from_env({"ESC_TARGETS": TARGETS, **named_log})


# --- pause


def test_cron_needs_a_length() -> None:
    """A schedule without a length is an error that names the missing one."""
    found = problems(lambda: read(ESC_PAUSE_CRON="0 22 * * *"))
    assert ["ESC_PAUSE_CRON"] == list(found)
    assert "ESC_PAUSE_MIN" in found["ESC_PAUSE_CRON"].fault


def test_length_without_cron_is_warned_of() -> None:
    """A length alone pauses nothing, and says so."""
    settings = read(ESC_PAUSE_MIN="60")
    assert None is settings.pause
    assert ["ESC_PAUSE_MIN is set without ESC_PAUSE_CRON: nothing is paused; set both"] == list(settings.warnings)


def test_wrong_length_is_not_a_missing_one() -> None:
    """A length that is no number is one problem, not two."""
    found = problems(lambda: read(ESC_PAUSE_CRON="0 22 * * *", ESC_PAUSE_MIN="1h"))
    assert ["ESC_PAUSE_MIN"] == list(found)


def test_pause_that_never_ends_is_a_start_up_error() -> None:
    """A schedule that would keep everybody silent stops the start."""
    found = problems(lambda: read(ESC_PAUSE_CRON="0 22 * * *", ESC_PAUSE_MIN="1440"))
    assert "never ends" in found["ESC_PAUSE_CRON"].fault


def test_zone_is_checked_without_a_pause() -> None:
    """A typo in the zone shows today, not on the day somebody sets a pause."""
    assert ["ESC_TZ"] == list(problems(lambda: read(ESC_TZ="Europe/Berlln")))


# --- all at once


def test_all_problems_are_told_at_once() -> None:
    """Every wrong variable is named in one error, each with its fault and remedy."""
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
    """What another variable has to fit is unknown, so that no other variable is blamed."""
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
    """What is wrong whatever the other variable says is told at once."""
    assert set(variables) == set(problems(lambda: Settings.from_env(variables)))


def test_problems_of_several_fields_are_told_at_once() -> None:
    """A URL that is wrong hides neither a target that is missing nor a schedule without a length."""
    variables = {
        "ESC_TARGETS": '{"b": "http://h"}',
        "ESC_ROUTES": ROUTE,
        "ESC_DEFAULT_TARGET": "a",
        "ESC_PAUSE_CRON": "0 22 * * *",
        "ESC_TZ": "Mars",
    }
    assert set(variables) == set(problems(lambda: Settings.from_env(variables)))


def test_a_single_problem_is_one() -> None:
    """The error's text counts in the singular too, and hosts may catch it as a ValueError."""
    with pytest.raises(
        ValueError, match=r"^1 setting is wrong:\n  ESC_CANARY_PCT: is 101; give a whole number, 0 to 1"
    ):
        read(ESC_CANARY_PCT="101")


# --- warnings


def test_canary_of_0_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody escalates at 0 percent: that is legal, and said."""
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
    """An ESC_ name that is no setting is ignored, and the warning names the one that was probably meant."""
    settings = Settings.from_env({unknown: "T0K3N", "PATH": "/bin", "ESCAPE": "1"})
    assert [f"{unknown} is not a setting and was ignored; the nearest is {nearest}"] == list(settings.warnings)
    assert [settings.warnings[0]] == [record.getMessage() for record in caplog.records]
    assert Settings() == settings
    assert "T0K3N" not in caplog.text


def test_unrelated_variables_are_not_warned_of() -> None:
    """What does not begin with ESC_ is somebody else's."""
    assert () == Settings.from_env({"HOME": "/", "ESC": "1", "ESCALATION_V2": "x", "OPS_X": "y"}).warnings


# --- secrets


@pytest.mark.parametrize(
    ("name", "field", "text", "value"),
    [
        ("ESC_DATABASE_URL", "database_url", "postgresql://u:T0K3N@h/d\n", "postgresql://u:T0K3N@h/d"),
        ("ESC_TARGETS", "targets", TARGETS + "\r\n", {"slack:ops": URL}),
        ("OPS_HMAC_SECRET", "ops_hmac_secret", PLAIN + "\n\n", PLAIN),
        ("OPS_HMAC_SECRET_PREVIOUS", "ops_hmac_secret_previous", WHSEC, WHSEC),
    ],
)
def test_secrets_come_from_files(name: str, field: str, text: str, value: Any) -> None:
    """NAME_FILE is read through read_file, and line feeds at its end are no part of the secret."""
    asked: list[str] = []

    def read_file(path: str) -> str:
        asked.append(path)
        return text

    settings = Settings.from_env({f"{name}_FILE": "/run/secrets/x"}, read_file=read_file)
    assert (["/run/secrets/x"], value) == (asked, getattr(settings, field))


@pytest.mark.parametrize("name", SECRETS)
def test_secret_and_its_file_are_not_both_set(name: str) -> None:
    """Two sources of one secret are one too many."""
    found = problems(lambda: Settings.from_env({name: PLAIN, f"{name}_FILE": "/x"}, read_file=lambda path: PLAIN))
    assert [name] == list(found)
    assert "set one of the two" == found[name].remedy


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "error", [FileNotFoundError("T0K3N"), PermissionError("T0K3N"), UnicodeDecodeError("utf-8", b"T0K3N", 0, 1, "x")]
)
def test_unreadable_file_is_a_problem_of_its_variable(name: str, error: Exception) -> None:
    """A file that cannot be read is told by the kind of fault, without a word of it."""

    def read_file(path: str) -> str:
        raise error

    with pytest.raises(SettingsError) as caught:
        Settings.from_env({f"{name}_FILE": "/x"}, read_file=read_file)
    assert [name] == list(caught.value.problems)
    assert "T0K3N" not in str(caught.value)


@pytest.mark.parametrize("name", SECRETS)
def test_core_opens_no_files(name: str) -> None:
    """Without read_file a NAME_FILE is a problem whose remedy names the function."""
    found = problems(lambda: Settings.from_env({f"{name}_FILE": "/x"}))
    assert [name] == list(found)


def test_only_secrets_come_from_files() -> None:
    """Another setting's NAME_FILE is an unknown name."""
    settings = Settings.from_env({"ESC_TZ_FILE": "/x", "OPS_ADMIN_ROLE_FILE": "/x"}, read_file=lambda path: "x")
    assert 1 == len(settings.warnings)


HUSH = "hush"
WITH_SECRETS: list[dict[str, str]] = [
    {"OPS_HMAC_SECRET": HUSH},
    {"OPS_HMAC_SECRET": f" {HUSH} "},
    {"OPS_HMAC_SECRET": f"whsec_{HUSH}!"},
    {"OPS_HMAC_SECRET_PREVIOUS": HUSH},
    {"ESC_DATABASE_URL": f" postgresql://u:{HUSH}@h/d"},
    {"ESC_TARGETS": HUSH},
    {"ESC_TARGETS": f'["{HUSH}"]'},
    {"ESC_TARGETS": f'{{"a": "http://{HUSH}"}}'},
    {"ESC_TARGETS": f'{{"https://{HUSH}": "a"}}'},
    {"ESC_TARGETS": f'{{"https://{HUSH}": 7}}'},
    {"ESC_TARGETS": f'{{"a": "https://{HUSH}", "a": "https://{HUSH}"}}'},
    {"ESC_TARGETS": f'{{"a": ["{HUSH}"]}}'},
    {"ESC_TARGETS": f'{{"a": "https://{HUSH}\\n"}}'},
    {"ESC_DEFAULT_TARGET": f"https://{HUSH}"},
    {"ESC_ROUTES": f'[{{"targets": ["https://{HUSH}"]}}]'},
]


@pytest.mark.parametrize("variables", WITH_SECRETS, ids=str)
def test_no_secret_is_in_an_error(variables: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with a secret, neither the error nor what led to it nor the log holds any of it."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(variables)
    shown = [str(caught.value), repr(caught.value), repr(caught.value.problems), caplog.text]
    shown += [repr(error) for error in (caught.value.__cause__,) if error is not None]
    assert [] == [text for text in shown if HUSH in text]


def test_no_secret_is_in_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    """Settings show targets by name, and no URL, password or key."""
    caplog.set_level(logging.DEBUG)
    settings = Settings.from_env(
        {
            "ESC_DATABASE_URL": f"postgresql://u:{HUSH}@h/d",
            "ESC_TARGETS": f'{{"slack:ops": "https://{HUSH}"}}',
            "OPS_HMAC_SECRET": HUSH * 8,
            "OPS_HMAC_SECRET_PREVIOUS": HUSH * 9,
            "ESC_CANARY_PCT": "0",
        }
    )
    assert HUSH not in repr(settings) + str(settings) + caplog.text
    assert "targets=['slack:ops']" in repr(settings)


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
    """A value of a wrong type is reported under its variable's name, with what to give."""
    found = problems(lambda: Settings(**{field: value}))
    assert [VARIABLES[field]] == list(found)
    assert found[VARIABLES[field]].remedy


@pytest.mark.parametrize("value", ["text", None, 30])
def test_retry_is_a_policy(value: Any) -> None:
    """Times of delivery are a RetryPolicy, or the settings say so at once."""
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
    """Code sets spans finer than the variables' units."""
    assert span == getattr(Settings(**{field: span}), field)  # type: ignore[arg-type]


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
    """The limits are the same in code."""
    assert [VARIABLES[field]] == list(problems(lambda: Settings(**{field: span})))  # type: ignore[arg-type]


def test_changed_settings_are_checked_again() -> None:
    """A copy with another value has another policy, or is refused."""
    assert 3 == attrs.evolve(Settings(), max_level=3).policy.max_level
    assert ["MAX_ESC_LEVEL"] == list(problems(lambda: attrs.evolve(Settings(), max_level=0)))


# --- there and back

NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=10)
SEVERITIES = NAMES.filter(lambda name: name.casefold() not in ("critical", "warning"))
WHOLE_MINUTES = st.integers(1, 525_600).map(lambda minutes: timedelta(minutes=minutes))
ROUTES = st.builds(
    Route,
    severity=st.none() | NAMES,
    min_level=st.integers(0, 100),
    labels=st.dictionaries(NAMES, NAMES, max_size=2),
    targets=st.lists(st.just("log"), min_size=1, max_size=1),
)
ANY_SETTINGS: st.SearchStrategy[Settings] = st.builds(
    Settings,
    worker_enabled=st.booleans(),
    v1=st.booleans(),
    dry_run=st.booleans(),
    max_level=st.integers(1, 100),
    critical_window=WHOLE_MINUTES,
    warning_window=WHOLE_MINUTES,
    windows=st.dictionaries(SEVERITIES.map(str.casefold), WHOLE_MINUTES, max_size=3),
    snooze=WHOLE_MINUTES | st.just(timedelta()),
    tick_interval=st.integers(1000, 600_000).map(lambda number: timedelta(milliseconds=number)),
    canary_pct=st.integers(0, 100),
    pause_cron=st.none() | st.just("0 22 1 * *"),
    pause_length=st.integers(1, 10_080).map(lambda minutes: timedelta(minutes=minutes)),
    tz=st.sampled_from(["UTC", "Europe/Berlin"]),
    database_url=st.none() | st.just("sqlite:///x.db"),
    targets=st.dictionaries(NAMES, NAMES.map(lambda name: f"https://h/{name}"), max_size=2),
    routes=st.lists(ROUTES, max_size=2).map(tuple),
    default_target=st.none() | st.just("log"),
    allow_http=st.booleans(),
    ops_hmac_secret=st.none() | st.sampled_from([PLAIN, WHSEC]),
    ops_hmac_secret_previous=st.none() | st.sampled_from([PLAIN, WHSEC]),
    ops_admin_role=NAMES,
    ops_read_role=NAMES,
)


@given(ANY_SETTINGS)
def test_variables_lead_back_to_the_same_settings(settings: Settings) -> None:
    """What as_variables writes, from_env reads as the same settings."""
    variables = {name: text for name, text in settings.as_variables().items() if text is not None}
    assert settings == Settings.from_env(variables)


@given(st.dictionaries(st.sampled_from(list(VARIABLES.values())), st.text(max_size=20)))
def test_any_text_is_a_setting_or_a_problem(variables: dict[str, str]) -> None:
    """Whatever is in the environment, reading it gives settings or one error that names what is wrong."""
    named: set[str] = set()
    try:
        Settings.from_env(variables)
    except SettingsError as error:
        named = set(error.problems)
    assert named <= set(variables)
