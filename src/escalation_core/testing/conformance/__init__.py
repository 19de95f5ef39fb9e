"""The conformance checks: what every store and every notifier promises, as plain async functions over a harness.

They import no test framework. With pytest::

    @pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
    async def test_my_store(check):
        await check(MyHarness())

A check that fails raises AssertionError.
"""

from collections.abc import Awaitable, Callable

from . import claimants, clocks, edges, hosts, incidents, notifiers, operations, promises, records
from .harness import Capabilities, NotifierHarness, StoreHarness

StoreCheck = Callable[[StoreHarness], Awaitable[None]]
PAGING_CHECKS: tuple[StoreCheck, ...] = (
    *incidents.CHECKS,
    *records.CHECKS,
    *promises.CHECKS,
    *claimants.CHECKS,
    *edges.CHECKS,
    *hosts.CHECKS,
    *clocks.CHECKS,
)
"""The first tier: what a tick, a delivery pass and the verbs on incidents need of a store."""
OPERATING_CHECKS: tuple[StoreCheck, ...] = (
    *records.OPERATE_CHECKS,
    *promises.OPERATE_CHECKS,
    *hosts.OPERATE_CHECKS,
    *clocks.OPERATE_CHECKS,
    *operations.OPERATE_CHECKS,
)
"""The second tier: pauses, history and audit, retention, integrity, and the operators' endpoints."""
STORE_CHECKS: tuple[StoreCheck, ...] = (*PAGING_CHECKS, *OPERATING_CHECKS)
NOTIFIER_CHECKS: tuple[Callable[[NotifierHarness], Awaitable[None]], ...] = notifiers.CHECKS

__all__ = [
    "NOTIFIER_CHECKS",
    "OPERATING_CHECKS",
    "PAGING_CHECKS",
    "STORE_CHECKS",
    "Capabilities",
    "NotifierHarness",
    "StoreHarness",
]
