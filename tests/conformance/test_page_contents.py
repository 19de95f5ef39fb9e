"""What a page carries, on every store: its place in the policy, whom the next level names, and who was paged before."""

from datetime import timedelta

from escalation_core import Delivered, Engine, Outcome, Page, Policies, Rejected, Settings
from escalation_core.testing import ManualClock, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness
from escalation_core.testing.conformance.harness import START

MINUTE = timedelta(minutes=1)
POLICIES = {
    "policies": {
        "db": {
            "levels": [{"after": "0m", "to": ["ops"]}, {"after": "5m", "to": ["ops", "lead"]}, {"after": "5m"}],
            "repeat": {"times": 1, "after": "10m"},
        }
    },
    "assign": [{"policy": "db"}],
}


async def test_a_page_says_where_it_stands(harness: StoreHarness) -> None:
    """Round, next names as the policy writes them, the next instant, and who received a page of a lower level."""
    clock = ManualClock(START)
    notifier = RecordingNotifier("lead", "ops", "boss")
    engine = Engine(
        await harness.open(clock),
        settings=Settings(default_target="boss"),
        notifiers=[notifier],
        policies=Policies.from_mapping(POLICIES),
    )
    await engine.open("k", severity="critical")
    for _ in range(9):
        await engine.tick()
        clock.advance(5 * MINUTE)
    said = [(one.level, one.target, one.round, list(one.next_names), list(one.paged_before)) for one in notifier.pages]
    assert [
        (1, "ops", 1, ["ops", "lead"], []),
        (2, "lead", 1, [], ["ops"]),
        (2, "ops", 1, [], ["ops"]),
        (3, "boss", 1, ["ops"], ["ops", "lead"]),
        (4, "ops", 2, ["ops", "lead"], ["ops", "lead", "boss"]),
        (5, "lead", 2, [], ["ops", "lead", "boss"]),
        (5, "ops", 2, [], ["ops", "lead", "boss"]),
        (6, "boss", 2, [], ["ops", "lead", "boss"]),
    ] == sorted(said)
    first, last = notifier.pages[0], notifier.pages[-1]
    assert (START, START + 5 * MINUTE, None) == (first.at, first.next_due_at, last.next_due_at)


async def test_only_pages_that_arrived_count(harness: StoreHarness) -> None:
    """A page that its receiver refused, and the pages of an earlier episode, were received by no one."""
    clock = ManualClock(START)

    def answer(page: Page) -> Outcome:
        return Rejected("gone") if page.level == 1 else Delivered()

    notifier = RecordingNotifier("ops", answer=answer)
    engine = Engine(
        await harness.open(clock),
        settings=Settings(critical_window=5 * MINUTE, snooze=5 * MINUTE, default_target="ops"),
        notifiers=[notifier],
    )
    await engine.open("k", severity="critical", first_seen=START - 6 * MINUTE)
    for _ in range(3):
        await engine.tick()
        clock.advance(5 * MINUTE)
    assert [(1, []), (2, []), (3, ["ops"])] == [(one.level, list(one.paged_before)) for one in notifier.pages]
    await engine.resolve("k")
    await engine.open("k", severity="critical", first_seen=clock() - 6 * MINUTE)
    await engine.tick()
    assert (2, 1, []) == (notifier.pages[-1].episode, notifier.pages[-1].level, list(notifier.pages[-1].paged_before))
