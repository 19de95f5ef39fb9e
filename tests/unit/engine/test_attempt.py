"""One call of a notifier: the call ends with an outcome, even if the notifier raises or hangs."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Delivered, DeliveryReport, Outcome, Page, Rejected, Retry
from escalation_core.engine.attempt import Attempt
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import START, GatedNotifier, incident, picture, states
from .delivery import engine_of, escalated

PAGE = Page(incident=incident(), episode=1, level=1, target="test", dedup_key="d", at=START, attempt=1)


async def test_notifier_that_raises_is_a_retry(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A notifier that raises delays only its own page, which is retried; the error's text is not logged or stored."""
    await escalated(store, clock, keys=["a", "b"])
    caplog.set_level(logging.DEBUG)

    def answer(page: Page) -> Outcome:
        if page.incident.incident_key == "a":
            raise RuntimeError("https://hooks.example/T0K3N")
        return Delivered()

    report = await engine_of(store, RecordingNotifier(answer=answer)).deliver()
    assert DeliveryReport(sent=2, delivered=1, retried=1) == report
    assert ["the notifier raised RuntimeError", None] == [page.reason for page in store.pages.values()]
    assert "RuntimeError" in caplog.text
    assert "T0K3N" not in caplog.text + repr(picture(store))
    assert [] == [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "the notifier answered with NoneType, which is not an outcome"),
        (True, "the notifier answered with bool, which is not an outcome"),
        (Delivered, "the notifier answered with type, which is not an outcome"),
        (Retry("busy", 3.0), "busy"),  # type: ignore[arg-type]
        (Retry("a\0b"), "a\N{REPLACEMENT CHARACTER}b"),
        (Rejected("x\udc80y"), "x?y"),
        (Rejected("x" * 5000), "x" * 1000),
        (Rejected(7), "no reason, but int"),  # type: ignore[arg-type]
    ],
)
async def test_answer_that_is_no_outcome_stops_no_other_page(
    answer: Any, reason: str, store: MemoryStore, clock: ManualClock
) -> None:
    """The store gets a reason that it can hold for any answer, and the other pages are delivered."""
    await escalated(store, clock, keys=["a", "b"])
    notifier = RecordingNotifier(answer=lambda page: answer if page.incident.incident_key == "a" else Delivered())
    engine = engine_of(store, notifier)
    assert (2, 1) == ((report := await engine.deliver()).sent, report.delivered)
    assert [reason, None] == [page.reason for page in store.pages.values()]
    await engine.aclose()


async def test_send_that_takes_too_long_is_a_retry(store: MemoryStore, clock: ManualClock) -> None:
    """An attempt that takes longer than the send timeout is ended, and its page is retried."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    report = await engine_of(store, notifier, send_timeout=timedelta(milliseconds=1)).deliver()
    assert DeliveryReport(sent=1, retried=1) == report
    assert "pending" == states(store)[0]
    assert "timed out" == store.pages[1].reason
    assert 1 == store.pages[1].attempts


async def test_a_notifier_whose_time_is_over_is_not_logged_as_faulty(caplog: pytest.LogCaptureFixture) -> None:
    """A send that the engine cancels after its time is a retry, and no error of the notifier; its own one is logged."""
    started = GatedNotifier()
    attempt = Attempt(started, PAGE)
    outcome = await attempt.within(timedelta(milliseconds=1))
    assert Retry("timed out", unanswered=True) == outcome
    await asyncio.sleep(0)  # the cancelled send ends in the loop's next turn
    assert "CancelledError" not in caplog.text

    class Faulty(RecordingNotifier):
        async def send(self, page: Page) -> Outcome:
            raise asyncio.CancelledError

    assert Retry("the notifier raised CancelledError") == await Attempt(Faulty(), PAGE).make()
    assert "CancelledError" in caplog.text
