"""What health and the log say about policies while files, workers and rows change."""

import logging
from datetime import timedelta

import pytest

from escalation_core import Engine, Policies
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import START
from ..walking import CALM, Night, policies

OFFICE = {"office": {"zone": "UTC", "windows": [{"from": "09:00", "to": "17:00"}]}}


async def test_a_name_that_became_known_is_unknown_no_more(night: Night) -> None:
    """Health no longer counts a row whose policy is in the file by now."""
    await night.store.host.insert("k", severity="critical", first_seen=START, policy="opps")
    await night.tick(0)
    night.restart(policies(opps=CALM))
    await night.tick(1)
    assert "opps@now@critical" == night.pin
    assert {} == dict((await night.engine.health()).policies.stats.unknown_policies)


async def test_workers_that_are_gone_are_no_difference(night: Night) -> None:
    """After all workers were restarted with a new file, health does not warn of the old ones for a day."""
    await night.tick(0)
    other = Engine(night.store, notifiers=[night.notifier], policies=policies(ops=CALM), worker="new")
    for minute in range(1, 30):
        night.at(minute)
        await other.tick()
    assert [] == [warning for warning in (await other.health()).warnings if "different" in warning]


async def test_a_worker_without_a_file_is_a_difference(night: Night) -> None:
    """Health warns if one worker has a file and another has none."""
    await night.tick(0)
    other = Engine(night.store, notifiers=[night.notifier], worker="bare")
    await other.tick()
    assert any("different" in warning for warning in (await night.engine.health()).warnings)


async def test_a_worker_that_no_longer_has_a_file(night: Night) -> None:
    """A worker that is started again without its file does not count as one that has it."""
    for name in ("other", "same"):
        await Engine(night.store, notifiers=[night.notifier], policies=night.file, worker=name).tick()
    await Engine(night.store, notifiers=[night.notifier], worker="same").tick()
    assert night.file is not None
    assert {night.file.digest: 1, "": 1} == dict((await night.engine.health()).policies.stats.worker_digests)


async def test_recalc_logs_a_lost_version(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    """A lost version is in the log too if a recalculation finds it."""
    await night.at(0).open("k", severity="critical")
    night.store.versions.clear()
    night.restart(policies(ops=CALM))
    caplog.set_level(logging.WARNING)
    await night.engine.recalc()
    assert "lost_version" in caplog.text


async def test_another_policy_ends_the_putting_off(store: MemoryStore, clock: ManualClock) -> None:
    """A row that was put off twice and then got a policy without hours no longer makes health not ok."""
    file = Policies.from_mapping(
        {
            "policies": {"ops": {"levels": [{"after": "0m", "to": ["first"], "deliver": "office"}]}, "calm": CALM},
            "assign": [{"severity": "critical", "policy": "ops"}, {"severity": "low", "policy": "calm"}],
            "hours": OFFICE,
        }
    )
    night = Night(clock, store, file)
    await night.at(600).open("k", severity="critical")
    await night.tick(17 * 60)
    await night.tick(41 * 60)
    await night.engine.change_severity("k", "low")
    assert (await night.engine.health()).ok


async def test_a_probe_sees_what_was_put_off(store: MemoryStore, clock: ManualClock) -> None:
    """is_healthy and health agree."""
    file = Policies.from_mapping(
        {
            "policies": {"ops": {"levels": [{"after": "0m", "to": ["first"], "deliver": "office"}]}},
            "assign": [{"policy": "ops"}],
            "hours": OFFICE,
        }
    )
    night = Night(clock, store, file)
    await night.at(600).open("k")
    await night.tick(17 * 60)
    await night.tick(41 * 60)
    assert (await night.engine.health()).ok == await night.engine.is_healthy()


async def test_a_verb_logs_and_counts_what_its_planning_did(
    night: Night, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebind, and a lost version that a verb finds, are in the log and in the metrics."""
    counted: list[str] = []
    await night.at(0).open("k", severity="critical")
    night.store.versions.clear()
    night.restart(policies(ops=CALM))
    monkeypatch.setattr(night.engine._telemetry, "count_events", counted.extend)
    caplog.set_level(logging.INFO)
    await night.engine.snooze("k", timedelta(minutes=5))
    await night.engine.rebind("k", restart=True)
    assert ["lost_version", "restart", "rebind"] == counted
    assert "lost_version" in caplog.text
    assert "rebound to ops" in caplog.text


async def test_a_recalc_that_another_file_finished_is_asked_for_again(night: Night) -> None:
    """When all workers run the new file, the recalculation that it asked for is done by this file."""
    await night.tick(0)
    old = night.engine
    new = Engine(night.store, notifiers=[night.notifier], policies=policies(ops=CALM), worker="new")
    assert new.policies is not None
    night.at(1)
    await new.request_recalc()
    await old.recalc()
    await new.tick()
    await old.recalc()
    digest = new.policies.digest
    assert digest not in str(night.store.state["recalc"].fingerprint)
    for minute in range(2, 40):
        night.at(minute)
        await new.tick()
    assert digest in str(night.store.state["recalc"].fingerprint)


async def test_a_worker_in_dry_run_has_its_file(night: Night) -> None:
    """A dry run records the worker's file with its heartbeat, and requests no recalculation."""
    night.restart(night.file, dry_run=True)
    await night.tick(0)
    assert night.file is not None
    assert [night.file.digest] == list((await night.engine.health()).policies.stats.worker_digests)
    assert (await night.engine.health()).recalc.requested_at is None


async def test_a_worker_without_a_file_counts_unknown_policies(night: Night) -> None:
    """A worker that has met a row with a policy counts for metrics what health shows."""
    night.restart(None)
    assert not night.engine._versions.concerned
    await night.store.host.insert("k", severity="critical", first_seen=START, policy="opps")
    await night.tick(0)
    assert night.engine._versions.concerned
