"""Operators' pauses, and what they come to together with the schedule."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from escalation_core import Engine, Incident, InvalidValue, Pause, PauseSchedule, Settings
from escalation_core.model import By, Paused
from escalation_core.rules.gate import Mode, pause_from, paused_at
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .kit import DAY, HOUR, MINUTE, SECOND, START, incident, put

SECOND_HOUR = PauseSchedule("0 1 * * *", 60)
"""Paused from one to two."""


def pause(start: timedelta, end: timedelta, **fields: Any) -> Pause:
    return Pause(starts_at=START + start, ends_at=START + end, **fields)


NONE = timedelta()
LIFT = pause(HOUR, 2 * HOUR, lifts_schedule=True)
ADA = pause(NONE, HOUR, actor="ada", reason="deploying")


@pytest.mark.parametrize(
    ("schedule", "pauses", "at", "expected"),
    [
        (None, [], NONE, None),
        (None, [ADA], NONE, Paused(START + HOUR, "ada", "deploying")),
        (None, [ADA], HOUR, None),
        (None, [pause(HOUR, 2 * HOUR)], NONE, None),
        (None, [ADA, pause(NONE, 2 * HOUR, actor="bob")], NONE, Paused(START + 2 * HOUR, "bob")),
        # What touches or overlaps is one.
        (None, [ADA, pause(HOUR, 2 * HOUR, actor="bob")], NONE, Paused(START + 2 * HOUR, "ada", "deploying")),
        (SECOND_HOUR, [ADA], NONE, Paused(START + 2 * HOUR, "ada", "deploying")),
        (SECOND_HOUR, [ADA], HOUR, Paused(START + 2 * HOUR, "schedule")),
        (SECOND_HOUR, [], NONE, None),
        # A lifted schedule does not count, and an operator's pause does all the same.
        (SECOND_HOUR, [LIFT], 90 * MINUTE, None),
        (SECOND_HOUR, [LIFT], HOUR + DAY, Paused(START + DAY + 2 * HOUR, "schedule")),
        (
            SECOND_HOUR,
            [LIFT, pause(HOUR, 80 * MINUTE, actor="ada")],
            70 * MINUTE,
            Paused(START + 80 * MINUTE, "ada"),
        ),
    ],
)  # fmt: skip
def test_paused_is_the_union(
    schedule: PauseSchedule | None, pauses: list[Pause], at: timedelta, expected: Paused | None
) -> None:
    """Paging is paused while any row or the schedule covers the instant, until all of them that touch are over."""
    assert expected == paused_at(schedule, pauses, START + at)


@pytest.mark.parametrize("until", [START, START - MINUTE, NONE, -HOUR, START + DAY + MINUTE, 2 * DAY, timedelta.max])
def test_end_is_to_come_and_at_most_a_day_away(until: datetime | timedelta) -> None:
    """A pause without a sensible end is refused by its field."""
    with pytest.raises(InvalidValue, match="until: is"):
        pause_from(START, until, By(None, None))


@pytest.mark.parametrize("until", [START + DAY, DAY])
def test_a_whole_day(until: datetime | timedelta) -> None:
    """24 hours are the longest."""
    assert START + DAY == pause_from(START, until, By(None, None)).ends_at


# --- by the engine


def engine_of(store: MemoryStore, **fields: Any) -> Engine:
    return Engine(store, settings=Settings(**fields), notifiers=[RecordingNotifier()])


async def test_every_worker_obeys(store: MemoryStore, clock: ManualClock) -> None:
    """What one engine pauses and resumes holds for another: nothing escalates, no page goes, nothing is lost."""
    one, other = engine_of(store), engine_of(store)
    await put(store, incident("k", next_due_at=START + MINUTE), incident("l", next_due_at=START + MINUTE))
    set_ = await one.pause(HOUR, reason="deploying", by="ada")
    assert (START, START + HOUR) == (set_.starts_at, set_.ends_at)
    clock.advance(6 * MINUTE)
    report = await other.tick()
    assert (0, Mode.PAUSED, START + HOUR) == (report.escalated, report.mode, report.paused_until)
    await other.acknowledge("l")
    health = await other.health()
    assert (True, "ada", "deploying") == (health.ok, health.paused_by, health.pause_reason)
    resumed = await other.resume(by="bob", reason="done")
    assert (1, None) == (resumed.ended, resumed.schedule_lifted_until)
    assert 1 == (await one.tick()).escalated
    audit = [(entry.action, entry.actor, entry.reason) for entry in await one.audit(START)]
    assert ("pause", "ada", "until 2025-01-01T01:00:00+00:00: deploying") in audit
    assert ("resume", "bob", "done") in audit


async def test_a_page_that_was_recorded_waits(store: MemoryStore, clock: ManualClock) -> None:
    """A pause that is set between the escalation and its page holds the page, and lets it go when it ends."""
    engine = engine_of(store)
    await put(store, incident("k", next_due_at=START))
    clock.advance(5 * MINUTE)
    assert 1 == (await engine.tick(deliver=False)).pages
    await engine.pause(clock() + MINUTE)
    assert 0 == (await engine.deliver()).sent
    clock.advance(MINUTE)
    assert 1 == (await engine.deliver()).delivered


async def test_resume_overrides_the_schedule_once(store: MemoryStore, clock: ManualClock) -> None:
    """With override_schedule the scheduled pause that is running ends; the next one comes as ever."""
    engine = engine_of(store, pause_cron="0 0 * * *", pause_length=HOUR)
    await put(store, incident("k", next_due_at=START + MINUTE))
    clock.advance(10 * MINUTE)
    await engine.resume()
    assert Mode.PAUSED is (await engine.tick()).mode
    resumed = await engine.resume(override_schedule=True, by="ada")
    assert START + HOUR == resumed.schedule_lifted_until
    assert 1 == (await engine.tick()).escalated
    clock.advance(DAY - 5 * MINUTE)
    assert (Mode.PAUSED, START + DAY + HOUR) == ((report := await engine.tick()).mode, report.paused_until)
    assert None is (await engine.resume(override_schedule=False)).schedule_lifted_until


async def test_switches_win(store: MemoryStore) -> None:
    """No resume turns on what the settings switched off; what is paused beside that shows all the same."""
    engine = engine_of(store, worker_enabled=False)
    await engine.pause(HOUR, by="ada")
    assert Mode.DISABLED is (await engine.tick()).mode
    health = await engine.health()
    assert (Mode.DISABLED, True, START + HOUR, "ada") == (
        health.mode,
        health.ok,
        health.paused_until,
        health.paused_by,
    )
    await engine.resume(override_schedule=True)
    assert Mode.DISABLED is (await engine.tick()).mode


@pytest.mark.parametrize(
    "given",
    [
        {"until": START.replace(tzinfo=None)},
        {"until": "1h"},
        {"until": HOUR, "reason": 7},
        {"until": HOUR, "by": "\ud800"},
    ],
)
async def test_bad_pause_is_refused(given: dict[str, Any], store: MemoryStore) -> None:
    """A wrong value is refused by its name, and nothing is paused."""
    with pytest.raises(InvalidValue):
        await engine_of(store).pause(**given)
    assert Mode.OPEN is (await engine_of(store).tick()).mode


async def test_pause_in_the_middle_of_a_tick_stops_its_other_batches(store: MemoryStore, clock: ManualClock) -> None:
    """Each batch asks anew: what is left waits for the pause's end."""

    class Router:
        routed = 0

        def route(self, incident: Incident, level: int) -> list[str]:
            self.routed += 1
            if self.routed == 2:
                now = clock.advance(SECOND)
                store.pauses[1] = Pause(starts_at=now, ends_at=now + HOUR)
            return ["test"]

    engine = Engine(store, notifiers=[RecordingNotifier("test")], router=Router(), batch_size=2)
    for number in range(10):
        await engine.open(f"k{number}", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick(deliver=False)
    assert (2, Mode.PAUSED) == (report.escalated, report.mode)
