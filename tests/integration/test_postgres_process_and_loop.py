"""Tests of the process and the event loop that a PostgreSQL store belongs to."""

import asyncio
import os

import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_core import EscalationError

from ..acceptance.console import url_of
from .forking import HEARD, heard


async def test_a_second_loop_is_refused(migrated_dsn: str) -> None:
    """A store refuses a call from a second event loop, since its connections belong to the first loop."""
    store = await PostgresStore.connect(migrated_dsn)
    with pytest.raises(EscalationError, match="in another event loop before; open one for each loop"):
        await asyncio.to_thread(lambda: asyncio.run(store.check()))
    await store.aclose()


@pytest.mark.direct("the program that forks connects directly")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_is_refused(migrated_dsn: str) -> None:
    """A forked child cannot use the parent's store, nor disturb the parent by closing the store.

    Otherwise two processes would use one connection.
    """
    out = heard(url_of(migrated_dsn))
    assert out.startswith(HEARD)
    assert out.endswith("the parent goes on\n")
