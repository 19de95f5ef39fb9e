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
NOTICES = "SELECT count(*), count(DISTINCT incident_key), count(DISTINCT dedup_key) FROM escalation_notices"
RESOLVE = "UPDATE incidents SET resolved_at = now() WHERE incident_key LIKE 'k%'"


def resolve_all(connection: psycopg.Connection) -> None:
    """Open the incidents, record that their pages arrived, and resolve all of them by one statement of the host."""
    connection.execute(OPEN, (INCIDENTS,))
    connection.execute("SET escalation.engine = 'on'")
    connection.execute(PAGED)
    connection.execute("RESET escalation.engine")
    connection.execute(RESOLVE)


async def test_each_has_a_notice_and_no_page_waits_for_them(migrated_dsn: str) -> None:
    """A page that falls due when they are resolved goes out first."""
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        resolve_all(connection)
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
        reports = [await engine.tick() for _ in range(30) if len(notifier.notices) < INCIDENTS]
    told = [report.delivery.notices_delivered for report in reports if report.delivery is not None]
    assert INCIDENTS == sum(told)
    assert ["page"] == [one for one in order if one != "notice"]
    assert "page" == order[0]
    assert {NoticeKind.RESOLVED} == {notice.kind for notice in notifier.notices}
    assert INCIDENTS == len({notice.dedup_key for notice in notifier.notices})


async def test_a_runner_escalates_while_it_makes_their_notices(migrated_dsn: str) -> None:
    """It makes one batch in each tick, so what falls due meanwhile escalates before the last notice is made."""
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        resolve_all(connection)
        notifier, router = TellingNotifier("ops"), SettingsRouter(default_target="ops")
        async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[notifier], router=router) as engine:
            left = [INCIDENTS]
            for number in range(30):
                key = f"new {number}"
                await engine.open(key, severity="critical", first_seen=await engine.now() - HOUR)
                report = await engine.tick(deliver=False)
                assert [key] == [one.incident_key for one in report.examples if one.outcome == "escalate"]
                [count] = connection.execute("SELECT count(*) FROM escalation_changes").fetchone() or [0]
                assert left[-1] - count <= 1000
                left.append(count)
                if not count and (await engine.next_tick_in(report)) > timedelta():
                    break
        made = connection.execute(NOTICES).fetchone()
    assert [*range(INCIDENTS, -1, -1000)] == left[: INCIDENTS // 1000 + 1]
    assert (INCIDENTS, INCIDENTS, INCIDENTS) == made
