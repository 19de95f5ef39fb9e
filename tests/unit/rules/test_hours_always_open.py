"""Hours whose windows touch: they are open without a gap, and a search through them ends."""

from datetime import UTC, date, datetime, time, timedelta

import pytest

from escalation_core.rules.hours import Hours, Window

NOW = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
"""The evening before a clock change."""


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
def test_hours_that_never_close(zone: str) -> None:
    """They are open at once, and a gap in them takes just its length, also over midnight and a clock change."""
    always = Hours(
        name="always",
        zone=zone,
        windows=(Window(days=frozenset(range(7)), start=time(12), end=time(12)),),
    )
    assert NOW == always.next_open(NOW)
    for span in (timedelta(minutes=1), timedelta(days=3), timedelta(days=400)):
        assert NOW + span == always.add(NOW, span)


def test_a_gap_that_fills_two_windows_ends_where_the_second_closes() -> None:
    """Two windows that touch count as one: a gap of both lengths ends at the end of the second."""
    hours = Hours(
        name="two",
        zone="UTC",
        windows=tuple(
            Window(days=frozenset({0}), start=time(begin), end=time(end)) for begin, end in ((9, 12), (12, 13))
        ),
        closed=frozenset({date(2026, 4, 6)}),
    )
    monday = datetime(2026, 3, 30, 9, tzinfo=UTC)
    assert monday + timedelta(hours=4) == hours.add(monday, timedelta(hours=4))
    assert monday + timedelta(hours=3) == hours.add(monday, timedelta(hours=3))
    assert datetime(2026, 4, 13, 9, 0, 1, tzinfo=UTC) == hours.add(monday, timedelta(hours=4, seconds=1))
