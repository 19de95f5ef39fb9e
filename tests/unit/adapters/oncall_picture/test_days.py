"""The days of a zone, and who is on call on them."""

from datetime import date, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from escalation_adapters.oncall_picture.days import change_text, days_from, people_text

from .rotas import SPRING, UNKNOWN, at, rota


@pytest.mark.parametrize(
    ("zone", "day", "hours", "text", "ticks"),
    [
        ("Europe/Berlin", "2026-01-05", 24, None, "00 03 06 09 12 15 18 21 24"),
        ("Europe/Berlin", "2026-03-29", 23, "clock +1 h", "00 03 06 09 12 15 18 21 24"),
        ("Europe/Berlin", "2026-10-25", 25, "clock -1 h", "00 03 06 09 12 15 18 21 24"),
        ("Australia/Lord_Howe", "2026-10-04", 23.5, "clock +30 min", "00 03 06 09 12 15 18 21 24"),
        ("Antarctica/Troll", "2026-10-25", 26, "clock -2 h", "00 03 06 09 12 15 18 21 24"),
        ("Africa/Cairo", "2026-04-24", 23, "clock +1 h", "01 03 06 09 12 15 18 21 24"),
        ("Africa/Cairo", "2026-04-23", 24, None, "00 03 06 09 12 15 18 21 24"),
        ("Africa/Cairo", "2026-10-29", 25, "clock -1 h", "00 03 06 09 12 15 18 21 24"),
        ("Africa/Cairo", "2026-10-30", 24, None, "00 03 06 09 12 15 18 21 24"),
    ],
)
def test_a_day_has_the_hours_of_its_zone(zone: str, day: str, hours: float, text: str | None, ticks: str) -> None:
    """A day on which the clock is changed is shorter or longer, and says so. Midnight itself may be skipped."""
    [one] = days_from(at(f"{day}T12:00", zone), 1, ZoneInfo(zone))
    assert (date.fromisoformat(day), hours) == (one.date, one.hours)
    change = one.clock_change
    assert text == (None if change is None else change_text(change[1]))
    assert ticks.split() == [hour for _, hour in one.scale]


def test_days_follow_one_another() -> None:
    """Each day begins where the one before ends, from the day of the instant on, in the clock of the zone."""
    days = days_from(at("2026-03-27T23:30"), 4, ZoneInfo("Europe/Berlin"))
    assert ["Sat 28 Mar", "Sun 29 Mar", "Mon 30 Mar", "Tue 31 Mar"] == [day.label for day in days]
    assert all(one.end == other.start for one, other in pairwise(days))
    assert at("2026-03-27T23:00") == days[0].start


def test_a_day_that_the_zone_left_out() -> None:
    """Samoa had no 30 December 2011."""
    days = days_from(at("2011-12-29T12:00", "Pacific/Apia"), 3, ZoneInfo("Pacific/Apia"))
    assert ["Thu 29 Dec", "Sat 31 Dec"] == [day.label for day in days]


def test_a_day_has_its_parts_of_the_spans() -> None:
    """Midnight divides a span. The parts fill the day."""
    friday, saturday, *_ = SPRING.days
    assert [("no one", 9), ("ann", 15)] == [
        (people_text(span), (span.end - span.start) / timedelta(hours=1)) for span in friday.of(SPRING.spans)
    ]
    assert [("ann", 24)] == [
        (people_text(span), (span.end - span.start) / timedelta(hours=1)) for span in saturday.of(SPRING.spans)
    ]
    assert ["ann", "not known"] == [people_text(span) for span in UNKNOWN.spans]


def test_handovers_are_where_the_people_change() -> None:
    assert [
        at(text, "Europe/Berlin")
        for text in ("2026-03-27T09:00", "2026-03-29T03:00", "2026-03-30T09:30", "2026-03-30T10:00")
    ] == list(SPRING.handovers)


def test_an_override_by_the_same_person_is_no_handover() -> None:
    over = [("ann", "2026-01-05T10:00", "2026-01-05T14:00")]
    one = rota("2026-01-05", 1, ("ann", "2026-01-01T00:00", "2026-01-09T00:00"), overrides=over)
    assert (3, []) == (len(one.spans), one.handovers)


def test_a_scale_stands_above_the_day_whose_hours_differ() -> None:
    """Above the first day, above the day on which the clock is changed, and above the day after it."""
    assert [True, False, True, True] == [scaled for _, scaled in SPRING.with_scales()]
    assert [True, False] == [scaled for _, scaled in UNKNOWN.with_scales()]
