"""A policy as the file has it, and the instant at which an incident is due by it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .hours import Hours, add, next_open, read_hours
from .records import Row

BUILT_IN = "builtin"
UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
ZERO = timedelta()
DEFAULT_MAX_LEVEL = 7


def span(value: timedelta | str) -> timedelta:
    """Return the span that ``90s``, ``5m``, ``2h`` or ``3d`` names; a timedelta stays what it is."""
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"(\d+)([smhd])", value)
    assert found is not None, value
    return int(found[1]) * UNITS[found[2]]


@dataclass(frozen=True)
class Settings:
    """The parameters of the built-in policy, and the tick interval."""

    windows: Mapping[str, timedelta] = field(default_factory=lambda: {"critical": timedelta(minutes=5)})
    """By severity in lower case."""
    window: timedelta = timedelta(minutes=15)
    max_level: int | None = None
    snooze: timedelta = timedelta(minutes=30)
    tick: timedelta = timedelta(minutes=1)


@dataclass(frozen=True)
class Level:
    """One level: the gap before it, whom it pages (None: the router decides), and the hours that hold it back."""

    after: timedelta
    to: tuple[str, ...] | None
    deliver: Hours | None


@dataclass(frozen=True)
class Ladder:
    """A policy with its hours, all defaults filled in."""

    name: str
    levels: tuple[Level, ...]
    times: int
    again: timedelta
    """The gap before the first level of a later round."""
    first_seen: bool
    """Whether gaps add up from the beginning of the walk."""
    min_gap: timedelta
    clock: Hours | None
    ack_timeout: timedelta | None
    restarts: bool
    """Whether an acknowledgement that expires begins the walk again."""

    @property
    def total(self) -> int:
        """The escalations of one walk."""
        return len(self.levels) * (self.times + 1)

    def level(self, position: int) -> Level:
        """Return the level at a position of the walk, from 1 on."""
        return self.levels[(position - 1) % len(self.levels)]

    def gap(self, position: int) -> timedelta:
        """Return the gap before a position of the walk."""
        return self.again if position > 1 and self.ends_round(position - 1) else self.level(position).after

    def ends_round(self, position: int) -> bool:
        """Tell whether a position of the walk is the last one of its round."""
        return position % len(self.levels) == 0


def read_ladder(name: str, policy: Mapping[str, Any], hours: Mapping[str, Any]) -> Ladder:
    """Return the policy that a mapping of the file describes, with the hours that it names."""

    def named(key: str | None) -> Hours | None:
        return None if key is None else read_hours(hours[key])

    levels = tuple(
        Level(
            span(level["after"]),
            None if level.get("to") is None else tuple(dict.fromkeys(level["to"])),
            named(level.get("deliver")),
        )
        for level in policy["levels"]
    )
    repeat = policy.get("repeat", {})
    ladder = Ladder(
        name=name,
        levels=levels,
        times=repeat.get("times", 0),
        again=span(repeat.get("after", levels[0].after)),
        first_seen=policy.get("anchor", "previous") == "first_seen",
        min_gap=ZERO,
        clock=named(policy.get("clock")),
        ack_timeout=None if policy.get("ack_timeout") is None else span(policy["ack_timeout"]),
        restarts=policy.get("on_ack_expiry", "resume") == "restart",
    )
    return _replace_min_gap(ladder, policy.get("min_gap"))


def _replace_min_gap(ladder: Ladder, given: timedelta | str | None) -> Ladder:
    if given is not None:
        least = span(given)
    elif ladder.first_seen:
        least = min(gap for n in range(1, ladder.total + 1) if (gap := ladder.gap(n)) > ZERO)
    else:
        least = ZERO
    return Ladder(**{**vars(ladder), "min_gap": least})


def built_in(settings: Settings, severity: str | None) -> Ladder:
    """Return the built-in policy for a severity: one level, repeated up to the maximum level."""
    window = settings.windows.get(normal(severity), settings.window)
    return Ladder(
        name=BUILT_IN,
        levels=(Level(window, None, None),),
        times=(settings.max_level or DEFAULT_MAX_LEVEL) - 1,
        again=window,
        first_seen=True,
        min_gap=settings.snooze,
        clock=None,
        ack_timeout=None,
        restarts=False,
    )


def normal(severity: str | None) -> str:
    """Return a severity as it is compared: without case and surrounding blanks; NULL is empty."""
    return "" if severity is None else severity.strip().lower()


def position(row: Row) -> int:
    """Return the position in the walk of the next escalation, from 1 on."""
    return row.level - (row.policy_level or 0) + 1


def exhausted(row: Row, ladder: Ladder) -> bool:
    """Tell whether the walk is over."""
    return position(row) > ladder.total


def ack_end(row: Row, ladder: Ladder, now: datetime, stored_at: datetime | None) -> datetime | None:
    """Return the instant at which the acknowledgement expires, or None if it does not.

    It counts from the instant at which the policy's text was stored, if that is later.
    """
    if row.acknowledged_at is None or ladder.ack_timeout is None:
        return None
    since = row.acknowledged_at if stored_at is None else max(row.acknowledged_at, stored_at)
    return min(since, now) + ladder.ack_timeout


def next_due(
    row: Row, ladder: Ladder, now: datetime, tick: timedelta, stored_at: datetime | None = None
) -> datetime | None:
    """Return the instant at which the row is due by a policy, or None if it never is.

    Instants of the past that lie later than ``now`` count as ``now``: the clock stepped back.
    """
    if row.resolved_at is not None:
        return None
    if row.acknowledged_at is not None:
        return ack_end(row, ladder, now, stored_at)
    n = position(row)
    if n > ladder.total:
        return None
    last_escalated = None if row.last_escalated_at is None else min(row.last_escalated_at, now)
    start = row.first_seen if row.policy_since is None else min(row.policy_since, now)
    last = start if last_escalated is None else last_escalated
    if ladder.first_seen:
        gaps = sum((ladder.gap(each) for each in range(1, n + 1)), ZERO)
        due = add(ladder.clock, start, gaps)
        if n > 1 and row.policy_since is not None:
            due = min(due, add(ladder.clock, last, ladder.gap(n)))
    else:
        due = add(ladder.clock, last if n > 1 else start, ladder.gap(n))
    if last_escalated is not None:
        due = max(due, last_escalated + max(ladder.min_gap, tick))
    if row.snoozed_until is not None:
        due = max(due, row.snoozed_until)
    hours = ladder.level(n).deliver
    return due.astimezone(UTC) if hours is None else next_open(hours, due)
