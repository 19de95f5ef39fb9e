"""Who is on call as lines of a terminal."""

import pytest

from escalation_adapters.cli.oncall_lines import MIN_CHARS, lines
from escalation_adapters.oncall_picture.days import Rota

from ..oncall_picture.rotas import AUTUMN, SPRING, UNKNOWN, rota


def shown(one: Rota, width: int = 75, *, plain: bool = True) -> list[str]:
    return [line.plain for line in lines(one, width, plain=plain)]


def test_a_line_for_each_day() -> None:
    """It has the people, where they change, a gap that is short, and a change of the clock with its own scale."""
    assert [
        "           00    03    06    09    12    15    18    21    24",
        "Fri 27 Mar  no one xxxxxxxxxx|ann -------------------------",
        "Sat 28 Mar  ann -------------------------------------------",
        "           00  03    06    09    12    15    18    21    24",
        "Sun 29 Mar  ann|bob ------------------------------------- clock +1 h",
        "           00    03    06    09    12    15    18    21    24",
        "Mon 30 Mar  bob --------------x|cid -----------------------",
    ] == shown(SPRING)
    assert [
        "           00      03    06    09    12    15    18    21    24",
        "Sun 25 Oct  ann ---|bob ------------------------------------- clock -1 h",
    ] == shown(AUTUMN)[2:4]
    assert "Fri 27 Mar  no one ▓▓▓▓▓▓▓▓▓▓│ann ─────────────────────────" == shown(SPRING, plain=False)[1]


def test_a_short_gap_is_visible() -> None:
    """Ten minutes without anyone take a whole cell, although they begin within it."""
    one = rota(
        "2026-01-05",
        1,
        ("ann", "2026-01-05T00:00", "2026-01-05T09:10"),
        ("bob", "2026-01-05T09:20", "2026-01-06T00:00"),
    )
    assert "Mon 05 Jan  ann -------------x|bob ------------------------" == shown(one)[1]


def test_a_day_that_ends_within_a_cell() -> None:
    """On Lord Howe a day has 23.5 or 24.5 hours: its last half hour has a cell."""
    spring, autumn = (
        rota(first, 1, ("ann", f"{first}T00:00", f"{first}T23:30"), zone="Australia/Lord_Howe")
        for first in ("2026-10-04", "2026-04-05")
    )
    narrow = [shown(one, MIN_CHARS)[1] for one in (spring, autumn)]
    assert [f"Sun 04 Oct  ann {'-' * 18}x clock +30 min", f"Sun 05 Apr  ann {'-' * 19}x clock -30 min"] == narrow


def test_an_override_is_named() -> None:
    """Where there is space for it."""
    one = rota(
        "2026-01-05",
        1,
        ("ann", "2026-01-05T00:00", "2026-01-06T00:00"),
        overrides=[("bob", "2026-01-05T08:00", "2026-01-05T18:00"), ("cid", "2026-01-05T20:00", "2026-01-05T22:00")],
    )
    bars = f"ann {'-' * 11}|bob (override) {'-' * 4}|ann|cid|ann"
    assert f"Mon 05 Jan  {bars}" == shown(one)[1]


def test_what_is_not_known() -> None:
    """It looks unlike a gap, also without colour."""
    assert "Tue 06 Jan  ann -------|not known ?????????????????????????" == shown(UNKNOWN)[2]
    styles = {
        str(span.style)
        for one in (SPRING, UNKNOWN)
        for line in lines(one, 75, plain=True)
        for span in line.spans
        if line.plain[span.start : span.end].strip(" |").startswith(("no one", "not known"))
    }
    assert {"bold red", "yellow"} == styles


@pytest.mark.parametrize("width", [MIN_CHARS, 60, 75, 78, 120])
@pytest.mark.parametrize("plain", [True, False])
def test_no_line_is_too_wide(width: int, plain: bool) -> None:
    """The longest day of a zone with its words fits, and wide letters count as two."""
    long = rota(
        "2026-10-24",
        3,
        ("李明李明李明李明李明李明李明李明李明李明李明李明李明李明", "2026-10-01T00:00", "2026-10-26T12:00"),
        ("bob", "2026-10-26T12:00", "2026-11-01T00:00"),
        zone="Antarctica/Troll",
    )
    found = list(lines(long, width, plain=plain))
    assert 6 == len(found)
    assert max(line.cell_len for line in found) <= width
    assert found[3].plain.endswith(" clock -2 h")
    days = [line.cell_len for line in found if line.plain[:3] in ("Sat", "Mon")]
    assert 1 == len(set(days))
