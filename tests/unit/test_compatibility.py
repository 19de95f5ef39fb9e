"""Compatibility with the replaced worker: its own tests, under their names."""

from datetime import timedelta

from escalation_core import Engine, Escalation, Settings, in_canary
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .kit import MINUTE, START


async def test_idempotent_insert_rejects_second_event(store: MemoryStore) -> None:
    """A second insert of one key and level records no new event, and leaves the first one unchanged."""
    first = Escalation(incident_key="db-down", episode=1, level=1, created_at=START)
    second = Escalation(incident_key="db-down", episode=1, level=1, created_at=START + MINUTE)
    assert [True] == await store.transact(lambda tx: tx.ledger.record([first]))
    assert [False] == await store.transact(lambda tx: tx.ledger.record([second]))
    assert [first] == list(store.ledger.values())


def test_canary_10_percent_consistently_selects_same_keys() -> None:
    """At 10 percent every process selects the same keys, on every call."""
    expected = [0, 9, 17, 31, 35, 37, 45, 55, 59, 61, 67, 78, 80, 106, 109]
    assert expected == [number for number in range(120) if in_canary(f"k{number}", 10)]
    assert expected == [number for number in range(120) if in_canary(f"k{number}", 10)]


async def test_snooze_blocks_repeated_escalation_inside_window(clock: ManualClock, store: MemoryStore) -> None:
    """After an escalation nothing escalates within ESC_SNOOZE_MIN, even with the window over; then it does again."""
    notifier = RecordingNotifier()
    engine = Engine(store, settings=Settings(snooze=timedelta(minutes=30)), notifiers=[notifier])
    await engine.open("db-down", severity="critical")
    clock.advance(timedelta(hours=2))
    levels = []
    for wait in (0 * MINUTE, MINUTE, 28 * MINUTE, 59 * MINUTE / 60, MINUTE / 60):
        clock.advance(wait)
        await engine.tick()
        levels.append(store.rows["db-down"]["level"])
    assert [1, 1, 1, 1, 2] == levels
    assert [1, 2] == [page.level for page in notifier.pages]
