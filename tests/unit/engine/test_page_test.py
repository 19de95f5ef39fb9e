"""Test pages: the engine sends them like real pages, and records nothing but a note."""

import logging
from datetime import datetime, timedelta

import pytest

from escalation_core import (
    Delivered,
    InvalidValue,
    Outcome,
    Page,
    Rejected,
    StoreUnavailable,
    Verdict,
    send_test_page,
)
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import START, GatedNotifier, actions, engine_of, picture
from .delivery import FailingStore
from .delivery import engine_of as delivering


async def test_engine_sends_a_test_page_and_notes_it(store: MemoryStore) -> None:
    """The page goes to the target alone; the store gets no incident, escalation or page, and the audit one note."""
    before = picture(store)
    ops, leads = RecordingNotifier("ops"), RecordingNotifier("leads")
    engine = engine_of(store, ops, leads, worker_enabled=False, dry_run=True)
    sent = await engine.test_page("ops", by="ada", reason="new webhook")
    assert (Verdict.DELIVERED, "recording", None) == (sent.verdict, sent.channel, sent.reason)
    assert (["ops"], []) == ([page.target for page in ops.pages], leads.pages)
    assert START == ops.pages[0].incident.first_seen
    [note] = store.notes.values()
    assert ("test page", "ada", "ops delivered: new webhook") == (note.action, note.actor, note.reason)
    assert {**before, "notes": None} == {**picture(store), "notes": None}


async def test_note_names_a_failure(store: MemoryStore) -> None:
    """The audit has the result of a test page that was not delivered."""
    engine = engine_of(store, RecordingNotifier("ops", answer=lambda page: Rejected("HTTP 404")))
    assert Verdict.REJECTED is (await engine.test_page("ops")).verdict
    assert ["ops rejected: HTTP 404"] == [note.reason for note in store.notes.values()]


async def test_unknown_target_names_those_that_exist(store: MemoryStore) -> None:
    """For a target without a notifier the error lists the targets that have one, and nothing is sent or noted."""
    ops = RecordingNotifier("ops", "leads")
    engine = engine_of(store, ops)
    with pytest.raises(InvalidValue, match="'opps' is unknown; give one of: ops, leads"):
        await engine.test_page("opps")
    with pytest.raises(InvalidValue, match="has a URL where a name belongs") as refused:
        await engine.test_page("https://hooks.example/T0K3N")
    assert "T0K3N" not in str(refused.value)
    with pytest.raises(InvalidValue, match="add a notifier"):
        await send_test_page([], "ops", at=START)
    with pytest.raises(InvalidValue, match="at"):
        await send_test_page([ops], "ops", at=datetime(2025, 1, 1))  # noqa: DTZ001 - naive on purpose
    assert ([], []) == (ops.pages, actions(store))


async def test_notifier_that_raises_or_hangs_is_bounded(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """A notifier that raises is a failure without its text; one that never answers ends at the send timeout."""

    def answer(page: Page) -> Outcome:
        raise RuntimeError("https://hooks.example/T0K3N")

    caplog.set_level(logging.DEBUG)
    engine = delivering(
        store, RecordingNotifier("faulty", answer=answer), GatedNotifier("slow"), send_timeout=timedelta(milliseconds=1)
    )
    raised, hung = await engine.test_page("faulty"), await engine.test_page("slow")
    assert (Verdict.FAILED, "the notifier raised RuntimeError") == (raised.verdict, raised.reason)
    assert (Verdict.UNREACHABLE, "timed out") == (hung.verdict, hung.reason)
    assert "T0K3N" not in caplog.text + repr(raised) + repr(picture(store))


async def test_without_the_database(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """The engine refuses before it sends if the database is down; if only the note fails, it still tells the result."""
    store = FailingStore(clock)
    store.down = True

    async def unavailable() -> datetime:
        raise StoreUnavailable("it is down")

    ops = RecordingNotifier("ops", answer=lambda page: Delivered())
    engine = engine_of(store, ops)
    assert Verdict.DELIVERED is (await engine.test_page("ops")).verdict
    assert "the audit has no note of the test page to ops" in caplog.text
    engine.now = unavailable  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await engine.test_page("ops")
    assert 1 == len(ops.pages)
    assert Verdict.DELIVERED is (await send_test_page([ops], "ops", at=START)).verdict
