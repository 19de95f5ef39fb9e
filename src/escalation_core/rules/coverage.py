"""What schedules say about a span of time: who is on call when, the gaps, and the handovers.

Lists of gaps and pictures show this. It is as pure as a schedule: it asks a snapshot, and no clock.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import attrs

from ..checks import check_instant
from ..errors import InvalidValue
from ..model import ShiftOverride
from ..ports import Schedule
from .on_call import override_at

MAX_COVERAGE = timedelta(days=731)
"""Two years: the longest span that is looked through."""
MAX_COVERS = 10_000


@attrs.frozen
class Cover:
    """The same people are on call from ``start`` until ``end``, for the same reason."""

    start: datetime
    end: datetime
    people: frozenset[str] | None
    """Empty: no one, a gap. None: it is not known, because the schedule is missing or has ended."""
    override: ShiftOverride | None = None
    """The operator's override that decides; None if the schedule does."""


@attrs.frozen
class Handover:
    """Other people are on call from an instant on."""

    at: datetime
    before: frozenset[str] | None
    """Empty: no one. None: it is not known."""
    after: frozenset[str] | None


def coverage(
    schedule: Schedule | None, start: datetime, end: datetime, overrides: Sequence[ShiftOverride] = ()
) -> Sequence[Cover]:
    """Return who is on call between two instants, without a space between the covers.

    Give None for a schedule that is missing: then only overrides say who is on call. ``overrides`` are those of the
    schedule, in the order in which they were made.

    Raises:
        InvalidValue: the span is empty or longer than two years, the people change more than 10,000 times, or the
            schedule returns something other than people or a later instant. What the schedule raises goes through.
    """
    start, end = check_instant(start, "start"), check_instant(end, "end")
    if not timedelta() < end - start <= MAX_COVERAGE:
        raise InvalidValue("end", f"is {end - start} after start", f"give at most {MAX_COVERAGE.days} days")
    edges = sorted({edge for one in overrides for edge in (one.starts_at, one.ends_at) if start < edge < end})
    covers: list[Cover] = []
    for cover in _covers(schedule, start, end):
        divided = [cover.start, *(edge for edge in edges if cover.start < edge < cover.end), cover.end]
        for at, until in pairwise(divided):
            override = override_at(overrides, at)
            people = cover.people if override is None else frozenset({override.person})
            if covers and (covers[-1].people, covers[-1].override) == (people, override):
                covers[-1] = attrs.evolve(covers[-1], end=until)
            else:
                covers.append(Cover(at, until, people, override))
    return covers


def gaps(covers: Sequence[Cover]) -> Sequence[Cover]:
    """Return the covers in which no one is on call. What is not known is not a gap."""
    return [cover for cover in covers if cover.people is not None and not cover.people]


def handovers(covers: Sequence[Cover]) -> Sequence[Handover]:
    """Return each instant between two covers at which the people change, or cease to be known."""
    return [
        Handover(after.start, before.people, after.people)
        for before, after in pairwise(covers)
        if before.people != after.people
    ]


def runs_out(schedule: Schedule, start: datetime, end: datetime) -> datetime | None:
    """Return the instant between the two from which on no one is on call as far as the schedule knows.

    None: there is no such instant, or the horizon lies before ``end``.

    Raises:
        InvalidValue: as ``coverage``.
    """
    if schedule.horizon <= end or schedule.on_call(end):
        return None
    change = schedule.next_change(end)
    return coverage(schedule, start, end)[-1].start if change is None or change >= schedule.horizon else None


def _covers(schedule: Schedule | None, start: datetime, end: datetime) -> Iterator[Cover]:
    """Yield what the schedule itself says. Neighbours may have the same people."""
    at = start
    if schedule is not None:
        known = min(end, check_instant(schedule.horizon, "horizon"))
        for _ in range(MAX_COVERS):
            if at >= known:
                break
            change = schedule.next_change(at)
            if change is not None and check_instant(change, "next_change") <= at:
                fault = f"says at {at} that the next change is at {change}"
                raise InvalidValue("schedule", fault, "return a later one")
            until = known if change is None else min(change, known)
            people = schedule.on_call(at)
            if not isinstance(people, frozenset):
                fault = f"returns {type(people).__name__} from on_call"
                raise InvalidValue("schedule", fault, "return a frozenset of people")
            yield Cover(at, until, people)
            at = until
        if at < known:
            raise InvalidValue("end", f"lies after more than {MAX_COVERS} changes", "give a shorter span")
    if at < end:
        yield Cover(at, end, None)
