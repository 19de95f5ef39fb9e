"""Each action of the operators' endpoints has its effect, its answer and its audit entry."""

import asyncio

import attrs
import pytest

from escalation_core import Engine
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .problems import ACTIONS, MINUTE, SETTINGS, is_problem
from .service import BINDINGS, Service, cookie, serving


async def test_tick(service: Service) -> None:
    """``tick`` escalates, delivers, and answers with the replaced worker's count. The audit names the principal."""
    service.clock.advance(5 * MINUTE)
    dry = await service.act("tick", dry_run=True)
    assert 200 == dry.status
    assert 1 == dry.json["escalations"]
    assert True is dry.json["dry_run"]
    assert [["test"]] == [example["targets"] for example in dry.json["examples"]]
    answer = await service.act("tick", reason="is it alive?")
    assert 200 == answer.status
    assert 1 == answer.json["escalations"]
    assert 1 == answer.json["delivery"]["delivered"]
    assert 0 == (await service.act("tick")).json["escalations"]
    [first, last] = [e for e in await service.engine.audit(service.clock() - MINUTE) if e.action == "tick"]
    assert "ada" == last.actor
    assert None is last.reason
    assert "is it alive?" == first.reason


async def test_recalc_is_asked_for(service: Service) -> None:
    """``recalc`` answers 202 at once. The next tick of a worker finishes the recalculation."""
    answer = await service.act("recalc", reason="the SLA changed")
    [asked] = [e for e in await service.engine.audit(service.clock()) if e.action == "recalc"]
    assert "recalc" == asked.action
    assert "ada" == asked.actor
    assert "the SLA changed" == asked.reason
    assert (202, True) == (answer.status, answer.json["recalc"]["running"])
    service.clock.advance(MINUTE)
    await service.engine.tick()
    assert (await service.engine.health()).recalc.finished_at is not None


async def test_pause_and_resume(service: Service) -> None:
    """A pause stops escalation until its end or a resume. Health shows the principal and the reason."""
    answer = await service.act("pause", minutes=60, reason="deploying")
    assert {"paused_until": (service.clock() + 60 * MINUTE).isoformat()} == answer.json
    service.clock.advance(30 * MINUTE)
    assert 0 == (await service.act("tick")).json["escalations"]
    health = (await service.get("/health")).json
    assert "paused" == health["mode"]
    assert "ada" == health["pausedBy"]
    assert "deploying" == health["pauseReason"]
    assert {"ended": 1, "schedule_lifted_until": None} == (await service.act("resume", override_schedule=True)).json
    assert 1 == (await service.act("tick")).json["escalations"]
    until = (service.clock() + 24 * 60 * MINUTE).isoformat()
    assert until == (await service.act("pause", until=until.replace("+00:00", "Z"))).json["paused_until"]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_resume_lifts_the_schedule_if_asked(binding: str, clock: ManualClock) -> None:
    """A scheduled pause outlasts a plain resume; ``override_schedule`` lifts it until it would have ended."""
    schedule = attrs.evolve(SETTINGS, pause_cron="0 11 * * *", pause_length=120 * MINUTE, warnings=())
    engine = Engine(MemoryStore(clock), settings=schedule, notifiers=[RecordingNotifier("test")])
    await engine.open("k", severity="critical", first_seen=clock() - 5 * MINUTE)
    async with serving(binding, engine, clock) as service:
        kept = await service.act("resume", override_schedule=False)
        assert {"ended": 0, "schedule_lifted_until": None} == kept.json
        assert ("paused", 0) == ((held := (await service.act("tick")).json)["mode"], held["escalations"])
        lifted = await service.act("resume", override_schedule=True)
        assert {"ended": 0, "schedule_lifted_until": (clock() + 60 * MINUTE).isoformat()} == lifted.json
        assert ("open", 1) == ((free := (await service.act("tick")).json)["mode"], free["escalations"])


async def test_reasons_are_kept(service: Service) -> None:
    """The audit has the principal and the reason of each action."""
    for action, fields in ACTIONS.items():
        answer = await service.act(action, **fields, reason=f"why {action}")
        assert answer.status in (200, 202)
    found = {entry.action: entry for entry in await service.engine.audit(service.clock())}
    for action in ACTIONS:
        assert ("ada", True) == (found[action].actor, (found[action].reason or "").endswith(f"why {action}")), action


async def test_drain_acknowledge_resolve(service: Service) -> None:
    """Each action answers with the incident's new state. The audit has the principal, the action and the reason."""
    drained = (await service.act("drain", incident_key="k", reason="page again")).json["incident"]
    assert 0 == drained["level"]
    assert 2 == drained["episode"]
    assert "open" == drained["state"]
    acked = (await service.act("acknowledge", incident_key="k", reason="on it")).json["incident"]
    assert ("acknowledged", "ada") == (acked["state"], acked["acknowledged_by"])
    assert "resolved" == (await service.act("resolve", incident_key="k")).json["incident"]["state"]
    found = {entry.action: (entry.actor, entry.reason) for entry in await service.engine.audit(service.clock())}
    assert (("ada", "page again"), ("ada", "on it")) == (found["drain"], found["acknowledge"])
    assert is_problem(await service.act("drain", incident_key="k"), 409, "incident_key")
    assert is_problem(await service.act("acknowledge", incident_key="unknown"), 404, "incident_key")


async def test_many_at_once(service: Service) -> None:
    """Of eight copies of one signed request, sent at the same time, one succeeds and seven get 401."""
    body = b'{"action": "pause", "minutes": 5}'
    headers = [*service.signed(body), *cookie("ada")]
    answers = await asyncio.gather(*(service.send("POST", "/pause", headers, body) for _ in range(8)))
    assert [200] + [401] * 7 == sorted(answer.status for answer in answers)
    assert 1 == len([e for e in await service.engine.audit(service.clock()) if e.action == "pause"])
