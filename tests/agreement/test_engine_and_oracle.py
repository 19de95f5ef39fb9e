"""The engine and the oracle, which was written from the rules alone, agree on every night."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, note, settings

from tests.oracle.ladder import Settings
from tests.oracle.night import Night
from tests.oracle.night import play as play_oracle
from tests.oracle.oncall import Roster
from tests.oracle.strategies import nights
from tests.oracle.strategies_on_call import nights_on_call

from .engine_night import COMPARED, play, read

PARTS = 4
"""The number of runs that share the nights. They can run at the same time."""


def digest_of(file: Mapping[str, Any], name: str) -> str:
    return read(file).policies[name].digest


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def compare(
    parameters: Settings, file: dict[str, Any] | None, script: list[dict[str, Any]], roster: Roster | None = None
) -> None:
    oracle = Night(parameters, file, digest_of, roster)
    expected = play_oracle(oracle, script)
    found, engine = play(parameters, file, script, roster)
    for number, step in enumerate(script):
        keep = (*COMPARED, "policy_level", "refused")
        want = {name: expected[number][name] for name in keep if name in expected[number]}
        have = {name: found[number][name] for name in keep if name in found[number]}
        if want != have:
            note(f"step {number}: {step}")
            note(str({name: (want.get(name), have.get(name)) for name in keep if want.get(name) != have.get(name)}))
        assert want == have
    recorded = [(e.at, e.episode, e.level, e.policy, e.position) for e in oracle.planner.escalations]
    assert recorded == engine.escalations()
    assert [(e.episode, e.level, e.outcome) for e in oracle.planner.escalations] == engine.outcomes()
    paged = [
        (p.at, p.episode, p.level, p.target, None if p.via is None else f"oncall:{p.via}") for p in oracle.planner.pages
    ]
    assert sorted(paged, key=str) == sorted(engine.pages(), key=str)


@pytest.mark.parametrize("_", range(PARTS))
@settings(max_examples=settings().max_examples // PARTS)
@given(nights())
def test_engine_and_oracle_agree(_: int, night: tuple[Settings, dict[str, Any] | None, list[dict[str, Any]]]) -> None:
    """After each step of each script the row is the same, and so are all escalations."""
    compare(*night)


@pytest.mark.parametrize("_", range(PARTS))
@settings(max_examples=settings().max_examples // PARTS)
@given(nights_on_call())
def test_engine_and_oracle_agree_on_call(
    _: int, night: tuple[Settings, dict[str, Any], list[dict[str, Any]], Roster]
) -> None:
    """So are all rows, escalations and pages while people take turns, and schedules are empty, old or missing."""
    compare(*night)


AT = datetime(2026, 3, 8, 7, tzinfo=UTC)
POLICIES: dict[str, Any] = {
    "policies": {"ops": {"levels": [{"after": "0m"}]}, "day": {"levels": [{"after": "0m"}], "ack_timeout": "1m"}},
    "hours": {},
    "assign": [{"policy": "day"}, {"policy": "ops", "severity": "critical"}],
}


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                {"do": "open", "severity": "critical"},
                {"do": "tick"},
                {"do": "lose_texts"},
                {"do": "change_severity", "severity": "critical"},
                {"do": "file", "file": None},
                {"do": "tick"},
            ],
            id="a verb that changes nothing keeps no text",
        ),
        pytest.param(
            [
                {"do": "open", "severity": "sev3"},
                {"do": "tick"},
                {"do": "lose_texts"},
                {"do": "change_severity", "severity": "critical"},
                {"do": "acknowledge"},
                {"do": "tick"},
                {"do": "change_severity", "severity": "sev3"},
            ],
            id="the text of a policy that the row leaves is not kept",
        ),
        pytest.param(
            [
                {"do": "open", "severity": "sev3"},
                {"do": "lose_texts"},
                {"do": "resolve"},
                {"do": "open", "severity": "critical"},
                {"do": "acknowledge"},
                {"do": "tick"},
                {"do": "open", "policy": "day"},
            ],
            id="a resolved incident keeps no text",
        ),
    ],
)
def test_lost_texts(steps: list[dict[str, Any]]) -> None:
    """A lost text is kept again with the next write of an unresolved incident that is pinned to it, and not before."""
    compare(
        Settings(), POLICIES, [{"at": AT + number * timedelta(minutes=1), **step} for number, step in enumerate(steps)]
    )


def test_a_dry_run_writes_a_heartbeat() -> None:
    """After a step of the clock behind the heartbeat of a dry run, the next other tick recalculates the row."""
    steps: list[dict[str, Any]] = [
        {"do": "open", "at": AT, "severity": "critical"},
        {"do": "switch", "at": AT, "dry_run": True},
        {"do": "tick", "at": AT + timedelta(minutes=9)},
        {"do": "switch", "at": AT + timedelta(minutes=9), "dry_run": False},
        {"do": "tick", "at": AT - timedelta(minutes=20)},
    ]
    compare(Settings(), None, steps)


def test_a_step_of_the_clock_before_a_replan() -> None:
    """A recalculation after a step of the clock corrects the first_seen of a row that needs a replan."""
    steps: list[dict[str, Any]] = [
        {"do": "open", "at": AT, "severity": "sev3"},
        {"do": "tick", "at": AT},
        {"do": "host_write", "at": AT, "acknowledged_at": AT},
        {"do": "host_write", "at": AT, "acknowledged_at": None},
        {"do": "switch", "at": AT, "enabled": False},
        {"do": "tick", "at": AT - timedelta(minutes=20)},
    ]
    compare(Settings(), POLICIES, steps)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                {"do": "open", "severity": "critical"},
                {"do": "tick"},
                {"do": "file", "file": None},
                {"do": "change_severity", "severity": "sev3"},
                {"do": "set_back", "levels": 1},
                {"do": "tick"},
            ],
            id="an engine without a file leaves the pin of a row whose severity has changed",
        ),
        pytest.param(
            [
                {"do": "open", "severity": "sev3"},
                {"do": "tick"},
                {"do": "set_back", "levels": 1},
                {"do": "acknowledge"},
                {"do": "tick"},
                {"do": "tick"},
            ],
            id="the recorded level decides whether an acknowledgement that expires begins the walk again",
        ),
    ],
)
def test_levels_below_the_recorded_one(steps: list[dict[str, Any]]) -> None:
    """A row whose level lies below what the ledger has takes the recorded level, and is planned from there."""
    compare(
        Settings(), POLICIES, [{"at": AT + number * timedelta(minutes=1), **step} for number, step in enumerate(steps)]
    )
