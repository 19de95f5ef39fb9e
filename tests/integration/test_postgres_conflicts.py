"""Tests of conflicts and interruptions: the store runs the work again, or raises ``StoreUnavailable``."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString

import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres import store as store_module
from escalation_core import AuditEntry, StoreRefused, StoreUnavailable
from escalation_core.ports import Transaction

from .workers import overdue, select


def raising(state: LiteralString) -> LiteralString:
    return f"DO $$ BEGIN RAISE 'as if' USING ERRCODE = '{state}'; END $$"


def failing(state: LiteralString, times: int) -> tuple[Callable[[Transaction], Awaitable[int]], list[int]]:
    """Return work that writes an audit entry and fails its first ``times`` runs, and the list of its runs."""
    runs: list[int] = []

    async def work(tx: Transaction) -> int:
        runs.append(len(runs))
        await tx.journal.note([AuditEntry(at=await tx.now(), action="tried", reason=str(len(runs)))])
        if len(runs) <= times:
            anything: Any = tx
            await anything.incidents.session.connection.execute(raising(state))
        return len(runs)

    return work, runs


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_conflict_runs_the_work_again(migrated_dsn: str, state: LiteralString) -> None:
    """After a serialization failure or a deadlock the store runs the work again from its start, and keeps one run."""
    store = await PostgresStore.connect(migrated_dsn)
    work, _ = failing(state, 2)
    assert 3 == await store.transact(work)
    await store.aclose()
    assert ["3"] == select(migrated_dsn, "SELECT reason FROM escalation_audit WHERE action = 'tried'")


async def test_conflict_without_end_is_temporary(migrated_dsn: str) -> None:
    """If each run meets a conflict, the store raises ``StoreUnavailable``; after another error it does not retry."""
    store = await PostgresStore.connect(migrated_dsn)
    work, runs = failing("40001", 99)
    with pytest.raises(StoreUnavailable, match="met a conflict each time"):
        await store.transact(work)
    assert store_module.TRIES == len(runs)
    work, runs = failing("22012", 99)
    with pytest.raises(StoreRefused, match="as if"):
        await store.transact(work)
    assert [0] == runs
    await store.aclose()
    assert [] == select(migrated_dsn, "SELECT reason FROM escalation_audit WHERE action = 'tried'")


TEMPORARY: Sequence[LiteralString] = ("08006", "25P03", "53300", "55P03", "57014", "57P01", "57P05", "58030")


async def test_interruptions_are_temporary(migrated_dsn: str) -> None:
    """For time limits, lost connections, full servers and cancelled statements the store raises ``StoreUnavailable``.

    The next run of the work succeeds.
    """
    store = await PostgresStore.connect(migrated_dsn, max_connections=1)
    for state in TEMPORARY:
        work, runs = failing(state, 1)
        with pytest.raises(StoreUnavailable, match=r"^PostgreSQL is not available: as if$"):
            await store.transact(work)
        assert 2 == await store.transact(work)
        assert [0, 1] == runs
    await store.aclose()
    assert ["2"] * len(TEMPORARY) == select(migrated_dsn, "SELECT reason FROM escalation_audit WHERE action = 'tried'")


async def test_true_deadlock_is_resolved(migrated_dsn: str) -> None:
    """Two transactions that lock two incidents in opposite order both succeed, since the store runs one again."""
    a, b = overdue(migrated_dsn, 2)
    store = await PostgresStore.connect(migrated_dsn)
    both_hold_one = asyncio.Barrier(2)
    tries = []

    async def lock(first: str, second: str) -> None:
        met = False

        async def work(tx: Transaction) -> None:
            nonlocal met
            tries.append(first)
            await tx.incidents.load(first)
            if not met:
                met = True
                await both_hold_one.wait()
            await tx.incidents.load(second)

        await store.transact(work)

    await asyncio.wait_for(asyncio.gather(lock(a, b), lock(b, a)), 20)
    await store.aclose()
    assert 3 == len(tries)
