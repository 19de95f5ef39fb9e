"""Checks of a notifier that tells notices, with a real receiver. Other notifiers pass them without a message."""

from collections.abc import Sequence
from datetime import timedelta

from ...model import Delivered, Incident, Notice, NoticeBundle, NoticeKind, Outcome, Rejected, Retry
from ...ports import Notifier, TellsNoticeBundles, TellsNotices
from ...rules.abilities import abilities_of
from .harness import START, NotifierHarness, no_secret, same

_ODD = (None, "", "x" * 100_000, "<!channel> & <b>", "\u202e\u0007\n\t", "\U0001f4df pager")


def _notice(harness: NotifierHarness, kind: NoticeKind, number: int = 0, text: str | None = "ann") -> Notice:
    key = f"db-{number}/disk"
    incident = Incident(incident_key=key, severity="critical", first_seen=START, level=2, episode=2, summary=text)
    return Notice(
        kind=kind,
        incident_key=key,
        episode=1,
        level=2,
        at=START + timedelta(minutes=35),
        target=harness.target,
        dedup_key=f"{number:064}",
        actor=text,
        lasted=timedelta(minutes=35),
        incident=incident if number % 2 == 0 else None,
    )


def _kinds(notifier: Notifier) -> Sequence[NoticeKind]:
    """Return the kinds that a notifier can tell."""
    return sorted(abilities_of(notifier).notices)


async def _tell(harness: NotifierHarness, notice: Notice) -> Outcome:
    assert isinstance(harness.notifier, TellsNotices), "it has tell"
    return await harness.notifier.tell(notice)


async def the_abilities_fit_the_methods(harness: NotifierHarness) -> None:
    """The notifier has the methods of the abilities that it declares, and a budget for none but its own targets."""
    found = abilities_of(harness.notifier)
    same(set(), set(found.budgets) - set(harness.notifier.targets), "budgets of other targets")


async def a_notice_is_sent_with_its_own_key_or_thread(harness: NotifierHarness) -> None:
    """The receiver gets each notice once: with its own key, or with its thread's key if the notifier has threads."""
    await harness.accept()
    notifier = harness.notifier
    for number, kind in enumerate(_kinds(notifier)):
        before, notice = len(harness.arrived()), _notice(harness, kind, number)
        same(Delivered(), await _tell(harness, notice), f"the outcome of {kind.value}")
        keys = {notice.dedup_key, notice.thread_key} if abilities_of(notifier).threads else {notice.dedup_key}
        arrived = list(harness.arrived())[before:]
        assert len(arrived) == 1, f"one message arrives of {kind.value}, not {arrived!r}"
        assert set(arrived) <= keys, f"the key of {kind.value}: expected one of {sorted(keys)}, got {arrived!r}"


async def any_text_of_a_notice_is_sent(harness: NotifierHarness) -> None:
    """The notifier sends any actor and any summary, and also a notice whose incident is deleted."""
    await harness.accept()
    for kind in _kinds(harness.notifier):
        for number, text in enumerate(_ODD):
            notice = _notice(harness, kind, number, text)
            same(Delivered(), await _tell(harness, notice), f"the outcome of {kind.value}")


async def a_refused_notice_is_final(harness: NotifierHarness) -> None:
    """If the receiver refuses a notice permanently, the outcome is Rejected. Its reason contains no secret."""
    for kind in _kinds(harness.notifier):
        if await harness.refuse():
            outcome = await _tell(harness, _notice(harness, kind))
            assert isinstance(outcome, Rejected), f"a refusal must be Rejected, not {outcome!r}"
            no_secret(harness, outcome, outcome.reason)


async def a_notice_to_an_absent_receiver_is_tried_again(harness: NotifierHarness) -> None:
    """If the receiver is unreachable, the outcome is a Retry, never an exception. Its reason contains no secret."""
    for kind in _kinds(harness.notifier):
        if await harness.vanish():
            outcome = await _tell(harness, _notice(harness, kind))
            assert isinstance(outcome, Retry), f"an unreachable receiver must be a Retry, not {outcome!r}"
            no_secret(harness, outcome, outcome.reason)
            await harness.accept()


async def a_bundle_of_notices_is_sent_with_its_own_key(harness: NotifierHarness) -> None:
    """If the notifier can send bundles and notices, the receiver gets the bundle's key once, however many it has."""
    kinds, notifier = _kinds(harness.notifier), harness.notifier
    if not (kinds and isinstance(notifier, TellsNoticeBundles)):
        return
    await harness.accept()
    before = len(harness.arrived())
    notices = [_notice(harness, kinds[number % len(kinds)], number, "x" * 10_000) for number in range(1000)]
    bundle = NoticeBundle(target=harness.target, dedup_key="c" * 64, notices=notices)
    same(Delivered(), await notifier.tell_bundle(bundle), "the outcome")
    same(["c" * 64], list(harness.arrived())[before:], "the dedup keys that arrived")


CHECKS = (
    the_abilities_fit_the_methods,
    a_notice_is_sent_with_its_own_key_or_thread,
    any_text_of_a_notice_is_sent,
    a_refused_notice_is_final,
    a_notice_to_an_absent_receiver_is_tried_again,
    a_bundle_of_notices_is_sent_with_its_own_key,
)
