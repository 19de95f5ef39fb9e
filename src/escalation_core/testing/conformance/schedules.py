"""Checks of a source of schedules, and of the schedules that it loads."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from ...errors import InvalidValue
from ...ports import Schedule
from ...rules.on_call import check_digest
from ...rules.shifts import check_person
from .harness import ScheduleSourceHarness, same

MAX_CHANGES = 10_000
SECOND = timedelta(seconds=1)


async def schedules_have_names(harness: ScheduleSourceHarness) -> None:
    """``load`` returns at least one schedule, each with a name."""
    for name, schedule in (await _load(harness)).items():
        assert isinstance(name, str), f"the name of a schedule is {name!r}, which is not text"
        assert name.strip(), "a schedule has an empty name"
        assert isinstance(schedule, Schedule), f"schedule {name!r} lacks a method or property of Schedule"


async def people_are_named(harness: ScheduleSourceHarness) -> None:
    """``on_call`` returns a frozenset of people's names, at every change of the next two weeks."""
    for name, schedule in (await _load(harness)).items():
        for at in _edges(schedule, harness.now):
            people = schedule.on_call(at)
            assert isinstance(people, frozenset), f"on_call of {name!r} must return a frozenset, not {people!r}"
            for person in people:
                check_person(person)


async def changes_are_exact(harness: ScheduleSourceHarness) -> None:
    """``next_change`` returns a later instant, at which other people are on call than a second before."""
    for name, schedule in (await _load(harness)).items():
        before = harness.now
        for at in _edges(schedule, harness.now):
            if at == harness.now:
                continue
            assert at > before, f"next_change of {name!r} must return a later instant than {before.isoformat()}"
            assert schedule.on_call(at) != schedule.on_call(before), (
                f"next_change of {name!r} returns {at.isoformat()}, but the same people are on call as before"
            )
            if at - before > SECOND:
                same(
                    schedule.on_call(before),
                    schedule.on_call(at - SECOND),
                    f"{name!r} a second before {at.isoformat()}",
                )
            before = at


async def instants_are_aware(harness: ScheduleSourceHarness) -> None:
    """The horizon and each change are aware instants, and the horizon lies ahead."""
    for name, schedule in (await _load(harness)).items():
        for at in (schedule.horizon, *_edges(schedule, harness.now)):
            assert at.tzinfo is not None, f"schedule {name!r} returns {at.isoformat()}, which has no offset"
        assert schedule.horizon > harness.now, f"schedule {name!r} ends at {schedule.horizon.isoformat()}, in the past"


async def a_snapshot_stays_the_same(harness: ScheduleSourceHarness) -> None:
    """A schedule answers the same each time. Two loads of the same data have one digest, and the same answers."""
    first, second = await _load(harness), await _load(harness)
    same(sorted(first), sorted(second), "the names of two loads")
    for name, schedule in first.items():
        digest = schedule.digest
        try:
            check_digest(digest)
        except InvalidValue as fault:
            raise AssertionError(f"the digest of {name!r}: {fault}") from None
        same(digest, second[name].digest, f"the digest of {name!r} in two loads")
        for at in _edges(schedule, harness.now):
            people = schedule.on_call(at)
            same(people, schedule.on_call(at), f"{name!r} asked twice")
            same(people, second[name].on_call(at), f"{name!r} loaded twice")


async def _load(harness: ScheduleSourceHarness) -> Mapping[str, Schedule]:
    found = await harness.source.load()
    assert isinstance(found, Mapping), f"load must return a mapping, not {type(found).__name__}"
    assert found, "load must return at least one schedule for these checks"
    return found


def _edges(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """Yield ``now`` and the changes of the next two weeks."""
    at, end = now, min(schedule.horizon, now + timedelta(days=14))
    yield at
    for _ in range(MAX_CHANGES):
        change = schedule.next_change(at)
        if change is None or change >= end:
            return
        yield change
        assert change > at, f"next_change must return an instant after {at.isoformat()}, not {change.isoformat()}"
        at = change


CHECKS = (
    schedules_have_names,
    people_are_named,
    changes_are_exact,
    instants_are_aware,
    a_snapshot_stays_the_same,
)
