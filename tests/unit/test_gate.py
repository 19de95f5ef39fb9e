"""What holds the engine back, and which of several counts."""

from datetime import datetime, timedelta

import pytest

from escalation_core import Settings
from escalation_core.model import Paused
from escalation_core.rules.gate import Gate, Mode

from .kit import HOUR, MINUTE, START

END = START + HOUR


def settings(*, enabled: bool = True, v1: bool = True, paused: bool = False, dry_run: bool = False) -> Settings:
    """Return settings with these switches; the pause is from START for an hour, each day."""
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
    """Disabled is stronger than paused, and still tells the pause; paused is stronger than V1 off; else it is open."""
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
    """Rows are claimed when open, and marked ones with V1 off; pages go when open alone."""
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
    """The gate is shut from the pause's beginning up to its end, and says until when."""
    assert (Gate() if until is None else Gate(Mode.PAUSED, Paused(until, "schedule"))) == Gate.at(
        settings(paused=True).switches, now
    )


def test_dry_run_is_no_mode() -> None:
    """A dry run goes through an open gate: it shows what would happen."""
    assert Gate() == Gate.at(settings(dry_run=True).switches, START)


def test_names_of_the_modes() -> None:
    """Reports and health name the modes so."""
    assert ["disabled", "paused", "v1_off", "open"] == [mode.value for mode in Mode]
