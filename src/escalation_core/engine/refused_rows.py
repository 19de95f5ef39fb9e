"""Refused rows: find the rows that the store refuses to write by splitting a batch, and write the others in bulk."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from ..errors import StoreRefused
from ..model import Deferral
from ..ports import Transaction
from .tasks import monotonic

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_TRIES = 500
"""After so many writes a refused part is not split any more: enough to find about 30 refused items of a thousand."""
MAX_TIME = timedelta(seconds=10)
"""How long the search for refused items may take. The rows of the batch are locked meanwhile."""


async def write_apart(
    tx: Transaction, items: Sequence[Item], write: Callable[[Sequence[Item]], Awaitable[Result]]
) -> tuple[list[Result], list[tuple[Item, str]]]:
    """Write items in bulk with a savepoint. If the store refuses, write each half apart, down to single items.

    Return the results in the order of the items, and the refused items, each with the refusal. If the store refuses
    one of n items, this takes about 2 log2(n) writes. After ``MAX_TRIES`` or ``MAX_TIME`` a part that the store
    refuses is not split any more: all of its items count as refused.
    """
    until = monotonic() + MAX_TIME.total_seconds()
    results: list[Result] = []
    refused: list[tuple[Item, str]] = []
    left = [items] if items else []
    tries = 0
    while left:
        some = left.pop()
        tries += 1
        try:
            results.append(await tx.savepoint(partial(write, some)))
        except StoreRefused as refusal:
            if len(some) == 1 or tries >= MAX_TRIES or monotonic() > until:
                refused += [(item, str(refusal)) for item in some]
            else:
                half = len(some) // 2
                left += [some[half:], some[:half]]
    return results, refused


async def defer_or_pass_over(
    tx: Transaction, rows: Sequence[Deferral], now: datetime, altered: Sequence[Deferral] = ()
) -> None:
    """Defer rows. If the store refuses to write their next_due_at, pass them over: no claim finds them until then.

    ``altered`` rows are always passed over, because a trigger of the host changes each next_due_at that is written.

    Raises:
        StoreRefused: the store also refuses to write the engine's own table, so the rows are not the cause.
    """
    over = list(altered)
    if rows:
        try:
            await tx.savepoint(lambda: tx.incidents.defer_unreadable(rows, now))
        except StoreRefused:
            over += rows
    if over:
        await tx.savepoint(lambda: tx.incidents.pass_over(over, now))
