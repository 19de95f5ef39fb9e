"""Rows that the database refuses: found by halves, so that the others are written in bulk all the same."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from .errors import StoreRefused
from .ports import Transaction

Item = TypeVar("Item")
Result = TypeVar("Result")


async def write_apart(
    tx: Transaction,
    items: Sequence[Item],
    write: Callable[[Sequence[Item]], Awaitable[Result]],
    refused: Callable[[Item, StoreRefused], Awaitable[Result]],
) -> list[Result]:
    """Write items in bulk behind a savepoint; of what is refused write each half, down to the item that is to blame.

    ``refused`` is called with each such item. Of n items with one that is refused about 2 log2(n) writes are tried.
    Return the results in the order of the items.
    """
    if not items:
        return []
    try:
        return [await tx.attempt(partial(write, items))]
    except StoreRefused as refusal:
        if len(items) == 1:
            return [await refused(items[0], refusal)]
    half = len(items) // 2
    return [
        *await write_apart(tx, items[:half], write, refused),
        *await write_apart(tx, items[half:], write, refused),
    ]
