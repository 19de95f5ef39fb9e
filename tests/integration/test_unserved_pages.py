"""Pages for a target that no worker serves, tens of thousands of them."""

from datetime import timedelta

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, SettingsRouter
from escalation_core.testing import RecordingNotifier

from .workers import execute

COUNT = 50_000


async def test_pages_that_no_worker_serves_delay_no_other(migrated_dsn: str) -> None:
    """The worst page to another target is delivered in one tick, and health tells of the pages that no worker sends."""
    execute(
        migrated_dsn,
        """
        INSERT INTO escalation_pages
            (incident_key, episode, level, target, dedup_key, state, created_at, due_at, priority)
        SELECT 'k' || n, 1, 1, 'lost', 'd' || n, 'pending', at, at, n %% 8
        FROM generate_series(1, %(count)s) AS n, (SELECT now() - interval '1 hour') AS t (at)
        """,
        count=COUNT,
    )
    notifier = RecordingNotifier("ops")
    store = await PostgresStore.connect(migrated_dsn)
    async with Engine(store, notifiers=[notifier], router=SettingsRouter(default_target="ops")) as engine:
        await engine.open("k", severity="info", first_seen=await engine.now() - timedelta(hours=10))
        report = await engine.tick()
        assert report.delivery is not None
        assert 1 == report.delivery.delivered
        health = await engine.health()
        assert ["lost"] == list(health.unserved)
        assert COUNT == health.targets["lost"].backlog
