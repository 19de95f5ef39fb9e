"""The gate: the switches that hold the engine, which of them wins, and operators' pauses with the schedule."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from escalation_core import InvalidValue, Pause, PauseSchedule, Settings
from escalation_core.model import By, Paused
from escalation_core.rules.gate import Gate, Mode, pause_from, paused_at

from ..kit import DAY, HOUR, MINUTE, START

END = START + HOUR


def settings(*, enabled: bool = True, v1: bool = True, paused: bool = False, dry_run: bool = False) -> Settings:
    """Return settings with these switches; the pause lasts from START for an hour, each day."""
    return Settings(
        worker_enabled=enabled,
        v1=v1,
        dry_run=dry_run,
        pause_cron="0 0 * * *" if paused else None,
        pause_length=HOUR if paused else None,
    )


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("v1", [True, False])
def test_the_strongest_holds(enabled: bool, paused: bool, v1: bool) -> None:
    """Disabled wins over paused and still reports the pause; paused wins over V1 off; without any, the mode is open."""
    pause = Paused(END, "schedule") if paused else None
    expected = Gate(Mode.OPEN)
    expected = expected if v1 else Gate(Mode.V1_OFF)
    expected = Gate(Mode.PAUSED, pause) if paused else expected
    expected = expected if enabled else Gate(Mode.DISABLED, pause)
    assert expected == Gate.at(settings(enabled=enabled, v1=v1, paused=paused).switches, START)


@pytest.mark.parametrize(
    ("mode", "claims", "pages"),
    [
        (Mode.DISABLED, False, False),
        (Mode.PAUSED, False, False),
        (Mode.V1_OFF, True, False),
        (Mode.OPEN, True, True),
    ],
)
def test_what_each_mode_allows(mode: Mode, claims: bool, pages: bool) -> None:
    """An open gate allows claims and pages; V1 off allows claims only; paused and disabled allow neither."""
    assert (claims, pages) == (Gate(mode).may_claim, Gate(mode).may_escalate)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (START - timedelta(microseconds=1), None),
        (START, END),
        (START + 59 * MINUTE, END),
        (END, None),
        (START + 24 * HOUR, END + 24 * HOUR),
    ],
)
def test_pause_holds_while_it_lasts(now: datetime, until: datetime | None) -> None:
    """The gate is paused from the pause's start until before its end, and reports the end."""
    assert (Gate() if until is None else Gate(Mode.PAUSED, Paused(until, "schedule"))) == Gate.at(
        settings(paused=True).switches, now
    )


def test_dry_run_is_no_mode() -> None:
    """A dry run does not close the gate: it shows what a tick would do."""
    assert Gate() == Gate.at(settings(dry_run=True).switches, START)


def test_names_of_the_modes() -> None:
    """The modes have these names in reports and health."""
    assert ["disabled", "paused", "v1_off", "open"] == [mode.value for mode in Mode]


# --- operators' pauses


SECOND_HOUR = PauseSchedule("0 1 * * *", 60)
"""A pause from one to two o'clock."""


def pause(start: timedelta, end: timedelta, **fields: Any) -> Pause:
    return Pause(starts_at=START + start, ends_at=START + end, **fields)


NONE = timedelta()
LIFT = pause(HOUR, 2 * HOUR, lifts_schedule=True)
ADA = pause(NONE, HOUR, actor="ada", reason="deploying")


@pytest.mark.parametrize(
    ("schedule", "pauses", "at", "expected"),
    [
        (None, [], NONE, None),
        (None, [ADA], NONE, Paused(START + HOUR, "ada", "deploying")),
        (None, [ADA], HOUR, None),
        (None, [pause(HOUR, 2 * HOUR)], NONE, None),
        (None, [ADA, pause(NONE, 2 * HOUR, actor="bob")], NONE, Paused(START + 2 * HOUR, "bob")),
        # Pauses that touch or overlap are one pause.
        (None, [ADA, pause(HOUR, 2 * HOUR, actor="bob")], NONE, Paused(START + 2 * HOUR, "ada", "deploying")),
        (SECOND_HOUR, [ADA], NONE, Paused(START + 2 * HOUR, "ada", "deploying")),
        (SECOND_HOUR, [ADA], HOUR, Paused(START + 2 * HOUR, "schedule")),
        (SECOND_HOUR, [], NONE, None),
        # A lifted schedule does not count; an operator's pause still counts.
        (SECOND_HOUR, [LIFT], 90 * MINUTE, None),
        (SECOND_HOUR, [LIFT], HOUR + DAY, Paused(START + DAY + 2 * HOUR, "schedule")),
        (
            SECOND_HOUR,
            [LIFT, pause(HOUR, 80 * MINUTE, actor="ada")],
            70 * MINUTE,
            Paused(START + 80 * MINUTE, "ada"),
        ),
    ],
)  # fmt: skip
def test_paused_is_the_union(
    schedule: PauseSchedule | None, pauses: list[Pause], at: timedelta, expected: Paused | None
) -> None:
    """The engine is paused while a row or the schedule covers the instant, until all that touch are over."""
    assert expected == paused_at(schedule, pauses, START + at)


@pytest.mark.parametrize("until", [START, START - MINUTE, NONE, -HOUR, START + DAY + MINUTE, 2 * DAY, timedelta.max])
def test_end_is_to_come_and_at_most_a_day_away(until: datetime | timedelta) -> None:
    """A pause whose end is not in the future, or over a day away, is refused by its field."""
    with pytest.raises(InvalidValue, match="until: is"):
        pause_from(START, until, By(None, None))


@pytest.mark.parametrize("until", [START + DAY, DAY])
def test_a_whole_day(until: datetime | timedelta) -> None:
    """The longest pause is 24 hours."""
    assert START + DAY == pause_from(START, until, By(None, None)).ends_at
