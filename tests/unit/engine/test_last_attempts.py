"""The last attempts that an engine keeps until a heartbeat writes them."""

from datetime import timedelta
from typing import Any

from escalation_core import Delivered, Rejected, Retry
from escalation_core.engine.last_attempts import AttemptLog, record
from escalation_core.errors import StoreUnavailable
from escalation_core.model import LastAttempts
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import MINUTE, SECOND, START, page

T = page(target="t")


def test_each_outcome_keeps_the_other() -> None:
    """A failure does not hide the last success, nor the other way round."""
    log = AttemptLog()
    log.add([(T, Delivered())], START)
    log.add([(T, Retry("busy")), (page(target="u"), Rejected("gone"))], START + SECOND)
    log.add([(T, Delivered())], START + MINUTE)
    log.add([], START + MINUTE)
    t = LastAttempts(target="t", delivered_at=START + MINUTE, failed_at=START + SECOND, error="busy")
    u = LastAttempts(target="u", failed_at=START + SECOND, error="gone")
    assert {"t": t, "u": u} == log.unwritten()


def test_what_ends_while_a_heartbeat_writes_is_kept() -> None:
    """An attempt that ends after the heartbeat has read the log is left to the next one."""
    log = AttemptLog()
    log.add([(T, Delivered()), (page(target="u"), Delivered())], START)
    read = log.unwritten()
    log.add([(T, Retry("busy"))], START + SECOND)
    log.written(read)
    assert ["t"] == list(log.unwritten())
    assert "busy" == log.unwritten()["t"].error


async def test_an_instant_ahead_of_the_clock_is_not_written(store: MemoryStore) -> None:
    """If the clock was set back after the attempt, the attempt counts from now."""
    log = AttemptLog()
    log.add([(T, Delivered())], START + MINUTE)

    async def work(tx: Transaction) -> None:
        await record(tx, log.unwritten(), now=START, step=timedelta())

    await store.transact(work)
    [found] = await store.read(lambda tx: tx.journal.targets())
    assert START == found.attempts.delivered_at


async def test_a_store_that_is_down_does_not_hinder_the_end() -> None:
    """An engine that closes while its store is down loses the last attempts, and raises nothing."""

    class Down(MemoryStore):
        async def transact(self, work: Any) -> Any:
            raise StoreUnavailable("down")

    log = AttemptLog()
    log.add([(T, Delivered())], START)
    await log.write(Down(ManualClock(START)))
    assert {} == log.unwritten()


async def test_nothing_is_written_without_attempts() -> None:
    """An engine that sent nothing opens no transaction as it closes."""

    class Closed(MemoryStore):
        async def transact(self, work: Any) -> Any:
            raise AssertionError("a transaction")

    await AttemptLog().write(Closed(ManualClock(START)))
