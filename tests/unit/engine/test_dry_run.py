"""A dry run: it changes nothing, and reports the decisions of the tick that follows."""

from typing import Any

import attrs
import pytest

from escalation_core import Engine, Route, Settings, TickReport
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import HOUR, MINUTE, engine_of, picture
from .helpers import populate


def counts(report: TickReport) -> dict[str, Any]:
    """Return the counts of a report, without the fields that a dry run cannot fill."""
    without = {"dry_run", "duration", "batches", "delivery"}
    return {name: value for name, value in attrs.asdict(report).items() if name not in without}


SETTINGS: list[dict[str, Any]] = [
    {"windows": {"low": 2 * HOUR}},
    {"windows": {"low": 2 * HOUR}, "canary_pct": 50},
    {"windows": {"low": 2 * HOUR}, "max_level": 1},
    {"windows": {"low": 2 * HOUR}, "v1": False},
    {"windows": {"low": 2 * HOUR}, "worker_enabled": False},
    {"windows": {"low": 2 * HOUR}, "pause_cron": "0 1 * * *", "pause_length": HOUR},
    {"windows": {"low": 2 * HOUR}, "routes": [Route(severity="odd", targets=["nowhere"])]},
]


@pytest.mark.parametrize("fields", SETTINGS, ids=lambda fields: str(list(fields)[1:]))
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
async def test_dry_run_changes_nothing_and_tells_what_the_tick_will_do(
    fields: dict[str, Any], batch_size: int, store: MemoryStore, clock: ManualClock
) -> None:
    """A dry run writes no row, page, event or note, and reports the counts of the real tick after it."""
    await populate(store, clock)
    notifier = RecordingNotifier()
    engine = Engine(store, settings=Settings(**fields), notifiers=[notifier], batch_size=batch_size)
    await engine.tick(dry_run=True)  # writes a heartbeat, and pins the policy's fingerprint
    before = picture(store)
    rehearsed = await engine.tick(dry_run=True)
    assert ([], before) == (notifier.pages, picture(store))
    assert True is rehearsed.dry_run
    assert False is rehearsed.changed
    assert None is rehearsed.delivery
    real = await engine.tick()
    assert counts(real) == counts(rehearsed)


async def test_dry_run_names_whom_it_would_page(store: MemoryStore, clock: ManualClock) -> None:
    """Each escalation has the targets that the tick then pages, from the same router; and the reason if it has none."""
    for key, severity in (("disk", "critical"), ("invoice", "high")):
        await engine_of(store).open(key, severity=severity)
    clock.advance(HOUR)
    routes = [Route(severity="critical", targets=["ops", "leads", "old"])]
    notifier = RecordingNotifier("ops", "leads")
    engine = Engine(store, settings=Settings(routes=routes), notifiers=[notifier])
    rehearsed = {e.incident_key: (e.level, e.targets, e.detail) for e in (await engine.tick(dry_run=True)).examples}
    assert {
        "disk": (1, ("ops", "leads"), "old: unroutable: no notifier serves this target"),
        "invoice": (1, (), "unroutable: no route matches and there is no default target"),
    } == rehearsed
    await engine.tick()
    assert ["leads", "ops"] == sorted(page.target for page in notifier.pages)


async def test_population_meets_every_decision(store: MemoryStore, clock: ManualClock) -> None:
    """The rows of the dry run's test lead to every possible outcome."""
    await populate(store, clock)
    report = await engine_of(store, windows={"low": 2 * HOUR}).tick()
    assert (4, 1) == (report.escalated, report.exhausted)
    assert {"not_due": 2} == dict(report.rescheduled)
    assert {"exhausted": 1, "already_recorded": 1, "acknowledged": 2, "resolved": 1, "unreadable": 2} == dict(
        report.skipped
    )
    assert ({"odd": 1}, 55 * MINUTE) == (dict(report.unconfigured), report.latest)


async def test_dry_run_as_a_setting(store: MemoryStore, clock: ManualClock) -> None:
    """With ESC_DRY_RUN=true every tick is a dry run, and the engine never sends a page."""
    await populate(store, clock)
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier, dry_run=True, windows={"low": 2 * HOUR})
    first, second = await engine.tick(), await engine.tick()
    assert True is first.dry_run
    assert 4 == first.escalated
    assert 4 == second.escalated
    assert [] == notifier.pages
    assert (0, {}) == (len(store.ledger) - 1, store.pages)
