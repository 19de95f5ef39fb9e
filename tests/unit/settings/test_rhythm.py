"""When an incident escalates without an acknowledgement, and warnings of settings that contradict each other."""

from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Engine, Settings
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import MINUTE


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"snooze": timedelta()},
        {"snooze": timedelta(), "critical_window": timedelta(seconds=1)},
        {"snooze": 7 * MINUTE, "max_level": 3, "windows": {"high": 10 * MINUTE}},
        {"max_level": 1},
    ],
)
async def test_rhythm_is_that_of_the_engine(given: dict[str, Any], clock: ManualClock, store: MemoryStore) -> None:
    """Each severity escalates at the instants that the rhythm names, and then never again."""
    settings = Settings(**given)
    for severity, spans in settings.rhythms().items():
        notifier, began = RecordingNotifier(), clock()
        async with Engine(store, settings=settings, notifiers=[notifier]) as engine:
            await engine.open(severity, severity=severity)
            for level, span in enumerate(spans, 1):
                clock.set(began + span - timedelta(microseconds=1))
                assert 0 == (await engine.tick()).escalated
                clock.set(began + span)
                await engine.tick()
                assert level == notifier.pages[-1].level
            clock.advance(timedelta(days=400))
            assert 0 == (await engine.tick()).escalated


def test_default_rhythm() -> None:
    """By default the window decides about level 1, and the snooze about the others."""
    expected = {"critical": 5, "warning": 15, "any other": 15}
    assert {
        name: [(first + 30 * n) * MINUTE for n in range(7)] for name, first in expected.items()
    } == Settings().rhythms()


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({}, None),
        ({"tick_interval": 5 * MINUTE}, None),
        ({"tick_interval": 6 * MINUTE}, "ESC_TICK_MS is longer than the window of critical, 5 minutes"),
        ({"windows": {"high": MINUTE / 2}}, "ESC_TICK_MS is longer than the window of high, 0.5 minutes"),
        ({"critical_window": 15 * MINUTE}, None),
        ({"critical_window": 16 * MINUTE}, "ESC_CRIT_ACK_MIN is longer than ESC_WARN_ACK_MIN"),
        ({"snooze": timedelta(days=1)}, None),
        ({"snooze": timedelta(days=2)}, "ESC_SNOOZE_MIN is 2880 minutes"),
        ({"snooze": timedelta(days=2), "max_level": 1}, None),
    ],
)
def test_contradictions_are_warned_of(given: dict[str, Any], warned: str | None) -> None:
    """Valid settings that contradict each other give one warning, which names the variable and the remedy."""
    warnings = Settings(**given).warnings
    assert (warned is not None) == bool(warnings)
    assert all(text.startswith(str(warned)) for text in warnings)
