"""Whom the next escalation of an incident pages: the very targets that the tick then pages."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest

from escalation_core import Engine, Incident, Route, Router, Settings
from escalation_core.rules.next_pages import NextPages
from escalation_core.rules.policy import Step
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.conformance.harness import START

ROUTES = [
    Route(targets=("ops",)),
    Route(severity="critical", targets=("ops", "lead")),
    Route(severity="critical", min_level=2, targets=("boss", "unserved")),
    Route(labels={"team": "db"}, targets=("dba",)),
]
SERVED = ("ops", "lead", "boss", "dba")
FIRST = Step(policy="builtin", version="", position=1, total=7, levels=1)
SECOND = attrs.evolve(FIRST, position=2)


class Failing:
    """A router of a host that fails."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        raise RuntimeError(incident.incident_key)


def engine(
    clock: ManualClock, *, targets: Sequence[str] = SERVED, router: Router | None = None, **settings: Any
) -> Engine:
    given = {"routes": ROUTES, **settings}
    return Engine(
        MemoryStore(clock), settings=Settings(**given), notifiers=[RecordingNotifier(*targets)], router=router
    )


@pytest.mark.parametrize(
    ("severity", "labels", "steps", "expected"),
    [
        ("warning", {}, 0, NextPages(level=1, step=FIRST, targets=("ops",))),
        ("critical", {}, 0, NextPages(level=1, step=FIRST, targets=("ops", "lead"))),
        (
            "critical",
            {},
            1,
            NextPages(
                level=2,
                step=SECOND,
                targets=("boss",),
                faults=("unserved: unroutable: no notifier serves this target",),
            ),
        ),
        ("critical", {"team": "db"}, 1, NextPages(level=2, step=SECOND, targets=("dba",))),
    ],
)
async def test_the_tick_pages_them(severity: str, labels: dict[str, str], steps: int, expected: NextPages) -> None:
    """The targets depend on the severity, the labels and the level that the incident rises to, and the tick agrees."""
    clock = ManualClock(START)
    async with engine(clock) as one:
        await one.open("k", severity=severity, labels=labels)
        for _ in range(steps):
            clock.advance(timedelta(hours=1))
            await one.tick()
        before = await one.history("k")
        assert expected == before.next_pages
        clock.advance(timedelta(hours=1))
        await one.tick(deliver=False)
        paged = [page for page in (await one.history("k")).pages if page.level == steps + 1]
    assert expected.targets == tuple(page.target for page in paged if page.reason is None)
    assert len(expected.faults) == len([page for page in paged if page.reason is not None])


async def test_no_target() -> None:
    """Without a route, and if the host's router fails, the next escalation has no target, and says why."""
    clock = ManualClock(START)
    for one, fault in (
        (engine(clock, routes=[]), "unroutable: no route matches and there is no default target"),
        (engine(clock, router=Failing()), "unroutable: the router raised RuntimeError"),
    ):
        async with one:
            await one.open("k")
            assert NextPages(level=1, step=FIRST, targets=(), faults=(fault,)) == (await one.history("k")).next_pages


async def test_no_next_escalation() -> None:
    """An incident that is acknowledged, resolved, exhausted or unknown has no next pages."""
    clock = ManualClock(START)
    async with engine(clock, max_level=1) as one:
        for key in ("acknowledged", "resolved", "exhausted"):
            await one.open(key)
        await one.acknowledge("acknowledged")
        await one.resolve("resolved")
        clock.advance(timedelta(hours=1))
        await one.tick()
        for key in ("acknowledged", "resolved", "exhausted", "unknown"):
            assert (await one.history(key)).next_pages is None, key


async def test_what_delays_an_escalation_changes_no_target() -> None:
    """A snooze, a pause, a switch and the canary leave the targets of the next escalation as they are."""
    expected = NextPages(level=1, step=FIRST, targets=("ops",))
    for settings in ({}, {"v1": False}, {"canary_pct": 0}, {"dry_run": True}, {"worker_enabled": False}):
        clock = ManualClock(START)
        async with engine(clock, **settings) as one:
            await one.open("k")
            await one.snooze("k", timedelta(hours=2))
            await one.pause(timedelta(hours=1))
            assert expected == (await one.history("k")).next_pages
