"""Readers of variables: the valid texts, and the errors for all other texts."""

from functools import partial
from typing import Any

import pytest

from escalation_core import Route, Settings

from ..kit import MINUTE
from .helpers import COMPANIONS, PLAIN, ROUTE, ROUTING_KEY, TARGETS, URL, VARIABLES, WHSEC, problems, read

BOOLEANS = ["ESCALATION_WORKER_ENABLED", "ESCALATION_V1", "ESC_DRY_RUN", "ESC_ALLOW_HTTP"]
NUMBERS = {
    "MAX_ESC_LEVEL": (1, 100),
    "ESC_CRIT_ACK_MIN": (1, 525_600),
    "ESC_WARN_ACK_MIN": (1, 525_600),
    "ESC_SNOOZE_MIN": (0, 525_600),
    "ESC_TICK_MS": (1000, 600_000),
    "ESC_CANARY_PCT": (0, 100),
    "ESC_PAUSE_MIN": (1, 10_080),
    "ESC_FALLBACK_MIN": (1, 525_600),
    "ESC_BUNDLE_SEC": (1, 3600),
}
LEGAL: list[tuple[str, str, str, Any]] = [
    ("ESC_ACK_MIN", '{"high": 10, "low": 525600}', "windows", {"high": 10 * MINUTE, "low": 525_600 * MINUTE}),
    ("ESC_ACK_MIN", "{}", "windows", {}),
    ("ESC_PAUSE_CRON", "0 22 * * 1-5", "pause_cron", "0 22 * * 1-5"),
    ("ESC_TZ", "Europe/Berlin", "tz", "Europe/Berlin"),
    ("ESC_DATABASE_URL", "sqlite:///incidents.db", "database_url", "sqlite:///incidents.db"),
    ("ESC_DATABASE_URL", "postgresql://u:p@h/d", "database_url", "postgresql://u:p@h/d"),
    ("ESC_TARGETS", TARGETS, "targets", {"slack:ops": URL}),
    ("ESC_TARGETS", '{"a": "HTTPS://h/x"}', "targets", {"a": "HTTPS://h/x"}),
    ("ESC_TARGETS", f'{{"a": "pagerduty://{ROUTING_KEY}"}}', "targets", {"a": f"pagerduty://{ROUTING_KEY}"}),
    ("ESC_TARGETS", f'{{"a": "PagerDuty://{ROUTING_KEY}@h:1"}}', "targets", {"a": f"PagerDuty://{ROUTING_KEY}@h:1"}),
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


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_booleans_are_true_or_false(name: str, text: str, value: bool) -> None:
    """A boolean is exactly true or false."""
    field = next(field for field, variable in VARIABLES.items() if variable == name)
    assert value is getattr(Settings.from_env({name: text}), field)


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize("text", ["yes", "no", "1", "0", "True", "TRUE", "False", "on", "", " true", "true\n", "t"])
def test_anything_else_is_no_boolean(name: str, text: str) -> None:
    """A text that is not exactly true or false is refused, and the error says what to write."""
    found = problems(lambda: Settings.from_env({name: text}))
    assert {name: f"{text!r} is not a valid boolean; write true or false"} == found


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_taken_to_their_limits(name: str) -> None:
    """The least and the greatest value of each number are valid, and take effect."""
    for number in NUMBERS[name]:
        variables = {name: str(number), **COMPANIONS.get(name, {})}
        assert str(number) == Settings.from_env(variables).as_variables()[name]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_beyond_their_limits_are_refused(name: str) -> None:
    """A number one below the least or one above the greatest value is refused with the limits."""
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
    """A number must consist of ASCII digits only."""
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
    """A number of too many digits is refused for its size, not for its form."""
    found = problems(lambda: Settings.from_env({name: text, **COMPANIONS.get(name, {})}))
    assert [name] == list(found)
    assert found[name].fault.startswith(text[:20])
    assert found[name].fault.endswith(f"1 is too {size}" if "1" in text else f"9 is too {size}")


def test_example_is_told_as_one() -> None:
    """The error for a text that is not JSON gives an example."""
    assert 'is not JSON; write for example {"high": 10}' == problems(lambda: read(ESC_ACK_MIN="x"))["ESC_ACK_MIN"]


@pytest.mark.parametrize(("name", "text", "field", "value"), LEGAL)
def test_legal_texts(name: str, text: str, field: str, value: Any) -> None:
    """Each valid text is read as this value."""
    settings = Settings.from_env({name: text, **COMPANIONS.get(name, {})})
    assert value == getattr(settings, field)


ILLEGAL: list[tuple[str, str, str]] = [
    ("ESC_TZ", "", "empty"),
    ("OPS_ADMIN_ROLE", "", "empty"),
    ("ESC_ACK_MIN", "", "not JSON"),
    ("ESC_ACK_MIN", "high=10", "not JSON"),
    ("ESC_ACK_MIN", "[10]", "not a valid JSON object"),
    ("ESC_ACK_MIN", '{"high": 10.5}', "not a valid whole number"),
    ("ESC_ACK_MIN", '{"high": 10.0}', "not a valid whole number"),
    ("ESC_ACK_MIN", '{"high": "10"}', "not a valid whole number"),
    ("ESC_ACK_MIN", '{"high": true}', "not a valid whole number"),
    ("ESC_ACK_MIN", '{"high": null}', "not a valid whole number"),
    ("ESC_ACK_MIN", '{"high": NaN}', "holds NaN, which is not valid JSON"),
    ("ESC_ACK_MIN", '{"high": Infinity}', "holds Infinity, which is not valid JSON"),
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
    ("ESC_TARGETS", "[]", "not a valid JSON object"),
    ("ESC_TARGETS", '{"a": 7}', "the URL of 'a' is not https"),
    ("ESC_TARGETS", '{"a": "http://h/x"}', "not https"),
    ("ESC_HEARTBEAT_URL", "http://h/T0K3N", "is not https"),
    ("ESC_HEARTBEAT_URL", "https://", "names no host"),
    *(
        ("ESC_TARGETS", f'{{"a": "https://{rest}"}}', "names no host, or no port")
        for rest in ("", "/x", "h:abc/x", "h:65536", ":443/x", "me:pass@/x", "?x")
    ),
    *(
        ("ESC_TARGETS", f'{{"a": "pagerduty://{rest}"}}', "the URL of 'a' has not the form pagerduty://ROUTING_KEY")
        for rest in ("", "T0K3N", "T0K3N@h", f"{ROUTING_KEY}/x", f"{ROUTING_KEY}@h/x", f"{ROUTING_KEY[1:]}-")
    ),
    ("ESC_TARGETS", f'{{"a": "pagerduty://{ROUTING_KEY}@"}}', "the URL of 'a' names no valid host"),
    ("ESC_TARGETS", f'{{"a": "pagerduty://{ROUTING_KEY}@h:65536"}}', "the URL of 'a' names no valid host"),
    ("ESC_TARGETS", f'{{"a": "pagerduty+http://{ROUTING_KEY}@h"}}', "the URL of 'a' is not https"),
    ("ESC_TARGETS", '{"a": "ftp://h/x"}', "not https"),
    ("ESC_TARGETS", '{"a": "https://h/x y"}', "not https"),
    ("ESC_TARGETS", '{"a": "https://h/x\\n"}', "not https"),
    ("ESC_TARGETS", '{"a": ""}', "not https"),
    ("ESC_TARGETS", '{" ": "https://h/x"}', "not a valid target name"),
    ("ESC_TARGETS", '{"https://h/x": "ops"}', "has a URL where a name belongs"),
    ("ESC_ROUTES", "", "not JSON"),
    ("ESC_ROUTES", "{}", "not a valid JSON list"),
    ("ESC_ROUTES", '["a"]', "not a valid object"),
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
    """Each invalid text is refused under its variable's name, with the fault and a remedy."""
    found = problems(lambda: Settings.from_env({name: text, **COMPANIONS.get(name, {})}))
    assert [name] == list(found)
    assert fault in found[name].fault
    assert found[name].remedy
    assert f"{found[name].fault}; {found[name].remedy}" == found[name]
