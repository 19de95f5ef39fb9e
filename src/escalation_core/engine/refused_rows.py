"""Rows that the store refuses to write: they are found by halves, so that the others are written in bulk."""

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
"""Writes that are tried to find out which items are refused: enough for about 30 of a thousand."""
MAX_TIME = timedelta(seconds=10)
"""How long it may take. The rows of the batch are locked meanwhile."""


async def write_apart(
    tx: Transaction, items: Sequence[Item], write: Callable[[Sequence[Item]], Awaitable[Result]]
) -> tuple[list[Result], list[tuple[Item, str]]]:
    """Write items in bulk behind a savepoint; of what is refused write each half by itself, down to the item.

    Return the results in the order of the items, and the items that were refused, each with the refusal. Of n items
    with one that is refused about 2 log2(n) writes are tried. After ``MAX_TRIES`` or ``MAX_TIME`` nothing is split any
    more: what is refused then, is refused as a whole.
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
    """Put rows back; if the store refuses to write even their instants, let no claim find them until then.

    Those that are ``altered`` are not deferred: a host's trigger changes whatever instant is written.

    Raises:
        StoreRefused: the engine's own table refuses them as well, so the rows are not at fault.
    """
    over = list(altered)
    if rows:
        try:
            await tx.savepoint(lambda: tx.incidents.defer_unreadable(rows, now))
        except StoreRefused:
            over += rows
    if over:
        await tx.savepoint(lambda: tx.incidents.pass_over(over, now))
