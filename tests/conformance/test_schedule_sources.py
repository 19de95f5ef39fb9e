"""The checks of sources of schedules: the library's own pass, and each fault of an author's source is found."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core.ports import Schedule
from escalation_core.rules.layer import Layer
from escalation_core.rules.rotation import Rotation
from escalation_core.rules.shifts import Shift, Shifts
from escalation_core.testing.conformance import SCHEDULE_SOURCE_CHECKS, ScheduleSourceHarness

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
START = datetime.fromisoformat("2026-01-05T09:00")
"""A reading of the zone's clock."""
Check = Callable[[ScheduleSourceHarness], Awaitable[None]]


@attrs.define
class Source:
    """Returns a schedule, which is made anew for each load."""

    make: Callable[[], Any]
    name: Any = "primary"

    async def load(self) -> Mapping[str, Schedule]:
        return {self.name: self.make()}


@attrs.define
class Harness:
    source: Source
    now: datetime = NOW


def shifts() -> Shifts:
    spans = [Shift(person="ann", start=NOW + n * 30 * HOUR, end=NOW + (n + 1) * 30 * HOUR) for n in range(0, 9, 2)]
    return Shifts(shifts=spans, horizon=NOW + 9 * 30 * HOUR)


def rotation() -> Rotation:
    layer = Layer(zone="Europe/Berlin", start=START, turn=7 * 24 * HOUR, people=("ann", "bob"))
    return Rotation(layers=[layer])


@pytest.mark.parametrize("make", [shifts, rotation])
@pytest.mark.parametrize("check", SCHEDULE_SOURCE_CHECKS, ids=lambda check: check.__name__)
async def test_own_schedules_pass(check: Check, make: Callable[[], Schedule]) -> None:
    await check(Harness(Source(make)))


@attrs.define
class Broken:
    """A schedule whose answers a test replaces."""

    people: Any = frozenset({"ann"})
    change: Any = None
    horizon: Any = NOW + 99 * HOUR
    digest: str = "1a"
    asked: int = 0

    def on_call(self, at: datetime) -> Any:
        self.asked += 1
        return self.people(self.asked) if callable(self.people) else self.people

    def next_change(self, after: datetime) -> Any:
        return self.change(after) if callable(self.change) else self.change


DIGESTS = iter(str(number) for number in range(99))
FAULTS: Mapping[str, Callable[[], Any]] = {
    "no schedule": lambda: 7,
    "a list of people": lambda: Broken(people=["ann"]),
    "an empty name": lambda: Broken(people=frozenset({""})),
    "a change that does not change": lambda: Broken(change=lambda after: after + HOUR),
    "a change in the past": lambda: Broken(change=lambda after: after),
    "a naive horizon": lambda: Broken(horizon=NOW.replace(tzinfo=None)),
    "an old snapshot": lambda: Broken(horizon=NOW),
    "no digest": lambda: Broken(digest=""),
    "a digest that always changes": lambda: Broken(digest=next(DIGESTS)),
    "answers that change": lambda: Broken(people=lambda asked: frozenset({str(asked)})),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_found(fault: str) -> None:
    """At least one check fails, with an error that a check raises or that the fault itself causes."""
    failed = 0
    for check in SCHEDULE_SOURCE_CHECKS:
        try:
            await check(Harness(Source(FAULTS[fault])))
        except (AssertionError, AttributeError, TypeError, ValueError):
            failed += 1
    assert failed


async def test_a_schedule_without_a_name_is_found() -> None:
    with pytest.raises(AssertionError, match="a schedule has an empty name"):
        await SCHEDULE_SOURCE_CHECKS[0](Harness(Source(shifts, " ")))
