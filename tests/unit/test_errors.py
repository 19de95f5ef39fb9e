"""Errors: one base class, messages of three parts, and bounds on quoted text."""

import pytest

from escalation_core import errors
from escalation_core.errors import MAX_QUOTED_CHARS, EscalationError, InvalidValue, shortened


def test_every_error_is_caught_by_the_base_class() -> None:
    """Every error class of the library is a subclass of EscalationError."""
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(classes) > 6
    assert [] == [each for each in classes if not issubclass(each, EscalationError)]


def test_invalid_value_names_field_fault_and_remedy() -> None:
    """The message has field, fault and remedy in this order, and the attributes have them as well."""
    error = InvalidValue("first_seen", "is naive", "give an instant with a zone")
    assert "first_seen: is naive; give an instant with a zone" == str(error)
    assert ("first_seen", "is naive", "give an instant with a zone") == (error.field, error.fault, error.remedy)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("length", [MAX_QUOTED_CHARS, MAX_QUOTED_CHARS + 1, 10 * MAX_QUOTED_CHARS])
def test_quoted_text_has_a_bound(length: int) -> None:
    """A long text is shortened to the maximum, and keeps its beginning and its end."""
    text = "a" + "x" * (length - 2) + "z"
    short = shortened(text)
    assert len(short) <= MAX_QUOTED_CHARS
    assert ("a", "z") == (short[0], short[-1])
    assert ("…" in short) == (length > MAX_QUOTED_CHARS)
    assert len(InvalidValue("f", text, "r").fault) <= MAX_QUOTED_CHARS
