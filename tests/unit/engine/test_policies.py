"""The policies of an engine: the file in force, a file that is refused, reloads, and stores without policies."""

from typing import Any

import pytest

from escalation_core import Engine, InvalidValue, Policies, PoliciesError
from escalation_core.model import NEEDS_REPLAN
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import MINUTE, START
from ..walking import CALM, FILE, OPS, Night, policies


def test_a_file_that_does_not_fit(store: MemoryStore) -> None:
    """A file that names a target that no notifier serves, or is longer than MAX_ESC_LEVEL, is refused as a whole."""
    night = Night(ManualClock(START), store)
    with pytest.raises(PoliciesError, match=r'policies.ops.levels\[0\].to: names the target "frist"'):
        night.engine.use_policies(policies(ops={"levels": [{"after": "0m", "to": ["frist"]}]}))
    assert night.file is night.engine.policies
    with pytest.raises(PoliciesError, match=r"policies.ops: has 6 escalations, and MAX_ESC_LEVEL is 5"):
        Night(ManualClock(START), store, settings={"max_level": 5})
    assert Night(ManualClock(START), store, settings={"max_level": 6}).file is not None
    with pytest.raises(InvalidValue, match=r"^policies: is dict; give Policies.from_mapping"):
        night.engine.use_policies(dict(FILE))  # type: ignore[arg-type]


async def test_a_file_that_is_refused_at_run_time(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    """A faulty file is in health and in the log, and the one before stays; a good one takes the fault back."""
    await night.at(0).open("k", severity="critical")
    night.engine.refuse_policies("it is empty")
    health = await night.engine.health()
    said = "the policies file could not be loaded, and the one before stays in force: it is empty"
    assert ("it is empty", night.file and night.file.digest) == (health.policies.fault, health.policies.digest)
    assert said in health.warnings
    assert said in caplog.text
    other = policies(ops={**CALM, "anchor": "first_seen", "ack_timeout": "1h"})
    night.engine.use_policies(other)
    await night.tick(1)
    assert "policies: policies.ops.anchor: after a long acknowledgement" in caplog.text
    health = await night.engine.health()
    assert (None, other.digest) == (health.policies.fault, health.policies.digest)
    assert "ops@now@critical" == night.pin


async def test_workers_with_different_files(night: Night) -> None:
    """Health warns if the workers' files differ; each heartbeat says which file its worker has."""
    await night.tick(0)
    assert [] == list((await night.engine.health()).policies.warnings())
    other = Engine(night.store, notifiers=[night.notifier], policies=policies(ops=CALM), worker="other")
    await other.tick()
    health = await other.health()
    assert [1, 1] == list(health.policies.stats.worker_digests.values())
    assert any("the workers run different policies files: 1 run " in warning for warning in health.warnings)


async def test_a_reload_is_asked_for(night: Night) -> None:
    """A request reaches a worker with its next heartbeat, and is in the audit."""
    await night.tick(0)
    assert None is night.engine.reload_requested_at
    night.at(1)
    assert START + MINUTE == await Engine(night.store).request_reload(by="ann")
    await night.tick(2)
    assert START + MINUTE == night.engine.reload_requested_at
    assert [("reload", "ann")] == [(note.action, note.actor) for note in night.store.notes.values()]


async def test_a_store_without_policies(clock: ManualClock) -> None:
    """An engine with a file refuses a store that keeps no walks, and so do the verbs about policies."""

    class Bare(MemoryStore):
        async def read(self, work: Any) -> Any:
            return await super().read(lambda tx: work(_Bare(tx)))

        async def transact(self, work: Any) -> Any:
            return await super().transact(lambda tx: work(_Bare(tx)))

    store = Bare(clock)
    with pytest.raises(InvalidValue, match=r"^store: does not keep policies"):
        await Engine(
            store, policies=policies(ops=OPS), notifiers=[RecordingNotifier("first", "second", "lead")]
        ).check()
    plain = Engine(store)
    await plain.check()
    await plain.open("k")
    assert (await plain.health()).policies.digest is None
    with pytest.raises(InvalidValue, match=r"^store: does not keep policies"):
        await plain.request_reload()
    with pytest.raises(InvalidValue, match=r"^store: does not keep policies"):
        await plain.pinned("ops")


class _Bare:
    """A transaction without the port for policies."""

    def __init__(self, tx: Any) -> None:
        for name in ("incidents", "ledger", "outbox", "journal", "operations", "requests", "now", "savepoint"):
            setattr(self, name, getattr(tx, name))


async def test_an_engine_that_lacks_its_file_assigns_nothing(night: Night) -> None:
    """If the settings name a file that the engine does not have, a new incident waits for a worker that has it."""
    night.restart(None, policies_file="policies.yaml")
    night.engine.refuse_policies("a: is wrong; mend it\n  b: is wrong, too; mend it")
    opened = await night.at(0).open("k", severity="critical")
    assert (NEEDS_REPLAN, None) == (opened.next_due_at, opened.policy_pin)
    with pytest.raises(InvalidValue, match=r"^policy: 'ops' is not known without a policies file; give the engine its"):
        await night.engine.open("other", policy="ops")
    [warning] = [one for one in (await night.engine.health()).warnings if "loaded" in one]
    assert warning.endswith("and this process works without it: a: is wrong; mend it b: is wrong, too; mend it")
    night.restart(Policies.from_mapping(FILE), policies_file="policies.yaml")
    await night.tick(0)
    assert ([(0, 1)], "ops@now@critical") == (night.rises, night.pin)


async def test_forecast_of_a_rebind(night: Night) -> None:
    """It counts the incidents of older versions, those that escalate soon, and those that begin again; no others."""
    for key in ("k", "acked", "ended", "calm"):
        await night.at(0).open(key, severity="low" if key == "calm" else "critical")
    await night.ticks(0, 20)
    await night.engine.acknowledge("acked")
    await night.engine.resolve("ended")
    forecast = await night.engine.forecast_rebind("ops", restart=True)
    assert (2, 0, 0, 0) == (forecast.versions.total(), forecast.older, forecast.pages, forecast.restarts)
    shorter = policies(ops={"levels": [{"after": "1m", "to": ["first"]}, {"after": "1m", "to": ["first"]}]})
    night.engine.use_policies(shorter)
    forecast = await night.engine.forecast_rebind("ops")
    assert (2, 1, 2) == (forecast.older, forecast.pages, forecast.restarts)
    assert shorter.policies["ops"].digest == forecast.version
    for name, said in (("opps", "the nearest is 'ops'"), ("builtin", "has no versions")):
        with pytest.raises(InvalidValue, match=said):
            await night.engine.forecast_rebind(name)
