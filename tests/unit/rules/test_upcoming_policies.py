"""The forecast of incidents with policies: when and whom the next escalation pages, and what holds it."""

from typing import Any

import pytest

from escalation_core import Policies
from escalation_core.rules.upcoming import HeldBy
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import DAY, MINUTE, START
from ..walking import LASTING, OPS, Night, minutes, policies


async def forecast(night: Night, key: str = "k") -> tuple[float | None, HeldBy | None, str | None]:
    """Return the minute of the next escalation, what holds it, and the reason."""
    coming = (await night.engine.history(key)).upcoming
    return minutes(coming.at), coming.held_by, coming.detail


async def test_the_forecast_of_a_walk(night: Night) -> None:
    """History and list tell the step, the next one, its targets and its instant; the ticks do it."""
    await night.at(0).open("k", severity="critical")
    for minute, said, told, then in (
        (0, "round 1, level 1 of 3", ("second", "lead"), 5),
        (5, "round 1, level 2 of 3", ("lead",), 20),
        (20, "round 1, level 3 of 3", ("first",), 50),
        (50, "round 2, level 1 of 3", ("second", "lead"), 55),
    ):
        await night.tick(minute)
        history = await night.engine.history("k")
        assert history.step is not None
        assert history.next_pages is not None
        assert (said, told, then) == (str(history.step), history.next_pages.targets, minutes(history.upcoming.at))
        assert history.step.position + 1 == history.next_pages.step.position
        (listed,) = (await night.engine.open_incidents()).incidents
        assert (history.step, history.next_pages, history.upcoming) == (
            listed.step,
            listed.next_pages,
            listed.upcoming,
        )


async def test_before_the_first_level(night: Night) -> None:
    """Before its first level the step is position 0, also of a row that no engine has planned."""
    await night.store.host.insert("k", severity="critical", first_seen=START)
    history = await night.engine.history("k")
    assert history.next_pages is not None
    assert ("ops", "before its first level", ("first",)) == (
        history.step and history.step.policy,
        str(history.step),
        history.next_pages.targets,
    )


async def test_a_walk_that_is_over(night: Night) -> None:
    """An exhausted incident names its policy and its last step."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 70)
    said = "policy ops has no further level after round 2, level 3 of 3"
    assert (None, HeldBy.EXHAUSTED, said) == await forecast(night)
    assert None is (await night.engine.history("k")).next_pages


async def test_a_resolved_incident_keeps_its_step(night: Night) -> None:
    """After the end of an incident its history still tells how far it was."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    await night.engine.resolve("k")
    assert "round 1, level 2 of 3" == str((await night.engine.history("k")).step)


async def test_an_acknowledgement_that_ends(store: MemoryStore, clock: ManualClock) -> None:
    """An acknowledged incident tells when its acknowledgement expires, and whom it pages then."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    await night.at(2).acknowledge("k", by="ann")
    said = "by ann at 2025-01-01 00:02:00Z; the acknowledgement expires at 2025-01-01 00:32:00Z"
    assert (32, HeldBy.ACKNOWLEDGED, said) == await forecast(night)
    pages = (await night.engine.history("k")).next_pages
    assert pages is not None
    assert (2, ("second", "lead"), 2) == (pages.level, pages.targets, pages.step.position)
    await night.tick(32)
    assert [(0, 1), (32, 2)] == night.rises


async def test_an_acknowledgement_of_an_exhausted_walk(store: MemoryStore, clock: ManualClock) -> None:
    """The forecast tells the first level of the walk that begins again."""
    night = Night(clock, store, policies(ops={**OPS, "ack_timeout": "30m", "repeat": {"times": 0}}))
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 20)
    await night.at(21).acknowledge("k")
    pages = (await night.engine.history("k")).next_pages
    assert pages is not None
    assert (51, 4, 1, ("first",)) == ((await forecast(night))[0], pages.level, pages.step.position, pages.targets)
    await night.tick(51)
    assert (51, 4) == night.rises[-1]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"worker_enabled": False}, "ESCALATION_WORKER_ENABLED is false"),
        ({"v1": False}, "ESCALATION_V1 is false"),
        ({"dry_run": True}, "ESC_DRY_RUN is true"),
        ({"canary_pct": 0}, "ESC_CANARY_PCT is 0, and the incident is outside"),
    ],
)
async def test_an_acknowledgement_that_a_switch_holds(
    held: dict[str, Any], said: str, store: MemoryStore, clock: ManualClock
) -> None:
    """While a switch or the canary holds the incident, its acknowledgement does not end, and no instant is given."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.engine.acknowledge("k")
    night.restart(LASTING, **held)
    expected = f"at 2025-01-01 00:00:00Z; {said}, so it does not expire"
    assert (None, HeldBy.ACKNOWLEDGED, expected) == await forecast(night)


async def test_an_acknowledgement_without_an_end(night: Night) -> None:
    """Without ack_timeout an acknowledged incident has no next escalation."""
    await night.at(0).open("k", severity="critical")
    await night.engine.acknowledge("k")
    assert (None, HeldBy.ACKNOWLEDGED, "at 2025-01-01 00:00:00Z") == await forecast(night)


async def test_hours_that_are_closed(store: MemoryStore, clock: ManualClock) -> None:
    """A level that came due within its hours and was not paged is announced for their next start."""
    file = Policies.from_mapping(
        {
            "policies": {"ops": {"levels": [{"after": "0m", "to": ["first"], "deliver": "office"}]}},
            "assign": [{"policy": "ops"}],
            "hours": {"office": {"zone": "UTC", "windows": [{"from": "09:00", "to": "17:00"}]}},
        }
    )
    night = Night(clock, store, file)
    await night.at(16 * 60).open("k")
    assert 16 * 60 == (await forecast(night))[0]
    night.at(18 * 60)
    assert (DAY + 9 * 60 * MINUTE) / MINUTE == (await forecast(night))[0]


async def test_a_target_in_the_place_of_another(store: MemoryStore, clock: ManualClock) -> None:
    """The forecast names the target that is paged in the place of one that no notifier serves."""
    night = Night(clock, store, None)
    night.engine._versions.policies = policies(ops={"levels": [{"after": "0m", "to": ["gone", "first"]}]})
    await night.at(0).open("k", severity="critical")
    pages = (await night.engine.history("k")).next_pages
    assert pages is not None
    assert (("first", "router"), ()) == (pages.targets, pages.faults)


async def test_a_walk_that_is_over_without_a_file(night: Night) -> None:
    """An engine that cannot assign the policy still tells that the walk by the old one is over."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 70)
    night.restart(None)
    await night.engine.change_severity("k", "warning")
    await night.tick(71)
    assert HeldBy.EXHAUSTED is (await forecast(night))[1]
    assert None is (await night.engine.history("k")).next_pages


async def test_an_acknowledgement_that_no_worker_looks_at(store: MemoryStore, clock: ManualClock) -> None:
    """An acknowledgement through an engine without a file does not expire, and the forecast says so."""
    night = Night(clock, store, None)
    await night.at(0).open("k", severity="critical")
    await night.engine.acknowledge("k")
    night.restart(LASTING)
    at, held_by, said = await forecast(night)
    assert (None, HeldBy.ACKNOWLEDGED) == (at, held_by)
    assert said is not None
    assert said.endswith("it does not expire until escalation recalc")
