"""Checks of a notifier with a real receiver."""

from datetime import timedelta

from ...engine.tasks import within
from ...model import Bundle, Delivered, Incident, Page, Rejected, Retry
from ...ports import SendsBundles
from ...rules.abilities import abilities_of
from ..clock import ManualClock
from .harness import START, NotifierHarness, no_secret, same


def _page(target: str, dedup_key: str = "d" * 64, summary: str | None = "Disk nearly full") -> Page:
    incident = Incident(
        incident_key="db-7/disk",
        severity="critical",
        first_seen=ManualClock(START)(),
        level=2,
        summary=summary,
        labels={"team": "ops", "odd": "<&> ' \" \\ \n ü", "runbook": "https://wiki.example.org/disk?a=b"},
    )
    return Page(
        incident=incident,
        episode=1,
        level=2,
        target=target,
        dedup_key=dedup_key,
        at=incident.first_seen + timedelta(minutes=35),
        round=2,
        paged_before=("first:target", target),
        next_names=("oncall:lead",),
    )


async def a_page_that_is_taken_is_delivered(harness: NotifierHarness) -> None:
    """If the receiver accepts a page, the outcome is Delivered, and the receiver gets the dedup key."""
    await harness.accept()
    same(Delivered(), await harness.notifier.send(_page(harness.target, "k" * 64)), "the outcome")
    same(["k" * 64], list(harness.arrived()), "the dedup keys that arrived")


async def any_text_is_sent(harness: NotifierHarness) -> None:
    """The notifier sends any summary: missing, empty, very long, or with unusual characters."""
    await harness.accept()
    for summary in (None, "", "x" * 100_000, "<!channel> & <b>", "\u202e\u0007\n\t", "\U0001f4df pager"):
        same(Delivered(), await harness.notifier.send(_page(harness.target, summary=summary)), "the outcome")


async def a_refusal_is_final(harness: NotifierHarness) -> None:
    """If the receiver refuses a page permanently, the outcome is Rejected. Its reason contains no secret."""
    if await harness.refuse():
        outcome = await harness.notifier.send(_page(harness.target))
        assert isinstance(outcome, Rejected), f"a refusal must be Rejected, not {outcome!r}"
        no_secret(harness, outcome, outcome.reason)


async def a_throttle_is_obeyed(harness: NotifierHarness) -> None:
    """If the receiver asks for fewer messages, the outcome is a throttled Retry with the receiver's wait."""
    if await harness.throttle(timedelta(seconds=7)):
        outcome = await harness.notifier.send(_page(harness.target))
        assert isinstance(outcome, Retry), f"a throttle must be a Retry, not {outcome!r}"
        same((True, timedelta(seconds=7)), (outcome.throttled, outcome.after), "the wait that it asks for")
        no_secret(harness, outcome, outcome.reason)


async def an_absent_receiver_is_tried_again(harness: NotifierHarness) -> None:
    """If the receiver is unreachable, the outcome is a Retry, never an exception. Its reason contains no secret."""
    if await harness.vanish():
        outcome = await harness.notifier.send(_page(harness.target))
        assert isinstance(outcome, Retry), f"an unreachable receiver must be a Retry, not {outcome!r}"
        same(False, outcome.throttled, "throttled")
        no_secret(harness, outcome, outcome.reason)
        await harness.accept()
        same(Delivered(), await harness.notifier.send(_page(harness.target)), "when it is back")


async def a_send_can_be_cancelled(harness: NotifierHarness) -> None:
    """A send that is cancelled while the receiver does not answer ends at once. The notifier still works then."""
    if await harness.stall():
        try:
            await within(timedelta(milliseconds=200), harness.notifier.send(_page(harness.target)))
        except TimeoutError:
            pass
        else:
            raise AssertionError("the send should time out")
        await harness.accept()
        same(Delivered(), await harness.notifier.send(_page(harness.target)), "afterwards")


async def a_bundle_is_sent_with_its_own_key(harness: NotifierHarness) -> None:
    """If the notifier can send bundles, the receiver gets the bundle's key once, however many pages it has."""
    if not (abilities_of(harness.notifier).bundles and isinstance(harness.notifier, SendsBundles)):
        return
    await harness.accept()
    before = len(harness.arrived())
    pages = [_page(harness.target, f"{number:064}", summary="x" * 10_000) for number in range(1000)]
    bundle = Bundle(target=harness.target, dedup_key="b" * 64, pages=pages)
    same(Delivered(), await harness.notifier.send_bundle(bundle), "the outcome")
    same(["b" * 64], list(harness.arrived())[before:], "the dedup keys that arrived")


async def nothing_shows_a_secret(harness: NotifierHarness) -> None:
    """The notifier's repr and names contain no secret. It has the target. A second ``aclose`` is harmless."""
    notifier = harness.notifier
    no_secret(harness, notifier, notifier.channel, list(notifier.targets))
    assert harness.target in notifier.targets, "the notifier has the target"
    await notifier.aclose()
    await notifier.aclose()


CHECKS = (
    a_page_that_is_taken_is_delivered,
    any_text_is_sent,
    a_refusal_is_final,
    a_throttle_is_obeyed,
    an_absent_receiver_is_tried_again,
    a_send_can_be_cancelled,
    a_bundle_is_sent_with_its_own_key,
    nothing_shows_a_secret,
)
