"""A host's text, cut for receivers that count characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.channels.cut import cut, folded, not_blank

FAMILY, FLAG, WAVE, PAGER = "\U0001f468", "\U0001f1e9\U0001f1ea", "\U0001f44b\U0001f3fd", "\U0001f4df"


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("disk", 4, "disk"),
        ("disks", 4, "dis…"),
        ("", 4, ""),
        (PAGER * 2, 4, PAGER * 2),
        (PAGER * 2, 3, f"{PAGER}…"),
        (PAGER * 3, 4, f"{PAGER}…"),
        ("abcde\u0301f", 6, "abcd…"),
        (f"abc{WAVE}d", 6, "abc…"),
        (f"a{FLAG}{FLAG}", 8, f"a{FLAG}…"),
        (f"a{FLAG}{FLAG}", 4, "a…"),
        ("\u202eabc", 20, "\\u202eabc"),
        ("\u0301" * 50, 20, "\u0301" * 11 + "…"),
    ],
)
def test_cut(text: str, most: int, expected: str) -> None:
    """A text that fits stays; a cut shows an ellipsis, and parts no character that a receiver draws as one."""
    assert expected == cut(text, most)


@given(
    st.text(max_size=80) | st.text("\U0001f4df\U0001f1e9\U0001f3fde\u0301 \u202e\n", max_size=80), st.integers(1, 60)
)
def test_cut_of_any_text(text: str, most: int) -> None:
    """A cut text is printable, encodable, and has at most so many units of UTF-16."""
    for found in (cut(text, most), folded(text, most), not_blank(text, most)):
        assert len(found.encode("utf-16-le")) <= 2 * most
        assert found.isprintable()
    assert not_blank(text, most).strip()


def test_white_space() -> None:
    """A folded text has one blank for each run of white space, and a blank text gets quotes."""
    assert "disk is full" == folded(" disk\n\tis  full ", 60)
    assert ("' '", "'\\u3000'", "x") == (not_blank(" ", 9), not_blank("\u3000", 9), not_blank("x", 9))
