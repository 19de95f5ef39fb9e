"""Audit entries of actors, a store's row, and the cursors: their text, their ranges and their refusals."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import AuditEntry, InvalidValue
from escalation_core.model import AuditCursor, AuditRange, AuditSource, By, parse_cursor

from ..kit import DAY, START, incident

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
LAST_ID = 2**63 - 1
"""The largest id that a BIGINT column can hold."""

# --- entries


def test_row_becomes_an_entry() -> None:
    """``from_row`` reads the values in the order of the fields, and leaves the cursor unset."""
    names = [field.name for field in attrs.fields(AuditEntry)]
    row: list[Any] = ["then", "escalate", "k", 2, 3, "anna", "why", "ops"]
    found = AuditEntry.from_row(row, {"then": START}.__getitem__)
    assert dict(zip(names, [START, *row[1:], None], strict=True)) == attrs.asdict(found)


def test_row_of_an_entry_without_an_incident() -> None:
    """``from_row`` accepts a row that has an instant and an action alone."""
    found = AuditEntry.from_row(["then", "recalc", *[None] * 6], {"then": START}.__getitem__)
    assert AuditEntry(at=START, action="recalc") == found


@pytest.mark.parametrize("count", [0, 7, 9])
def test_row_of_another_length_is_refused(count: int) -> None:
    """``from_row`` refuses a row with fewer or more values than a store saves."""
    with pytest.raises(ValueError, match="values to unpack"):
        AuditEntry.from_row(["then"] * count, {"then": START}.__getitem__)


# --- actors and reasons


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (7, "is int; give a str"),
        (b"anna", "is bytes; give a str"),
        (False, "is bool; give a str"),
        ("a\0b", "holds a NUL character; leave it out"),
        ("\ud800", "holds a lone surrogate; give text that UTF-8 can encode"),
    ],
)
def test_text_that_no_store_can_save_is_refused(value: Any, fault: str) -> None:
    """``By`` refuses an actor and a reason that a store cannot save, and names the caller's argument."""
    with pytest.raises(InvalidValue) as actor:
        By(value)
    with pytest.raises(InvalidValue) as reason:
        By("anna", value)
    assert (f"by: {fault}", f"reason: {fault}") == (str(actor.value), str(reason.value))


@pytest.mark.parametrize("text", [None, "anna", "Zoë\n🔥"])
def test_any_other_text_goes_into_the_entry(text: str | None) -> None:
    """``By`` accepts no text and any text that a store can save, and writes it unchanged."""
    entry = By(text, text).entry(START, "recalc")
    assert AuditEntry(at=START, action="recalc", actor=text, reason=text) == entry


def test_entry_names_the_incident_as_it_is() -> None:
    """An entry about an incident has its key, its episode and its level."""
    entry = By("anna").entry(START, "drain", incident=incident("a", episode=4, level=0))
    assert AuditEntry(at=START, action="drain", incident_key="a", episode=4, level=0, actor="anna") == entry


@pytest.mark.parametrize(
    ("said", "reason", "expected"),
    [
        ((), None, None),
        ((), "why", "why"),
        ((), "", None),
        ((None,), None, None),
        (("until noon",), None, "until noon"),
        (("until noon",), "", "until noon"),
        (("until noon",), "why", "until noon: why"),
        (("one", "two"), "why", "one: two: why"),
        ((None, "two"), "why", "two: why"),
        (("one", None), None, "one"),
    ],
)
def test_reason_of_the_actor_comes_last(said: tuple[str | None, ...], reason: str | None, expected: str | None) -> None:
    """An entry joins the engine's texts and then the actor's reason, without those that are missing."""
    assert expected == By(reason=reason).entry(START, "pause", *said).reason


# --- cursors


def test_sources_have_the_numbers_of_stored_cursors() -> None:
    """Callers keep cursors, so the number and the order of each source never change."""
    assert [("ESCALATION", 1), ("PAGE", 2), ("NOTE", 3)] == [(source.name, source.value) for source in AuditSource]


@pytest.mark.parametrize(
    ("at", "source", "after_id"),
    [
        (AuditSource.ESCALATION, AuditSource.ESCALATION, 7),
        (AuditSource.ESCALATION, AuditSource.PAGE, 0),
        (AuditSource.ESCALATION, AuditSource.NOTE, 0),
        (AuditSource.PAGE, AuditSource.ESCALATION, LAST_ID),
        (AuditSource.PAGE, AuditSource.PAGE, 7),
        (AuditSource.PAGE, AuditSource.NOTE, 0),
        (AuditSource.NOTE, AuditSource.ESCALATION, LAST_ID),
        (AuditSource.NOTE, AuditSource.PAGE, LAST_ID),
        (AuditSource.NOTE, AuditSource.NOTE, 7),
    ],
)
def test_range_begins_behind_the_place(at: AuditSource, source: AuditSource, after_id: int) -> None:
    """A range reaches from the cursor's instant back, and leaves out the ids that the reader has."""
    found = AuditCursor(START, at, 7).range(source, START - DAY)
    assert AuditRange(since=START - DAY, until=START, after_id=after_id) == found


def test_range_is_open_unless_it_is_limited() -> None:
    """A range without further values has no newest instant, and leaves out no id."""
    assert AuditRange(since=START, until=None, after_id=0) == AuditRange(since=START)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (AuditCursor(EPOCH, AuditSource.ESCALATION, 0), "0.1.0"),
        (AuditCursor(EPOCH + TICK, AuditSource.PAGE, 1), "1.2.1"),
        (AuditCursor(EPOCH - TICK, AuditSource.NOTE, 12), "-1.3.12"),
        (AuditCursor(START + TICK, AuditSource.PAGE, 10**18 - 1), "1735689600000001.2.999999999999999999"),
        (AuditCursor(datetime.min.replace(tzinfo=UTC), AuditSource.NOTE, 7), "-62135596800000000.3.7"),
        (AuditCursor(datetime.max.replace(tzinfo=UTC), AuditSource.NOTE, 7), "253402300799999999.3.7"),
    ],
)
def test_cursor_is_microseconds_source_and_id(place: AuditCursor, text: str) -> None:
    """A cursor's text has the microseconds since 1970, the source and the id, and ``parse_cursor`` reads it back."""
    assert text == place.cursor
    assert place == parse_cursor(text)


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "1", "1.1", "1.1.", ".1.1", "1..1", "1.1.1.1", "1,1,1"),
        *(" 1.1.1", "1.1.1 ", "1.1.1\n", "1.1 .1"),
        *("1.0.1", "1.4.1", "1.11.1", "1.-1.1", "1.x.1"),
        *("+1.1.1", "--1.1.1", "1.1.-1", "1.1.+1", "1_0.1.1", "1e3.1.1", "0x1.1.1"),
        *("١.1.1", "1.1.１"),  # noqa: RUF001 - digits of other scripts on purpose
        *("1" * 19 + ".1.1", "-" + "1" * 19 + ".1.1", "1.1." + "1" * 19, "1" * 5000 + ".1.1"),
        *("253402300800000000.1.1", "-62135596800000001.1.1", "999999999999999999.1.1", "-999999999999999999.1.1"),
        *(None, 7, 1.1, b"1.1.1", ("1", "1", "1")),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_other_values_are_not_cursors(cursor: Any) -> None:
    """``parse_cursor`` refuses any other value, also an instant outside the years 1 to 9999, with one message."""
    with pytest.raises(InvalidValue) as caught:
        parse_cursor(cursor)
    assert "after: is not a valid cursor; give the cursor of the last entry that you have" == str(caught.value)
    assert None is caught.value.__context__
