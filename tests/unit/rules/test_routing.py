"""Routes: the targets of an incident's level, and pages without a target."""

from typing import Any

import pytest

from escalation_core import Engine, Incident, InvalidValue, Route, SettingsRouter
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import MINUTE, START, BrokenRouter, Named, incident, put, ticks

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
    """Severity, least level and labels are conditions; a condition that is not given always holds."""
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
    """The last matching route wins, and without a match the default target is used."""
    assert targets == tuple(SettingsRouter(routes, "default").route(incident(), level))


def test_without_default_no_target_is_named() -> None:
    """Without a match and a default, the router names no target."""
    assert () == tuple(SettingsRouter([TEAM]).route(incident(), 1))


def test_targets_are_named_once() -> None:
    """A target that is named twice counts once, at its first position."""
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
    """A route with an invalid field cannot be built, and the error holds no URL."""
    with pytest.raises(InvalidValue) as caught:
        Route(**given)
    assert field == caught.value.field
    assert "T0K3N" not in str(caught.value)


def test_longest_target_name() -> None:
    """A target name may have 200 characters."""
    assert ("ä" * 200,) == Route(targets=["ä" * 200]).targets


# --- pages without a target


UNROUTABLE: list[tuple[dict[str, Any], str, str]] = [
    ({"router": BrokenRouter()}, "", "unroutable: the router raised RuntimeError"),
    ({"router": Named()}, "", "unroutable: no route matches and there is no default target"),
    ({"router": Named("nowhere")}, "nowhere", "unroutable: no notifier serves this target"),
]


@pytest.mark.parametrize(("given", "target", "reason"), UNROUTABLE)
async def test_unroutable_page_is_born_dead_and_the_ladder_goes_on(
    given: dict[str, Any],
    target: str,
    reason: str,
    store: MemoryStore,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The escalation is recorded; its page is dead with the reason, counted and logged; the next level escalates."""
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier], **given)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick()
    assert 1 == report.escalated
    assert 1 == report.pages
    assert 1 == report.dead_pages
    clock.advance(30 * MINUTE)
    assert 1 == (await engine.tick()).escalated
    assert [(1, target, "dead", reason), (2, target, "dead", reason)] == [
        (page.level, page.target, page.state.value, page.reason) for page in store.pages.values()
    ]
    assert f"page is dead: incident 'k' level 1: {reason}" in caplog.text
    assert ("T0K3N" in caplog.text, []) == (False, notifier.pages)
    assert 2 == (await engine.health()).stats.dead


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("test", "unroutable: the router's answer is str"),
        (None, "unroutable: the router's answer is NoneType"),
        ([None], "unroutable: the router's answer is NoneType"),
        (["test", 5], "unroutable: the router's answer is int"),
        (["a\0b"], "unroutable: the router's answer holds a NUL character"),
        (["test", "l\udc80"], "unroutable: the router's answer holds a lone surrogate"),
        ([], "unroutable: no route matches and there is no default target"),
    ],
)
async def test_router_that_answers_nonsense_stops_no_ladder(
    answer: Any, reason: str, store: MemoryStore, clock: ManualClock
) -> None:
    """For an invalid answer of a router, the page is dead with the reason; escalations are recorded and go on."""

    class Nonsense:
        def route(self, incident: Incident, level: int) -> Any:
            return answer

    engine = Engine(store, notifiers=[RecordingNotifier()], router=Nonsense())
    await put(store, incident("k", next_due_at=START), incident("l", next_due_at=START))
    assert [2, 2] == await ticks(engine, clock, 5 * MINUTE, 30 * MINUTE)
    assert {reason} == {page.reason for page in await engine.dead()}


async def test_one_dead_target_does_not_hold_the_others(store: MemoryStore, clock: ManualClock) -> None:
    """If no notifier serves one of two targets, the engine still pages the other one."""
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier], router=Named("nowhere", "test", "test"))
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick()
    assert 2 == report.pages
    assert 1 == report.dead_pages
    assert 1 == len(notifier.pages)


async def test_single_target_is_the_default(store: MemoryStore, clock: ManualClock) -> None:
    """An engine with one target and no routes pages this target; with two targets, a route must choose."""
    for number, targets in enumerate([("one",), ("one", "two")]):
        notifier = RecordingNotifier(*targets)
        engine = Engine(store, notifiers=[notifier])
        await engine.open(f"k{number}", severity="critical")
        clock.advance(5 * MINUTE)
        report = await engine.tick()
        assert 1 == report.escalated
        assert number == report.dead_pages
        assert 1 - number == len(notifier.pages)
