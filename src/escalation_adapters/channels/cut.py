"""Cut a host's text for receivers that count characters. Pure functions."""

import unicodedata

from escalation_core.checks import visible

_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_SKIN_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))
MAX_STEPS = 8
"""How many characters a cut moves back at most, so that a letter keeps its accents."""


def cut(text: str, most: int) -> str:
    """Return a text with escapes for invisible characters, at most ``most`` units of UTF-16 long.

    A receiver may count units of UTF-16 or characters, of which there are never more. A cut shows an ellipsis. It
    separates no letter from its accents, no emoji from its skin tone, and no half of a flag from the other.
    """
    # Each character takes a unit or more, so what follows these is cut off anyway.
    line = visible(text[: most + 1])
    if len(text) <= most and _units(line) <= most:
        return line
    units = line.encode("utf-16-le")[: 2 * (most - 1)]
    # An emoji takes two units. If only the first one of them is left, it goes as well.
    kept = units.decode("utf-16-le", errors="ignore")
    for _ in range(MAX_STEPS):
        if not kept or not _belong_together(kept, line[len(kept) : len(kept) + 1]):
            break
        kept = kept[:-1]
    return f"{kept}…"


def folded(text: str, most: int) -> str:
    """Return a text as ``cut`` does, with each run of white space as one blank."""
    return cut(" ".join(text.split()), most)


def not_blank(text: str, most: int) -> str:
    """Return a text as ``cut`` does, and blank text in quotes, because a receiver may refuse a blank."""
    return cut(text if text.strip() else repr(text), most)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _belong_together(before: str, after: str) -> bool:
    """Return whether a receiver draws the last character of a text and the next one as one."""
    if not after:
        return False
    if after in _FLAG_LETTERS:  # two of them draw one flag
        return (len(before) - len(before.rstrip(_FLAG_LETTERS))) % 2 == 1
    return unicodedata.category(after).startswith("M") or after in _SKIN_TONES
