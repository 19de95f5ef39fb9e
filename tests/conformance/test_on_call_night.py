"""A night of people who take turns, on every store: whatever is missing, some person is paged."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from escalation_adapters.policies_file import load_policies
from escalation_core import Engine, InvalidValue, Schedule, Settings, Shift, Shifts
from escalation_core.model import LevelOutcome
from escalation_core.testing import ManualClock, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness

from .harnesses import opened

FILE = """
policies:
  gap: {levels: [{after: 0m, to: [oncall:primary]}, {after: 10m, to: [oncall:lead]}]}
  stale: {levels: [{after: 0m, to: [oncall:secondary]}, {after: 10m, to: [oncall:lead]}]}
  unmapped: {levels: [{after: 0m, to: [oncall:third]}, {after: 10m, to: [oncall:lead]}]}
  empty:
    levels: [{after: 0m, to: [oncall:primary]}, {after: 10m, to: [oncall:primary]}]
    repeat: {times: 1, after: 1m}
schedules:
  primary: {rotation: {zone: Europe/Berlin, start: 2026-10-01T09:00, turn: 1d, people: [ann, bob], hours: office}}
  lead: {rotation: {zone: Europe/Berlin, start: 2026-10-01T09:00, turn: 7d, people: [cid, ann]}}
people: {ann: "slack:@ann", bob: "email:bob", cid: "slack:@cid"}
hours:
  office: {zone: Europe/Berlin, windows: [{days: mon-fri, from: "09:00", to: "17:00"}]}
assign:
  - {severity: gap, policy: gap}
  - {severity: stale, policy: stale}
  - {severity: unmapped, policy: unmapped}
  - {severity: empty, policy: empty}
"""
MINUTE = timedelta(minutes=1)
NIGHT = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)  # Saturday; the clocks of Berlin go back at 01:00 UTC
TARGETS = ("slack:@ann", "email:bob", "slack:@cid", "slack:ops")


@attrs.frozen
class Rota:
    """A host's own schedules: one has ended, and one names a person whom the file does not know."""

    clock: ManualClock

    async def load(self) -> Mapping[str, Schedule]:
        long = [Shift(person="bob", start=NIGHT - timedelta(days=9), end=NIGHT + timedelta(days=9))]
        other = [Shift(person="dan", start=NIGHT - timedelta(days=9), end=NIGHT + timedelta(days=9))]
        return {
            "secondary": Shifts(shifts=long, horizon=NIGHT + MINUTE),
            "third": Shifts(shifts=other, horizon=NIGHT + timedelta(days=9)),
        }


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    async with opened(request, tmp_path) as made:
        yield made


@attrs.define
class Night:
    """An engine with the file and the host's schedules."""

    engine: Engine
    clock: ManualClock
    pages: RecordingNotifier

    async def until(self, minute: int) -> None:
        """Tick each minute up to this one."""
        while self.clock() < NIGHT + minute * MINUTE:
            self.clock.advance(MINUTE)
            await self.engine.tick()

    @property
    def told(self) -> list[tuple[str, int, str]]:
        return sorted((page.incident.incident_key, page.level, page.target) for page in self.pages.pages)

    async def outcomes(self, key: str) -> list[tuple[int, int, LevelOutcome | None]]:
        """Return minute, level and outcome of each escalation."""
        found = (await self.engine.history(key)).escalations
        return [((one.created_at - NIGHT) // MINUTE, one.level, one.outcome) for one in found]


@pytest.fixture
async def night(harness: StoreHarness, tmp_path: Path) -> AsyncIterator[Night]:
    (tmp_path / "policies.yaml").write_text(FILE)
    clock, pages = ManualClock(NIGHT), RecordingNotifier(*TARGETS)
    async with Engine(
        await harness.open(clock),
        settings=Settings(default_target="slack:ops"),
        policies=load_policies(tmp_path / "policies.yaml"),
        schedules=[Rota(clock)],
        notifiers=[pages],
    ) as engine:
        yield Night(engine, clock, pages)


async def test_someone_is_paged_in_each_case(night: Night) -> None:
    """Primary is a gap at night, secondary has ended, and the third names a person without a target."""
    for key in ("gap", "unmapped"):
        await night.engine.open(key, severity=key)
    await night.until(2)  # secondary ends after one minute
    await night.engine.open("stale", severity="stale")
    await night.until(14)
    assert [
        ("gap", 2, "slack:@ann"),
        ("stale", 1, "slack:ops"),
        ("stale", 2, "slack:@ann"),
        ("unmapped", 1, "slack:ops"),
        ("unmapped", 2, "slack:@ann"),
    ] == night.told
    assert [(1, 1, LevelOutcome.NOBODY), (1, 2, None)] == await night.outcomes("gap")
    assert [(3, 1, None), (13, 2, None)] == await night.outcomes("stale")
    assert 0 == (await night.engine.health()).policies.stats.nobody_on_call
    proof = await night.engine.prove()
    assert (6, 0, 0) == (proof.escalations, proof.duplicates, proof.without_page)


async def test_a_round_without_anyone(night: Night) -> None:
    """Each round passes over its levels, pages the default target at the last one, and is counted in health."""
    await night.engine.open("empty", severity="empty")
    await night.until(30)
    assert [("empty", 2, "slack:ops"), ("empty", 4, "slack:ops")] == night.told
    nobody, default = LevelOutcome.NOBODY, LevelOutcome.DEFAULT
    assert [(1, 1, nobody), (1, 2, default), (2, 3, nobody), (2, 4, default)] == await night.outcomes("empty")
    health = await night.engine.health()
    assert 2 == health.policies.stats.nobody_on_call
    assert any("no one was on call" in warning for warning in health.warnings)


async def test_an_override_takes_the_shift(night: Night) -> None:
    """All workers obey it from their next tick; the page says which schedule named the person, and by what."""
    made = await night.engine.override("primary", "bob", until=timedelta(minutes=5), by="ann", reason="swap")
    assert (NIGHT, NIGHT + 5 * MINUTE) == (made.starts_at, made.ends_at)
    await night.engine.open("gap", severity="gap")
    await night.until(1)
    assert [("gap", 1, "email:bob")] == night.told
    [page] = (await night.engine.history("gap")).pages
    assert ("oncall:primary", "override") == (page.via, page.schedule_digest)
    now = {one.schedule: one for one in await night.engine.on_call()}
    assert (("bob",), ("email:bob",), made, made.ends_at) == (
        now["primary"].people,
        now["primary"].targets,
        now["primary"].override,
        now["primary"].until,
    )
    assert (("ann",), None) == (now["lead"].people, now["lead"].override)
    await night.until(6)
    now = {one.schedule: one for one in await night.engine.on_call()}
    assert (("dan",), ()) == (now["third"].people, now["third"].targets)
    assert (None, ()) == (now["secondary"].people, now["primary"].people)
    assert [] == list(await night.engine.overrides())
    [noted] = [entry for entry in await night.engine.audit(since=NIGHT) if entry.action == "override"]
    assert ("ann", True) == (
        noted.actor,
        str(noted.reason).startswith("bob is on call for primary from 2026-10-24T22:30"),
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "primry"}, "schedule: 'primry' is not known; the nearest is 'primary'"),
        ({"person": "dan"}, "person: 'dan' is not known; the nearest is"),
        ({"until": timedelta()}, "until: is not after the start; give a later end"),
        ({"until": NIGHT - MINUTE}, "until: is not after the start; give a later end"),
        ({"start": NIGHT - 9 * MINUTE, "until": NIGHT - MINUTE}, "until: is over already; give an instant ahead"),
        ({"until": timedelta(days=367)}, "until: is too far away"),
        ({"until": timedelta.max}, "until: is too far away"),
        ({"start": NIGHT + timedelta(days=367)}, "until: is too far away"),
        ({"until": datetime.fromisoformat("2026-10-25")}, "until"),
        ({"schedule": 7}, "schedule"),
    ],
)
async def test_bad_overrides_are_refused(night: Night, given: Mapping[str, Any], message: str) -> None:
    """Nothing is written, and the message names the field, the fault and the remedy."""
    await night.engine.tick()
    fields: dict[str, Any] = {"schedule": "primary", "person": "bob", "until": timedelta(hours=1), **given}
    with pytest.raises(InvalidValue) as refused:
        await night.engine.override(**fields)
    assert message in str(refused.value)
    assert [] == list(await night.engine.overrides())
