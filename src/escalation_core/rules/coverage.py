"""What a schedule says about a span of time: who is on call when, its gaps and its handovers."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import attrs

from ..checks import check_instant
from ..errors import InvalidValue
from ..ports import Schedule

MAX_COVERAGE = timedelta(days=731)
"""Two years: the longest span that is looked through."""
MAX_COVERS = 10_000


@attrs.frozen
class Cover:
    """The same people are on call from ``start`` until ``end``."""

    start: datetime
    end: datetime
    people: frozenset[str] | None
    """Empty: no one, a gap. None: unknown, because the horizon of the schedule lies before it."""


@attrs.frozen
class Handover:
    """Other people are on call from an instant on. Either side may be empty, which is a gap."""

    at: datetime
    before: frozenset[str]
    after: frozenset[str]


def coverage(schedule: Schedule, start: datetime, end: datetime) -> Sequence[Cover]:
    """Return who is on call between two instants, without a space between the covers.

    Raises:
        InvalidValue: the span is empty or longer than two years, the people change more than 10,000 times, or
            ``next_change`` of the schedule returns an instant that is not after the one it was asked for.
    """
    at, end = check_instant(start, "start"), check_instant(end, "end")
    if not timedelta() < end - at <= MAX_COVERAGE:
        raise InvalidValue("end", f"is {end - at} after start", f"give at most {MAX_COVERAGE.days} days")
    known = max(at, min(end, check_instant(schedule.horizon, "horizon")))
    covers: list[Cover] = []
    for _ in range(MAX_COVERS):
        if at >= known:
            break
        change = schedule.next_change(at)
        if change is not None and change <= at:
            raise InvalidValue("schedule", f"says at {at} that the next change is at {change}", "return a later one")
        until = known if change is None else min(change, known)
        people = schedule.on_call(at)
        if covers and covers[-1].people == people:
            covers[-1] = attrs.evolve(covers[-1], end=until)
        else:
            covers.append(Cover(at, until, people))
        at = until
    if at < known:
        raise InvalidValue("end", f"lies after more than {MAX_COVERS} changes", "give a shorter span")
    if at < end:
        covers.append(Cover(at, end, None))
    return covers


def gaps(schedule: Schedule, start: datetime, end: datetime) -> Sequence[Cover]:
    """Return the spans in which no one is on call. What is unknown is not a gap; see ``coverage`` for errors."""
    return [cover for cover in coverage(schedule, start, end) if cover.people is not None and not cover.people]


def handovers(schedule: Schedule, start: datetime, end: datetime) -> Sequence[Handover]:
    """Return each instant between the two at which the people change; see ``coverage`` for errors."""
    return [
        Handover(after.start, before.people, after.people)
        for before, after in pairwise(coverage(schedule, start, end))
        if before.people is not None and after.people is not None
    ]
