"""A policy is a list of levels that an incident walks through, and the rule of when it is due at each of them.

``docs/reference/policies.md`` has the file, ``docs/reference/rules.md`` the exact rule.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from typing import Any

import attrs

from ..model import BUILTIN, Incident
from .hours import Hours
from .on_call import ROUTED, OnCall, Recipients, schedules_of
from .wall_clock import later

MAX_LEVELS = 50
MAX_ESCALATIONS = 100
"""The most escalations of one walk: levels times rounds."""
MAX_SPAN = timedelta(days=365)
"""A year: the longest gap, and the longest acknowledgement timeout."""
_NO_TIME = timedelta()
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class Anchor(StrEnum):
    """From where the gap before a level counts."""

    PREVIOUS = "previous"
    """From the escalation before."""
    FIRST_SEEN = "first_seen"
    """From the beginning of the walk: gaps add up."""


class OnExpiry(StrEnum):
    """What happens when an acknowledgement expires."""

    RESUME = "resume"
    """The walk continues where it stopped."""
    RESTART = "restart"
    """The walk begins again at the first level."""


@attrs.frozen(kw_only=True)
class Level:
    """One level of a policy."""

    after: timedelta
    """The gap since the level before; for the first level, since the round began."""
    to: tuple[str, ...] = ()
    """The targets to page. If empty, the router decides."""
    deliver: Hours | None = None
    """The hours in which the level may page. If it is due outside them, it waits for their start."""


@attrs.frozen(kw_only=True)
class Repeat:
    """How often the levels are walked again."""

    times: int = 0
    after: timedelta | None = None
    """The gap before the first level of a later round, in place of its ``after``. None: that ``after``."""


@attrs.frozen(kw_only=True)
class Step:
    """A position in the walk through a policy."""

    policy: str
    version: str
    """The digest of the policy's version; empty for the built-in policy."""
    position: int
    """1 for the first escalation of the walk; 0 before it."""
    total: int
    """The escalations of the whole walk."""
    levels: int
    """The levels of one round."""
    round: int = attrs.field(
        init=False, default=attrs.Factory(lambda self: max(0, self.position - 1) // self.levels + 1, takes_self=True)
    )
    """The round of the position, from 1."""
    level: int = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: 0 if self.position == 0 else (self.position - 1) % self.levels + 1, takes_self=True
        ),
    )
    """The level within the round, from 1; 0 before the first escalation."""

    def __str__(self) -> str:
        """Return the position in words, for example ``round 2, level 2 of 3``."""
        return (
            "before its first level"
            if self.position == 0
            else f"round {self.round}, level {self.level} of {self.levels}"
        )


@attrs.frozen(kw_only=True)
class Policy:
    """A policy: when an incident escalates, and whom each escalation pages. It contains no names of people's shifts.

    The reader of the file checks the limits; see ``Policies.from_mapping``.
    """

    name: str
    levels: tuple[Level, ...]
    repeat: Repeat = attrs.field(factory=Repeat)
    anchor: Anchor = Anchor.PREVIOUS
    min_gap: timedelta | None = None
    """The least time between two escalations. None: the smallest gap above 0 if the anchor is first_seen, else 0."""
    clock: Hours | None = None
    """The hours in which gaps run. None: always."""
    ack_timeout: timedelta | None = None
    """How long an acknowledgement lasts. None: until it is taken back."""
    on_ack_expiry: OnExpiry = OnExpiry.RESUME
    total: int = attrs.field(init=False, eq=False, repr=False)
    """The escalations of one walk: levels times rounds."""
    _gaps: tuple[timedelta, ...] = attrs.field(init=False, eq=False, repr=False)
    _sums: tuple[timedelta, ...] = attrs.field(init=False, eq=False, repr=False)
    _least: timedelta = attrs.field(init=False, eq=False, repr=False)
    _delivers: bool = attrs.field(init=False, eq=False, repr=False)
    _names: bool = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Compute the gaps of the walk."""
        put = object.__setattr__
        put(self, "total", len(self.levels) * (self.repeat.times + 1))
        again = self.levels[0].after if self.repeat.after is None else self.repeat.after
        first = [level.after for level in self.levels]
        put(self, "_gaps", (*first, *(again, *first[1:]) * self.repeat.times))
        put(self, "_delivers", any(level.deliver is not None for level in self.levels))
        put(self, "_names", any(level.to for level in self.levels))
        put(self, "_sums", tuple(accumulate(self._gaps)))
        least = self.min_gap
        if least is None:
            above = [gap for gap in self._gaps if gap]
            least = min(above, default=_NO_TIME) if self.anchor is Anchor.FIRST_SEEN else _NO_TIME
        put(self, "_least", least)

    @property
    def gaps(self) -> Sequence[timedelta]:
        """The gap before each escalation of the walk."""
        return self._gaps

    @property
    def hours(self) -> Mapping[str, Hours]:
        """The hours that the policy uses, by name."""
        used = [self.clock, *(level.deliver for level in self.levels)]
        return {hours.name: hours for hours in used if hours is not None}

    def position(self, incident: Incident, level: int | None = None) -> int:
        """Return the position in the walk of the escalation that raised the incident to ``level``; 0 before the first.

        ``level`` defaults to the incident's own.
        """
        level = incident.level if level is None else level
        return level - min(incident.policy_level or 0, level)

    def step(self, incident: Incident, level: int | None = None) -> Step:
        """Return the place in the walk of the escalation that raised the incident to ``level``."""
        return Step(
            policy=self.name,
            version=self.digest,
            position=self.position(incident, level),
            total=self.total,
            levels=len(self.levels),
        )

    def level(self, position: int) -> Level:
        """Return the level of a position, which counts from 1."""
        return self.levels[(position - 1) % len(self.levels)]

    def recipients(self, incident: Incident, on_call: OnCall, at: datetime) -> Recipients:
        """Return whom the escalation pages that raised the incident to its level at ``at``."""
        return on_call.recipients(self.level(max(1, self.position(incident))).to, at) if self._names else ROUTED

    def ends_round(self, incident: Incident) -> bool:
        """Return whether the incident's level is the last of its round."""
        return self.position(incident) % len(self.levels) == 0

    @property
    def schedules(self) -> AbstractSet[str]:
        """The names of the schedules that the levels name."""
        return {name for level in self.levels for name in schedules_of(level.to)}

    def next_due_at(
        self, incident: Incident, level: int, last: datetime | None, tick_interval: timedelta
    ) -> datetime | None:
        """Return when an open incident at ``level`` is due for its next escalation; None if the walk is over.

        ``last`` is its last_escalated_at. Two escalations are at least ``tick_interval`` apart.
        """
        done = level if not incident.policy_level else level - min(incident.policy_level, level)
        if done >= self.total:
            return None
        start = incident.policy_since or incident.first_seen
        if self.anchor is Anchor.FIRST_SEEN:
            due = self._plus(start, self._sums[done])
            if done and incident.policy_since is not None:
                due = min(due, self._plus(last or start, self._gaps[done]))
        else:
            due = self._plus((last or start) if done else start, self._gaps[done])
        if last is not None:
            earliest = later(last, max(self._least, tick_interval))
            due = max(earliest, due)
        snoozed = incident.snoozed_until
        if snoozed is not None and snoozed > due:
            due = snoozed
        deliver = self.levels[done % len(self.levels)].deliver if self._delivers else None
        return due if deliver is None else deliver.next_open(due) or _END_OF_TIME

    def rhythm(self, tick_interval: timedelta) -> Sequence[timedelta]:
        """Return when an incident escalates without an acknowledgement: the time from the beginning to each escalation.

        Hours count as open all the time.
        """
        always = attrs.evolve(self, clock=None, levels=tuple(attrs.evolve(each, deliver=None) for each in self.levels))
        began = datetime(2000, 1, 1, tzinfo=UTC)  # far from both ends of what a datetime can express
        incident = Incident(incident_key="-", first_seen=began)
        spans: list[timedelta] = []
        last: datetime | None = None
        while (due := always.next_due_at(incident, len(spans), last, tick_interval)) is not None:
            spans.append(due - began)
            last = due
        return spans

    def put_off(self, incident: Incident, now: datetime) -> datetime | None:
        """Return when the next level's hours open, if they are closed at ``now``; None if it may page now."""
        deliver = self.level(self.position(incident) + 1).deliver if self._delivers else None
        if deliver is None or deliver.is_open(now):
            return None
        return deliver.next_open(now) or _END_OF_TIME

    def _plus(self, instant: datetime, span: timedelta) -> datetime:
        return later(instant, span) if self.clock is None else self.clock.add(instant, span)

    def as_mapping(self) -> Mapping[str, Any]:
        """Return the policy as the policies file writes it, with spans in seconds and hours by name.

        Defaults are left out, so that a later version of the library with more fields gives the same digest.
        """
        return _without_none(
            levels=[
                _without_none(
                    after=_span(level.after),
                    to=list(level.to) or None,
                    deliver=None if level.deliver is None else level.deliver.name,
                )
                for level in self.levels
            ],
            repeat=_without_none(times=self.repeat.times or None, after=_span(self.repeat.after)) or None,
            anchor=None if self.anchor is Anchor.PREVIOUS else self.anchor.value,
            min_gap=_span(self.min_gap),
            clock=None if self.clock is None else self.clock.name,
            ack_timeout=_span(self.ack_timeout),
            on_ack_expiry=None if self.on_ack_expiry is OnExpiry.RESUME else self.on_ack_expiry.value,
        )

    def text(self) -> str:
        """Return the text of this version: canonical JSON of the policy and its hours, without the policy's name."""
        hours = {name: hours.as_mapping() for name, hours in self.hours.items()}
        value = {"policy": self.as_mapping(), "hours": hours}
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def digest(self) -> str:
        """The sha256 of ``text`` in hex, which a pin names. The built-in policy has none: its digest is empty."""
        return "" if self.name == BUILTIN else hashlib.sha256(self.text().encode()).hexdigest()


def _span(span: timedelta | None) -> str | None:
    return None if span is None else f"{span // timedelta(seconds=1)}s"


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
