"""What the properties are tried with: nearly legal texts and bytes, and what every refusal is held to."""

from typing import TypeVar

from hypothesis import strategies as st

Sequence = TypeVar("Sequence", str, bytes)

HUSH = "h7Sh" * 12
"""Stands where secrets stand; no part of it is in any text that the library writes by itself."""
ANY_TEXT = st.text(st.characters(), max_size=40)
"""Lone surrogates, control characters and all: what a variable that is not UTF-8 is to Python."""


def damaged(legal: st.SearchStrategy[Sequence], scrap: st.SearchStrategy[Sequence]) -> st.SearchStrategy[Sequence]:
    """Return a legal value of which a part, maybe nothing, was replaced by something else, maybe nothing."""

    @st.composite
    def strategy(draw: st.DrawFn) -> Sequence:
        whole = draw(legal)
        begin = draw(st.integers(0, len(whole)))
        end = draw(st.integers(begin, min(len(whole), begin + 8)))
        return whole[:begin] + draw(scrap) + whole[end:]

    return strategy()


def near(*legal: str) -> st.SearchStrategy[str]:
    """Return one of these texts, or what was made of one by damage, or any text at all."""
    texts = st.sampled_from(legal)
    return texts | damaged(texts, st.text(st.characters(), max_size=4)) | ANY_TEXT


def near_bytes(*legal: bytes) -> st.SearchStrategy[bytes]:
    """Return the same for bytes."""
    values = st.sampled_from(legal)
    return values | damaged(values, st.binary(max_size=4)) | st.binary(max_size=80)


def told(error: BaseException) -> str:
    """Return all that an error says, and those that it carries along, by whatever way it is shown."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None:
        chain.append(found)
        found = found.__cause__ or found.__context__
    return " ".join(f"{each} {each!r} {each.args!r} {vars(each)!r}" for each in chain)
