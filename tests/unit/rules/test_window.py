"""The window of a target: how many messages a worker sends to it at once."""

import pytest

from escalation_core import Delivered, Outcome, Rejected, Retry
from escalation_core.rules.window import Windows


def after(windows: Windows, *outcomes: Outcome, in_use: bool = True, now: float = 0.0) -> int:
    """Return the size of a window after these outcomes."""
    for outcome in outcomes:
        windows.learn("a", outcome, in_use=in_use, now=now)
    return windows.size("a", now)


@pytest.mark.parametrize(("most", "size"), [(1, 1), (7, 7), (8, 8), (32, 8)])
def test_it_begins_with_eight(most: int, size: int) -> None:
    """It never has more than ``most``, also where that is less than eight."""
    assert size == Windows(most).size("a", 0.0)
    assert most == after(Windows(most), *[Delivered()] * 100)


def test_each_message_that_arrives_raises_it() -> None:
    """A window whose messages all arrive doubles, up to ``most``. Other targets' windows stay as they are."""
    windows = Windows(32)
    assert [16, 32, 32] == [after(windows, *[Delivered()] * count) for count in (8, 16, 32)]
    assert 8 == windows.size("b", 0.0)


@pytest.mark.parametrize("outcome", [Retry("down"), Retry("busy", throttled=True), Retry("late", unanswered=True)])
def test_a_failure_begins_again(outcome: Outcome) -> None:
    """After an error, a 429 or a timeout the worker begins with eight again, and keeps nothing of the target."""
    windows = Windows(32)
    assert 8 == after(windows, *[Delivered()] * 20, outcome)
    assert {} == windows._grown
    assert 9 == after(windows, Delivered())


def test_a_page_that_is_refused_for_good_changes_nothing() -> None:
    """One page with a fault slows no other page down, and shows nothing of how many the receiver takes."""
    assert 18 == after(Windows(32), *[Delivered()] * 10, Rejected("HTTP 400"))


def test_few_messages_at_once_show_nothing() -> None:
    """Messages that go one by one do not show that the receiver takes many at once."""
    windows = Windows(32)
    assert [False, True] == [windows.in_use("a", count, 0.0) for count in (3, 4)]
    assert 8 == after(windows, *[Delivered()] * 100, in_use=False)


def test_it_begins_again_after_a_minute_out_of_use() -> None:
    """Only messages that were sent while the window was in use count as use."""
    windows = Windows(32)
    assert 32 == after(windows, *[Delivered()] * 24, now=100.0)
    assert 32 == after(windows, Delivered(), in_use=False, now=159.9)
    assert 8 == windows.size("a", 160.0)
    assert 9 == after(windows, Delivered(), now=160.0)
