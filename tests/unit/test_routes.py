"""Who is paged."""

from typing import Any

import pytest

from escalation_core import InvalidValue, Route, SettingsRouter

from .kit import incident

CRITICAL = Route(severity="critical", targets=["crit"])
HIGH = Route(min_level=3, targets=["boss", "crit"])
TEAM = Route(labels={"team": "db"}, targets=["dba"])
EVERYBODY = Route(targets=["all"])


@pytest.mark.parametrize(
    ("route", "fields", "level", "matches"),
    [
        (EVERYBODY, {}, 1, True),
        (EVERYBODY, {"severity": None}, 1, True),
        (EVERYBODY, {}, 0, False),
        (CRITICAL, {}, 1, True),
        (CRITICAL, {"severity": " CRITICAL\n"}, 1, True),
        (CRITICAL, {"severity": "warning"}, 1, False),
        (CRITICAL, {"severity": None}, 1, False),
        (Route(severity=" Critical ", targets=["x"]), {}, 1, True),
        (Route(severity="", targets=["x"]), {"severity": None}, 1, True),
        (Route(severity="", targets=["x"]), {}, 1, False),
        (HIGH, {}, 2, False),
        (HIGH, {}, 3, True),
        (HIGH, {}, 100, True),
        (TEAM, {"labels": {"team": "db", "x": "y"}}, 1, True),
        (TEAM, {"labels": {"team": "DB"}}, 1, False),
        (TEAM, {"labels": {"x": "db"}}, 1, False),
        (TEAM, {}, 1, False),
        (Route(severity="critical", min_level=2, labels={"a": "1"}, targets=["x"]), {"labels": {"a": "1"}}, 2, True),
        (Route(severity="critical", min_level=2, labels={"a": "1"}, targets=["x"]), {"labels": {"a": "1"}}, 1, False),
    ],
)
def test_route_matches_when_every_condition_does(
    route: Route, fields: dict[str, Any], level: int, matches: bool
) -> None:
    """Severity, least level and labels are conditions; what is not given is none."""
    assert matches is route.matches(incident(**fields), level)


@pytest.mark.parametrize(
    ("routes", "level", "targets"),
    [
        ([EVERYBODY, CRITICAL], 1, ("crit",)),
        ([CRITICAL, EVERYBODY], 1, ("all",)),
        ([CRITICAL, HIGH], 1, ("crit",)),
        ([CRITICAL, HIGH], 3, ("boss", "crit")),
        ([HIGH, CRITICAL], 3, ("crit",)),
        ([TEAM], 1, ("default",)),
        ([], 1, ("default",)),
    ],
)
def test_last_route_that_matches_wins(routes: list[Route], level: int, targets: tuple[str, ...]) -> None:
    """Later routes are more special; without a match it is the default target."""
    assert targets == tuple(SettingsRouter(routes, "default").route(incident(), level))


def test_without_default_nobody_is_named() -> None:
    """No match and no default is nobody."""
    assert () == tuple(SettingsRouter([TEAM]).route(incident(), 1))


def test_targets_are_named_once() -> None:
    """A target that is named twice is paged once, in the order of the first."""
    assert ("b", "a") == Route(targets=["b", "a", "b"]).targets


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("targets", {"targets": []}),
        ("targets", {"targets": "crit"}),
        ("targets", {"targets": {"crit"}}),
        ("targets", {"targets": None}),
        ("targets", {"targets": [7]}),
        ("targets", {"targets": [" "]}),
        ("targets", {"targets": ["x" * 201]}),
        ("targets", {"targets": ["a\n"]}),
        ("targets", {"targets": ["https://hooks.example/T0K3N"]}),
        ("min_level", {"targets": ["a"], "min_level": -1}),
        ("min_level", {"targets": ["a"], "min_level": True}),
        ("min_level", {"targets": ["a"], "min_level": 1.0}),
        ("severity", {"targets": ["a"], "severity": 7}),
        ("labels", {"targets": ["a"], "labels": ["x"]}),
        ("labels['x']", {"targets": ["a"], "labels": {"x": 7}}),
    ],
)
def test_bad_routes_are_refused_by_name(field: str, given: dict[str, Any]) -> None:
    """A route with a wrong field cannot be built, and no URL is in the error."""
    with pytest.raises(InvalidValue) as caught:
        Route(**given)
    assert field == caught.value.field
    assert "T0K3N" not in str(caught.value)


def test_longest_target_name() -> None:
    """200 printable characters are a name."""
    assert ("ä" * 200,) == Route(targets=["ä" * 200]).targets
