"""``GET oncall``: who is on call for each schedule, for a caller with the read role."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from escalation_core import Engine, Policies, Settings, Shift, Shifts
from escalation_core.ports import Schedule
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .problems import is_problem
from .service import SECRET, Service, serving

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
FILE = {
    "policies": {"ops": {"levels": [{"after": "0m", "to": ["oncall:primary"]}]}},
    "schedules": {
        "primary": {
            "rotation": {"zone": "UTC", "start": "2026-01-05T09:00", "turn": "1d", "people": ["ann", "bob"]},
        }
    },
    "people": {"ann": "slack:ann", "bob": "slack:bob"},
}


@attrs.define
class Source:
    """A source with one schedule of ann, which ends in two days."""

    loads: int = 0

    async def load(self) -> Mapping[str, Schedule]:
        self.loads += 1
        end = START + timedelta(days=2)
        return {"rota": Shifts(shifts=[Shift(person="ann", start=START - timedelta(days=2), end=end)], horizon=end)}


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def service(source: Source) -> AsyncIterator[Service]:
    clock = ManualClock(START)
    engine = Engine(
        MemoryStore(clock),
        settings=Settings(ops_hmac_secret=SECRET),
        notifiers=[RecordingNotifier("slack:ann", "slack:bob")],
        policies=Policies.from_mapping(FILE),
        schedules=[source],
    )
    async with serving("aiohttp", engine, clock) as running:
        yield running


def who(answer: Mapping[str, object]) -> object:
    found = answer["schedules"]
    assert isinstance(found, list)
    return {one["schedule"]: one["people"] for one in found}


async def test_now(service: Service, source: Source) -> None:
    """It has the fields of ``oncall now --json``. The sources are loaded at the first request, and not at each."""
    answer = (await service.get("/oncall", user="bob")).json
    assert START.isoformat() == answer["at"]
    assert {
        "schedule": "primary",
        "people": ["ann"],
        "targets": ["slack:ann"],
        "until": "2026-01-06T09:00:00+00:00",
        "override": None,
        "horizon": "9999-12-31T23:59:59.999999+00:00",
    } == answer["schedules"][0]
    assert {"primary": ["ann"], "rota": ["ann"]} == who(answer)
    await service.get("/oncall")
    assert 1 == source.loads


async def test_another_instant(service: Service) -> None:
    """Beyond the end of a schedule it is not known who is on call; a gap is an empty list."""
    assert {"primary": ["bob"], "rota": None} == who((await service.get("/oncall?at=2026-01-08T12:00:00Z")).json)
    assert {"primary": [], "rota": []} == who((await service.get("/oncall?at=2025-12-24T12:00:00Z")).json)
    for year in ("0001", "9999"):
        assert 200 == (await service.get(f"/oncall?at={year}-01-01T00:00:00Z")).status


async def test_an_override_is_in_the_answer(service: Service) -> None:
    await service.engine.override("primary", "bob", until=timedelta(hours=2), reason="dentist", by="ann")
    first = (await service.get("/oncall")).json["schedules"][0]
    assert (["bob"], "2026-01-05T14:00:00+00:00") == (first["people"], first["until"])
    assert ("bob", "ann", "dentist") == tuple(first["override"][name] for name in ("person", "actor", "reason"))


async def test_rights_and_bad_queries(service: Service) -> None:
    """It needs a login with the read role, as the other views do."""
    assert is_problem(await service.get("/oncall", user=None), 401)
    assert is_problem(await service.get("/oncall", user="eve"), 403)
    assert is_problem(await service.get("/oncall?at=now"), 422, "at")
    assert is_problem(await service.get("/oncall?schedule=primary"), 422, "schedule")
    assert is_problem(await service.act("oncall"), 405)
