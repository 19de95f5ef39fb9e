"""Write lists as PostgreSQL array literals. To adapt a batch value by value would take a third of a tick's time."""

from collections.abc import Iterator, Sequence
from datetime import datetime

Item = str | int | datetime | None


def literal(items: Sequence[Item]) -> str:
    """Return the array literal of a list of texts, integers or aware datetimes; None becomes NULL.

    The statement casts the literal, for example ``%(keys)s::text[]``.
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
    """Yield the text of each instant. In a batch all are often one object, so its text is made only once."""
    last, text = None, "NULL"
    for item in items:
        if item is not last:
            last, text = item, item.isoformat() if isinstance(item, datetime) else "NULL"
        yield text


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
