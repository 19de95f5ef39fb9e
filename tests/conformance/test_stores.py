"""The library's own stores, checked for every promise of the ports."""

from collections.abc import Awaitable, Callable

import pytest

from escalation_core.testing.conformance import NOTICE_CHECKS, STORE_CHECKS, WALK_CHECKS, StoreHarness

Check = Callable[[StoreHarness], Awaitable[None]]


@pytest.mark.parametrize("check", [*STORE_CHECKS, *WALK_CHECKS, *NOTICE_CHECKS], ids=lambda check: check.__name__)
async def test_store_keeps_the_promise(check: Check, harness: StoreHarness) -> None:
    """The store does what the port promises; the docstring of each check names the promise."""
    await check(harness)
