"""Ten thousand incidents that one statement of the host resolves: each has a notice of its own, and no page waits."""

from datetime import timedelta

import psycopg

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, Notice, NoticeKind, Outcome, Page, Settings, SettingsRouter
from escalation_core.testing import TellingNotifier

HOUR = timedelta(hours=1)
INCIDENTS = 10_000
OPEN = """
INSERT INTO incidents (incident_key, severity, first_seen)
SELECT 'k' || n, 'critical', now() - interval '1 h' FROM generate_series(1, %s) AS n
"""
PAGED = """
WITH risen AS (
    UPDATE incidents SET escalation_level = 1, last_escalated_at = now(), next_due_at = now() + interval '1 day'
    RETURNING incident_key
)
INSERT INTO escalation_pages
    (incident_key, episode, level, target, dedup_key, state, created_at, due_at, fence, attempts)
SELECT incident_key, 1, 1, 'ops', md5(incident_key), 'delivered', now(), now(), 2, 1 FROM risen
"""
RESOLVE = "UPDATE incidents SET resolved_at = now() WHERE incident_key LIKE 'k%'"


async def test_ten_thousand_are_resolved_by_one_statement(migrated_dsn: str) -> None:
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute(OPEN, (INCIDENTS,))
        connection.execute("SET escalation.engine = 'on'")
        connection.execute(PAGED)
        connection.execute("RESET escalation.engine")
        connection.execute(RESOLVE)
    order = list[str]()

    class Ordered(TellingNotifier):
        async def send(self, page: Page) -> Outcome:
            order.append("page")
            return await super().send(page)

        async def tell(self, notice: Notice) -> Outcome:
            order.append("notice")
            return await super().tell(notice)

    notifier = Ordered("ops")
    router = SettingsRouter(default_target="ops")
    async with Engine(
        await PostgresStore.connect(migrated_dsn), settings=Settings(), notifiers=[notifier], router=router
    ) as engine:
        await engine.open("new", severity="critical", first_seen=await engine.now() - HOUR)
        report = await engine.tick()
    assert report.delivery is not None
    assert INCIDENTS == report.delivery.notices_delivered
    assert 1 == report.delivery.delivered
    assert "page" == order[0]
    assert {NoticeKind.RESOLVED} == {notice.kind for notice in notifier.notices}
    assert INCIDENTS == len({notice.dedup_key for notice in notifier.notices})
