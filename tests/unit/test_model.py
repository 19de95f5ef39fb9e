"""An incident's two ways of being made: from values of anybody's, and from a store's row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import Incident, InvalidValue

NAMES = [field.name for field in attrs.fields(Incident)]
INSTANTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(max_size=4) | st.sampled_from(["critical", "a\0b", "\ud800", "zwölf\n"])
ROWS = st.fixed_dictionaries(
    {
        "incident_key": TEXTS | st.sampled_from(["k", "k" * 512, "k" * 513, "ü" * 257, "a\nb", 7]),
        "severity": st.none() | TEXTS | st.just(3),
        "first_seen": INSTANTS | st.none(),
        "level": st.integers(-1, 101) | st.sampled_from([None, True, "1", 1.0]),
        "episode": st.integers(0, 3) | st.sampled_from([None, True]),
        "last_escalated_at": st.none() | INSTANTS,
        "acknowledged_at": st.none() | INSTANTS,
        "acknowledged_by": st.none() | TEXTS,
        "resolved_at": st.none() | INSTANTS,
        "snoozed_until": st.none() | INSTANTS,
        "next_due_at": st.none() | INSTANTS,
        "summary": st.none() | TEXTS,
        "labels": st.just({}) | st.dictionaries(TEXTS, TEXTS | st.just(3), max_size=2),
    }
)


@given(ROWS)
def test_row_is_held_against_the_same_rules(values: dict[str, Any]) -> None:
    """Whatever a row holds, it becomes the incident that the same values make, or the same fault."""
    def outcome(make: Any) -> Any:
        try:
            return attrs.asdict(make())
        except InvalidValue as fault:
            return str(fault)

    assert outcome(lambda: Incident(**values)) == outcome(lambda: Incident.of_row([values[name] for name in NAMES]))


def test_row_becomes_an_incident_that_nobody_can_change() -> None:
    """It is as frozen as any other, and equal to it."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    incident = Incident.of_row(("k", "critical", now, 1, 2, now, None, None, None, None, now, "full", {}))
    assert incident == Incident(
        incident_key="k",
        severity="critical",
        first_seen=now,
        level=1,
        episode=2,
        last_escalated_at=now,
        next_due_at=now,
        summary="full",
    )
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        incident.level = 3  # type: ignore[misc]


def test_moved_changes_its_place_alone() -> None:
    """Level and instants are the new ones; all else stays."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    incident = Incident(incident_key="k", severity="critical", first_seen=now, summary="full", labels={"a": "b"})
    later = now + timedelta(minutes=5)
    moved = incident.moved(level=3, last_escalated_at=now, next_due_at=later)
    assert attrs.evolve(incident, level=3, last_escalated_at=now, next_due_at=later) == moved
