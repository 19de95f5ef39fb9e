"""Lists as PostgreSQL's array literals, a batch at a time: written value by value they cost a third of a tick."""

from collections.abc import Iterator, Sequence
from datetime import datetime

Item = str | int | datetime | None


def literal(items: Sequence[Item]) -> str:
    """Return a list of texts, whole numbers or aware instants as the text of an array; None becomes NULL.

    The statement casts it, as in ``%(keys)s::text[]``.
    """
    kind = next((type(item) for item in items if item is not None), None)
    if kind is None:
        return "{" + ",".join(["NULL"] * len(items)) + "}"
    if kind is int:
        return "{" + ",".join("NULL" if item is None else str(item) for item in items) + "}"
    if kind is datetime:
        return "{" + ",".join(_instants(items)) + "}"
    if None in items:
        return "{" + ",".join("NULL" if item is None else f'"{_escaped(str(item))}"' for item in items) + "}"
    texts = [str(item) for item in items]
    joined = "".join(texts)
    if "\\" in joined or '"' in joined:
        texts = [_escaped(text) for text in texts]
    return '{"' + '","'.join(texts) + '"}'


def _instants(items: Sequence[Item]) -> Iterator[str]:
    """Write instants; within a batch, the same one often stands in every row."""
    last, text = None, "NULL"
    for item in items:
        if item is not last:
            last, text = item, item.isoformat() if isinstance(item, datetime) else "NULL"
        yield text


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
