"""Workers whose targets' rows are locked: by the claim of a worker that stands still, for example."""

from datetime import timedelta

import psycopg

from escalation_adapters.postgres import PostgresStore
from escalation_core import Budget, Delivered, Engine, Incident, Outcome, Page, Retry, Settings
from escalation_core.model import PageState
from escalation_core.testing import RecordingNotifier

HOUR = timedelta(hours=1)


class Both:
    """A router that pages two targets."""

    def route(self, _: Incident, __: int) -> list[str]:
        """Return both."""
        return ["busy", "ops"]


async def test_a_locked_row_of_a_throttled_target_delays_no_other(migrated_dsn: str) -> None:
    """A 429 comes while another transaction holds the target's row: the other target's pages go on, and so do ticks.

    Once the row is free, the page is settled and the target throttled.
    """
    with psycopg.connect(migrated_dsn) as rival:

        def answer(page: Page) -> Outcome:
            if page.target == "ops":
                return Delivered()
            rival.execute("SELECT FROM escalation_targets WHERE target = 'busy' FOR UPDATE")
            return Retry("HTTP 429", HOUR, throttled=True)

        notifier = RecordingNotifier("busy", "ops", answer=answer)
        store = await PostgresStore.connect(migrated_dsn)
        settings = Settings(budgets={"busy": Budget(rate=1)})
        async with Engine(store, settings=settings, notifiers=[notifier], router=Both()) as engine:
            await engine.open("k", severity="critical", first_seen=await engine.now() - HOUR)
            await engine.tick()
            assert {"busy": PageState.LEASED, "ops": PageState.DELIVERED} == await states(engine)
            await engine.open("l", severity="critical", first_seen=await engine.now() - HOUR)
            await engine.tick()
            assert 2 == len([page for page in notifier.pages if page.target == "ops"])
            rival.rollback()
            await engine.tick()
            assert PageState.PENDING is (await states(engine))["busy"]
            assert (await engine.health()).targets["busy"].throttled_until is not None


async def states(engine: Engine) -> dict[str, PageState]:
    """Return the state of each page of the first incident, by its target."""
    return {page.target: page.state for page in (await engine.history("k")).pages}
