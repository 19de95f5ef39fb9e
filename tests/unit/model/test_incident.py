"""The two constructors of an incident: from arbitrary values, and from a store's row."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import Incident, InvalidValue

INSTANT = datetime(2026, 1, 1, tzinfo=UTC)
INSTANTS = st.none() | st.datetimes(timezones=st.just(UTC))
TEXTS = st.none() | st.text(max_size=4) | st.sampled_from(["a\0b", "\ud800", "zwölf\n", 3])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "incident_key": TEXTS | st.sampled_from(["k" * 512, "k" * 513, "ü" * 257, "a\nb", "a\x7fb"]),
    "severity": TEXTS,
    "first_seen": INSTANTS,
    "level": st.integers(-1, 101) | st.sampled_from([None, True, "1", 1.0]),
    "episode": st.integers(0, 3) | st.sampled_from([None, True]),
    "last_escalated_at": INSTANTS,
    "acknowledged_at": INSTANTS,
    "acknowledged_by": TEXTS,
    "resolved_at": INSTANTS,
    "snoozed_until": INSTANTS,
    "next_due_at": INSTANTS,
    "summary": TEXTS,
    "labels": st.dictionaries(st.text(max_size=4), TEXTS, max_size=2),
    "policy": TEXTS,
    "policy_pin": TEXTS,
    "policy_level": st.none() | st.integers(-1, 101) | st.sampled_from([True, "1", 1.0]),
    "policy_since": INSTANTS,
}
PLAIN: dict[str, Any] = dict.fromkeys(VALUES)
PLAIN |= {"incident_key": "k", "first_seen": INSTANT, "level": 0, "episode": 1, "labels": {}}


def test_fields_are_in_the_order_of_a_row() -> None:
    """The columns of this file's rows are the fields of Incident, in the same order."""
    assert list(VALUES) == [field.name for field in attrs.fields(Incident)]


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_row_is_held_against_the_same_rules(name: str, data: st.DataObject) -> None:
    """For any value in a column, from_row gives the same incident or the same fault as the constructor."""
    values = PLAIN | {name: data.draw(VALUES[name])}

    def outcome(make: Callable[[], Incident]) -> object:
        try:
            return attrs.asdict(make())
        except InvalidValue as fault:
            return str(fault)

    assert outcome(lambda: Incident(**values)) == outcome(lambda: Incident.from_row(list(values.values())))


def test_row_becomes_an_incident_that_cannot_be_changed() -> None:
    """An incident made from a row equals a constructed one, and cannot be changed either."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    walk = ("ops", "ops@d@critical", 1, now)
    incident = Incident.from_row(("k", "critical", now, 1, 2, now, None, None, None, None, now, "full", {}, *walk))
    assert incident == Incident(
        incident_key="k",
        severity="critical",
        first_seen=now,
        level=1,
        episode=2,
        last_escalated_at=now,
        next_due_at=now,
        summary="full",
        policy="ops",
        policy_pin="ops@d@critical",
        policy_level=1,
        policy_since=now,
    )
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        incident.level = 3  # type: ignore[misc]


def test_moved_changes_its_place_alone() -> None:
    """``moved`` sets level and instants, and keeps all other fields."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    incident = Incident(
        incident_key="k",
        severity="critical",
        first_seen=now,
        summary="full",
        labels={"a": "b"},
        policy="ops",
        policy_pin="ops@d@critical",
        policy_level=1,
        policy_since=now,
    )
    later = now + timedelta(minutes=5)
    moved = incident.moved(level=3, last_escalated_at=now, next_due_at=later)
    assert attrs.evolve(incident, level=3, last_escalated_at=now, next_due_at=later) == moved


@pytest.mark.parametrize("labels", [{"n" * 60_000: "\ud800"}, {"n" * 60_000: 7}])
def test_an_error_quotes_so_much_of_a_host(labels: dict[str, Any]) -> None:
    """An error about a host's value has a bounded length, also in health, the log and the audit."""
    with pytest.raises(InvalidValue) as caught:
        Incident(incident_key="k", first_seen=INSTANT, labels=labels)
    assert len(str(caught.value)) < 700
    assert "give " in str(caught.value)
