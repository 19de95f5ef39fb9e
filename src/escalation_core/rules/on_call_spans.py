"""Who is on call over a span of time, with the overrides of operators: what pictures and lists of gaps show."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import attrs

from ..model import ShiftOverride
from .coverage import Cover, coverage
from .on_call import OnCall


@attrs.frozen
class OnCallSpan:
    """The same people are on call from ``start`` until ``end``, for the same reason."""

    start: datetime
    end: datetime
    people: frozenset[str] | None
    """Empty: no one, a gap. None: it is not known."""
    override: ShiftOverride | None = None
    """The override that decides; None if the schedule does."""

    @property
    def covered(self) -> bool:
        """Whether it is known that a person is on call."""
        return bool(self.people)


def on_call_spans(on_call: OnCall, schedule: str, start: datetime, end: datetime) -> Sequence[OnCallSpan]:
    """Return who is on call for a schedule between two instants, without a space between the spans.

    Raises:
        InvalidValue: as ``coverage``.
    """
    known = on_call.schedules.get(schedule)
    covers = [Cover(start, end, None)] if known is None else coverage(known, start, end)
    edges = {start, end, *(cover.start for cover in covers)}
    edges |= {edge for one in on_call.overrides for edge in (one.starts_at, one.ends_at) if start < edge < end}
    spans: list[OnCallSpan] = []
    for at, until in pairwise(sorted(edges)):
        people, _ = on_call.on_call(schedule, at)
        override = on_call.override(schedule, at)
        if spans and (spans[-1].people, spans[-1].override) == (people, override):
            spans[-1] = attrs.evolve(spans[-1], end=until)
        else:
            spans.append(OnCallSpan(at, until, people, override))
    return spans
