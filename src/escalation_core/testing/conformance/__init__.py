"""The conformance checks: what every store and every notifier promises, as plain async functions over a harness.

They import no test framework. With pytest::

    @pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
    async def test_my_store(check):
        await check(MyHarness())

A check that fails raises AssertionError.
"""

from collections.abc import Awaitable, Callable

from . import claimants, clocks, edges, hosts, incidents, notifiers, operations, promises, records
from .harness import NotifierHarness, StoreHarness

STORE_CHECKS: tuple[Callable[[StoreHarness], Awaitable[None]], ...] = (
    *incidents.CHECKS,
    *records.CHECKS,
    *promises.CHECKS,
    *claimants.CHECKS,
    *edges.CHECKS,
    *hosts.CHECKS,
    *clocks.CHECKS,
    *operations.CHECKS,
)
NOTIFIER_CHECKS: tuple[Callable[[NotifierHarness], Awaitable[None]], ...] = notifiers.CHECKS

__all__ = ["NOTIFIER_CHECKS", "STORE_CHECKS", "NotifierHarness", "StoreHarness"]
