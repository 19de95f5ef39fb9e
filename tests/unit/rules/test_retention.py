"""Retention: which old escalations and notes a prune may delete."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core.model import AuditSource, OldRow
from escalation_core.rules.retention import may_go

BEFORE = datetime(2025, 6, 1, tzinfo=UTC)
ROW = OldRow(id=1, incident_key="k", episode=1, is_open=False, current_episode=2, highest_episode=2)
"""An escalation or note of an episode that another one has followed."""


@pytest.mark.parametrize("source", [AuditSource.ESCALATION, AuditSource.NOTE])
@pytest.mark.parametrize(
    ("changed", "goes"),
    [
        ({}, True),
        ({"is_open": True}, False),
        ({"current_episode": 1, "highest_episode": 1}, False),
        ({"current_episode": None}, True),
        ({"current_episode": None, "highest_episode": 1}, False),
    ],
)
def test_row_goes_once_its_episode_is_over_and_followed(
    source: AuditSource, changed: dict[str, Any], goes: bool
) -> None:
    """A row of an open incident stays, and so does a row of a key's last episode."""
    assert goes == may_go(attrs.evolve(ROW, **changed), source, BEFORE)


def test_note_about_no_incident_goes_by_its_age_alone() -> None:
    """A note without an incident, for example about a pause, is deleted by its age only."""
    note = attrs.evolve(ROW, incident_key=None, episode=None, current_episode=None, highest_episode=0)
    assert may_go(note, AuditSource.NOTE, BEFORE)


@pytest.mark.parametrize(
    ("pages", "goes"),
    [
        ({"unsettled": True}, False),
        ({"settled_at": BEFORE}, False),
        ({"settled_at": BEFORE - timedelta(microseconds=1)}, True),
    ],
)
def test_escalation_waits_for_its_pages(pages: dict[str, Any], goes: bool) -> None:
    """A page that is unsettled, or was settled recently, keeps its escalation; a note has no pages."""
    row = attrs.evolve(ROW, **pages)
    assert goes == may_go(row, AuditSource.ESCALATION, BEFORE)
    assert may_go(row, AuditSource.NOTE, BEFORE)


def test_highest_episode_in_the_ledger_stays() -> None:
    """The ledger's highest episode stays, even if the host's row is at a later episode."""
    row = attrs.evolve(ROW, current_episode=2, highest_episode=1)
    assert not may_go(row, AuditSource.ESCALATION, BEFORE)
