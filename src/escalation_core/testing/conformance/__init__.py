"""Conformance checks for stores, notifiers and sources of schedules, as plain async functions that take a harness.

They need no test framework: ``await check(MyHarness())`` runs one check, with a new harness for each. A check raises
AssertionError if it fails. With pytest, parametrize one test over ``STORE_CHECKS``, with
``ids=lambda check: check.__name__``.
"""

from collections.abc import Awaitable, Callable

from . import (
    changes,
    claimants,
    clocks,
    edges,
    host_walks,
    hosts,
    incidents,
    listing,
    notices,
    notifiers,
    on_call,
    operations,
    promises,
    records,
    schedules,
    storms,
    target_records,
    targets,
    telling,
    versions,
    walks,
)
from .harness import Capabilities, NotifierHarness, ScheduleSourceHarness, StoreHarness

StoreCheck = Callable[[StoreHarness], Awaitable[None]]
PAGING_CHECKS: tuple[StoreCheck, ...] = (
    *incidents.CHECKS,
    *records.CHECKS,
    *promises.CHECKS,
    *claimants.CHECKS,
    *targets.CHECKS,
    *storms.CHECKS,
    *target_records.CHECKS,
    *edges.CHECKS,
    *hosts.CHECKS,
    *clocks.CHECKS,
)
"""The first tier: checks for ticks, delivery passes and actions on incidents."""
OPERATING_CHECKS: tuple[StoreCheck, ...] = (
    *records.OPERATE_CHECKS,
    *promises.OPERATE_CHECKS,
    *hosts.OPERATE_CHECKS,
    *clocks.OPERATE_CHECKS,
    *operations.OPERATE_CHECKS,
    *listing.OPERATE_CHECKS,
)
"""The second tier: checks for pauses, history and audit, retention, integrity and the operators' endpoints."""
STORE_CHECKS: tuple[StoreCheck, ...] = (*PAGING_CHECKS, *OPERATING_CHECKS)
WALK_CHECKS: tuple[StoreCheck, ...] = (*walks.CHECKS, *versions.CHECKS, *host_walks.CHECKS, *on_call.CHECKS)
"""A capability of its own: checks for incidents that walk through the policies of a file."""
NOTICE_CHECKS: tuple[StoreCheck, ...] = (*changes.CHECKS, *notices.CHECKS)
"""A capability of its own: checks for notices about paged incidents."""
NOTIFIER_CHECKS: tuple[Callable[[NotifierHarness], Awaitable[None]], ...] = (*notifiers.CHECKS, *telling.CHECKS)
SCHEDULE_SOURCE_CHECKS: tuple[Callable[[ScheduleSourceHarness], Awaitable[None]], ...] = schedules.CHECKS

__all__ = [
    "NOTICE_CHECKS",
    "NOTIFIER_CHECKS",
    "OPERATING_CHECKS",
    "PAGING_CHECKS",
    "SCHEDULE_SOURCE_CHECKS",
    "STORE_CHECKS",
    "WALK_CHECKS",
    "Capabilities",
    "NotifierHarness",
    "ScheduleSourceHarness",
    "StoreHarness",
]
