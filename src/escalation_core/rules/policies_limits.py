"""The limits of policies that concern more than one value, and the warnings about policies that are valid."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from functools import lru_cache

from ..errors import InvalidValue
from .assignment import Assignment
from .hours import Hours
from .on_call import schedule_of
from .policies_values import joined, shown, unknown
from .policy import MAX_ESCALATIONS, Anchor, Policy
from .rotation import Rotation

DEFAULT = "default"
"""The name of the policy that incidents get if no assignment matches; without it, they get the built-in policy."""
MIN_ACK_TIMEOUT = timedelta(minutes=1)
_YEAR_DAYS = 365
_MAX_GAP_YEARS = 5
MAX_WINDOWS_IN_GAP = 2_000
"""The most windows through which a gap may run: with one on each working day, more than seven years."""
Fault = tuple[str, InvalidValue]
"""The path of a value, and its fault."""


def hours_faults(path: str, hours: Hours) -> Iterator[Fault]:
    """Yield the faults of hours that do not open for a year, whatever the day on which the year begins."""
    if not hours.least_open(_YEAR_DAYS):
        yield path, InvalidValue("hours", "do not open for a whole year", "leave out closed dates")


def policy_faults(path: str, policy: Policy) -> Iterator[Fault]:
    """Yield the faults of a policy whose values are valid each."""
    times, first = policy.repeat.times, policy.levels[0].after
    if policy.total > MAX_ESCALATIONS:
        fault = f"is {times}: {len(policy.levels)} levels in {times + 1} rounds are {policy.total} escalations"
        yield f"{path}.repeat.times", InvalidValue("times", fault, f"have at most {MAX_ESCALATIONS}")
        return
    if times and not first and policy.repeat.after is None:
        fault = "is missing, and the first level's after is 0: a round would follow at once"
        yield f"{path}.repeat.after", InvalidValue("after", fault, "write the gap before the next round, as 30m")
    if policy.anchor is Anchor.FIRST_SEEN:
        yield from _min_gap_faults(path, policy)
    if policy.ack_timeout is not None and policy.ack_timeout < MIN_ACK_TIMEOUT:
        yield f"{path}.ack_timeout", InvalidValue("ack_timeout", "is shorter than a minute", "write at least 1m")
    if policy.clock is not None:
        yield from _clock_faults(path, policy, policy.clock)


def _min_gap_faults(path: str, policy: Policy) -> Iterator[Fault]:
    fault = None
    if policy.min_gap is not None and not policy.min_gap:
        fault = "is 0, and the anchor is first_seen"
    elif policy.min_gap is None and not any(policy.gaps):
        fault = "is missing, the anchor is first_seen, and all gaps are 0"
    if fault is not None:
        remedy = "write a gap above 0: after an outage, escalations would follow each other at once"
        yield f"{path}.min_gap", InvalidValue("min_gap", fault, remedy)


def _clock_faults(path: str, policy: Policy, clock: Hours) -> Iterator[Fault]:
    """Yield a fault for each gap that, under the policy's clock, may not end within five years."""
    places = {f"{path}.levels[{index}].after": level.after for index, level in enumerate(policy.levels)}
    if policy.repeat.times and policy.repeat.after is not None:
        places[f"{path}.repeat.after"] = policy.repeat.after
    open_time = _least_open(clock) if any(places.values()) else timedelta()
    weekly = sum(len(window.days) for window in clock.windows)
    for place, gap in places.items():
        if gap * weekly > MAX_WINDOWS_IN_GAP * _weekly_open(clock):
            fault = f"runs through more than {MAX_WINDOWS_IN_GAP} windows of {clock.name}, which takes long to compute"
            yield place, InvalidValue("after", fault, "write a shorter gap, or fewer and longer windows")
            continue
        if gap > open_time:
            fault = f"may not end within {_MAX_GAP_YEARS} years: {clock.name} may be open for {open_time} only"
            yield place, InvalidValue("after", fault, "write a shorter gap, or longer hours")


def _weekly_open(clock: Hours) -> timedelta:
    """Return the time in which the windows of a week are open; those that overlap count more than once."""
    return sum((window.span * len(window.days) for window in clock.windows), timedelta())


@lru_cache(maxsize=100)
def _least_open(clock: Hours) -> timedelta:
    """Return the least open time of five years. It takes milliseconds, and many policies may have one clock."""
    return clock.least_open(_MAX_GAP_YEARS * _YEAR_DAYS)


def settings_faults(
    policies: Iterable[Policy],
    hours: Iterable[Hours],
    max_level: int | None,
    *,
    tick_interval: timedelta,
) -> Iterator[Fault]:
    """Yield the faults of lengths that depend on settings; see ``Policies.check``."""
    for each in hours:
        for index, window in enumerate(each.windows):
            if window.span < 2 * tick_interval:
                fault = f"is {window.span} long, shorter than two tick intervals of {tick_interval}"
                remedy = "write a longer window, or tick more often (ESC_TICK_MS)"
                yield f"{joined('hours', each.name)}.windows[{index}]", InvalidValue("window", fault, remedy)
    for policy in policies:
        path = joined("policies", policy.name)
        if max_level is not None and policy.total > max_level:
            fault = f"has {policy.total} escalations, and MAX_ESC_LEVEL is {max_level}"
            yield path, InvalidValue("policy", fault, "have fewer levels or rounds, or unset MAX_ESC_LEVEL")


def names_faults(
    policies: Iterable[Policy],
    people: Mapping[str, str],
    *,
    targets: AbstractSet[str] | None,
    schedules: AbstractSet[str] | None,
) -> Iterator[Fault]:
    """Yield a fault for each level and each person with a target or a schedule that is not known; None: any may be."""
    for policy in policies:
        for index, level in enumerate(policy.levels):
            faults = (_name_fault(name, targets, schedules) for name in level.to)
            fault = next((fault for fault in faults if fault is not None), None)
            if fault is not None:
                yield f"{joined('policies', policy.name)}.levels[{index}].to", fault
    for person, target in people.items():
        fault = _name_fault(target, targets, schedules)
        if fault is not None:
            yield joined("people", person), fault


def _name_fault(name: str, targets: AbstractSet[str] | None, schedules: AbstractSet[str] | None) -> InvalidValue | None:
    schedule = schedule_of(name)
    if schedule is not None:
        known = schedules is None or schedule in schedules
        return None if known else unknown("names the schedule", schedule, schedules or ())
    if targets is None or name in targets:
        return None
    missed = unknown("names the target", name, targets)
    remedy = f"{missed.remedy}; a notifier must serve it, for example that of ESC_TARGETS"
    return InvalidValue("name", missed.fault, remedy)


def warnings_of(
    policies: Mapping[str, Policy],
    hours: Mapping[str, Hours],
    assignments: Iterable[Assignment],
    schedules: Mapping[str, Rotation],
) -> Iterator[str]:
    """Yield a sentence for each part of the policies that is valid, but probably not intended."""
    for name, policy in policies.items():
        path = joined("policies", name)
        last = len(policy.levels) - 1
        for index, level in enumerate(policy.levels):
            if level.deliver is not None and (index < last or policy.repeat.times):
                yield (
                    f"{path}.levels[{index}].deliver: everything after this level waits as well until"
                    f" {level.deliver.name} opens"
                )
        if policy.anchor is Anchor.FIRST_SEEN and policy.ack_timeout is not None:
            yield (
                f"{path}.anchor: after a long acknowledgement that expires, escalations follow each other"
                " every min_gap until they have caught up with first_seen"
            )
    assigned = {DEFAULT, *(assignment.policy for assignment in assignments)}
    for name in sorted(policies.keys() - assigned):
        yield f"{joined('policies', name)}: no assignment names it, so only incidents whose host names it get it"
    used = {name for policy in policies.values() for name in policy.hours}
    used |= {name for rotation in schedules.values() for name in rotation.hours}
    for name in sorted(hours.keys() - used):
        yield f"{joined('hours', name)}: no policy and no schedule uses these hours"


def warnings_of_schedules(
    policies: Mapping[str, Policy],
    schedules: Mapping[str, Rotation],
    calendars: Mapping[str, str],
    people: Mapping[str, str],
) -> Iterator[str]:
    """Yield a sentence for each schedule that no level names, and for each person in a rotation without a target."""
    used = {schedule_of(name) for policy in policies.values() for level in policy.levels for name in level.to}
    for name in sorted({*schedules, *calendars} - used):
        yield f"{joined('schedules', name)}: no policy names this schedule"
    for name, rotation in schedules.items():
        for person in rotation.people:
            if person not in people:
                instead = "ESC_DEFAULT_TARGET, or else what the routes say, is paged instead"
                yield f"{joined('schedules', name)}: people has no target for {shown(person)}: {instead}"
