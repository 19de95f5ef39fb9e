"""Strategies for the properties: nearly valid texts and bytes, and the text of errors to search for secrets."""

from typing import TypeVar

from hypothesis import strategies as st

Sequence = TypeVar("Sequence", str, bytes)

HUSH = "h7Sh" * 12
"""A secret for all tests; no text that the library writes itself holds a part of it."""
ANY_TEXT = st.text(st.characters(), max_size=40)
"""Any text, including lone surrogates, which is how Python shows a variable that is not UTF-8."""


def damaged(legal: st.SearchStrategy[Sequence], scrap: st.SearchStrategy[Sequence]) -> st.SearchStrategy[Sequence]:
    """Return a valid value in which another part, maybe empty, replaces a part, maybe empty."""

    @st.composite
    def strategy(draw: st.DrawFn) -> Sequence:
        whole = draw(legal)
        begin = draw(st.integers(0, len(whole)))
        end = draw(st.integers(begin, min(len(whole), begin + 8)))
        return whole[:begin] + draw(scrap) + whole[end:]

    return strategy()


def near(*legal: str) -> st.SearchStrategy[str]:
    """Return one of these texts, or a damaged one, or any text."""
    texts = st.sampled_from(legal)
    return texts | damaged(texts, st.text(st.characters(), max_size=4)) | ANY_TEXT


def near_bytes(*legal: bytes) -> st.SearchStrategy[bytes]:
    """Return one of these values, or a damaged one, or any bytes."""
    values = st.sampled_from(legal)
    return values | damaged(values, st.binary(max_size=4)) | st.binary(max_size=80)


def told(error: BaseException) -> str:
    """Return the text, repr and fields of an error, and of each error in its chain."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None:
        chain.append(found)
        found = found.__cause__ or found.__context__
    return " ".join(f"{each} {each!r} {each.args!r} {vars(each)!r}" for each in chain)
