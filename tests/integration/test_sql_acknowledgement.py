"""A host that acknowledges or resolves by SQL cancels earlier pages, even if the host reopens while the pages wait."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from escalation_core import Delivered, Outcome, Page, Retry

from .stage import MINUTE, Stage, role, staged

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")

HELD = Retry("busy", after=timedelta(seconds=20), throttled=True)
ENDS = {"acknowledged": "acknowledged_at", "resolved": "resolved_at"}
WHOLE_ROW = """
    UPDATE incidents SET severity = severity, first_seen = first_seen, escalation_level = escalation_level,
        episode = episode, last_escalated_at = last_escalated_at, snoozed_until = snoozed_until, labels = labels,
        {column} = now(), next_due_at = {due} WHERE incident_key = 'k'
"""
WAYS = {
    "alone": "UPDATE incidents SET {column} = now() WHERE incident_key = 'k'",
    "in bulk": "UPDATE incidents SET {column} = now()",
    "the whole row": WHOLE_ROW.replace("{due}", "next_due_at"),
    "the whole row, with another instant": WHOLE_ROW.replace("{due}", "now() + interval '1 hour'"),
    "the whole row, with no instant": WHOLE_ROW.replace("{due}", "NULL"),
    "upsert": "INSERT INTO incidents (incident_key, first_seen) VALUES ('k', now())"
    " ON CONFLICT (incident_key) DO UPDATE SET {column} = now()",
}
TAKEN_BACK = "UPDATE incidents SET {column} = NULL"


class Answers:
    """A receiver that answers ``first``, and accepts every page once a test has set ``first`` to None."""

    def __init__(self, first: Outcome) -> None:
        self.first: Outcome | None = first
        self.meanwhile: Callable[[], None] | None = None
        """A function that runs while the next page is in flight."""

    def __call__(self, page: Page) -> Outcome:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self.first or Delivered()


def keys(stage: Stage) -> list[tuple[str, int, int]]:
    return [(page.incident.incident_key, page.episode, page.level) for page in stage.notifier.pages]


@pytest.mark.parametrize("reason", ENDS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_page_that_waits_is_cancelled_by_the_hosts_statement(way: str, reason: str, migrated_dsn: str) -> None:
    """The host's own transaction cancels the waiting page, whichever other columns the statement writes."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        await stage.engine.tick(deliver=False)
        with psycopg.connect(migrated_dsn) as host:
            host.execute(WAYS[way].format(column=ENDS[reason]).encode())
            assert [(1, "pending", None)] == stage.pages("k")
            host.rollback()
            host.execute(WAYS[way].format(column=ENDS[reason]).encode())
        assert [(1, "cancelled", reason)] == stage.pages("k")
        stage.sql(TAKEN_BACK.format(column=ENDS[reason]))
        assert ("k", 1, 1) not in await stage.tick()
        assert ["k"] == [key for key, _, _ in await stage.tick(30 * MINUTE)]
        assert (await stage.engine.prove()).holds


@pytest.mark.parametrize("reason", ENDS)
@pytest.mark.parametrize("waits", ["held target", "retry"])
async def test_an_end_that_is_taken_back_within_a_pages_wait_stays_its_end(
    waits: str, reason: str, migrated_dsn: str
) -> None:
    """A host ends and reopens an incident while its page waits for a target or a retry. The page is never sent."""
    answers = Answers(HELD if waits == "held target" else Retry("no", after=timedelta(seconds=20)))
    async with staged(migrated_dsn, answer=answers) as stage:
        stage.incident("k")
        await stage.tick()
        answers.first = None
        stage.sql(WAYS["alone"].format(column=ENDS[reason]))
        stage.sql(TAKEN_BACK.format(column=ENDS[reason]))
        before = len(stage.notifier.pages)
        await stage.tick(MINUTE)
        await stage.tick(28 * MINUTE)
        assert ("k", 1, 1) not in keys(stage)[before:]
        assert "cancelled" == stage.pages("k")[0][1]
        assert ["k"] == list({key for key, _, _ in await stage.tick(2 * MINUTE) + keys(stage)[before:]})


@pytest.mark.parametrize("reason", ENDS)
async def test_a_page_under_way_that_fails_after_an_end_is_not_tried_again(reason: str, migrated_dsn: str) -> None:
    """A host ends and reopens an incident while its page is in flight. If the page fails, the engine cancels it."""
    answers = Answers(Retry("no"))
    async with staged(migrated_dsn, answer=answers) as stage:
        stage.incident("k")

        seen: list[tuple[int, str, str | None]] = []

        def meanwhile() -> None:
            stage.sql(WAYS["alone"].format(column=ENDS[reason]))
            seen.extend(stage.pages("k"))
            stage.sql(TAKEN_BACK.format(column=ENDS[reason]))

        answers.meanwhile = meanwhile
        await stage.engine.tick()
        assert [(1, "cancelled", reason)] == stage.pages("k")[:1]
        assert [(1, "cancelling", reason)] == seen
        answers.first = None
        await stage.tick(MINUTE)
        assert 1 == keys(stage).count(("k", 1, 1))


async def test_a_page_under_way_that_arrives_after_an_end_is_delivered(migrated_dsn: str) -> None:
    """A page that arrives is delivered, even if a host acknowledged its incident while the page was in flight."""
    answers = Answers(Delivered())
    async with staged(migrated_dsn, answer=answers) as stage:
        stage.incident("k")
        answers.meanwhile = lambda: stage.sql("UPDATE incidents SET acknowledged_at = now()")
        await stage.tick()
        assert [(1, "delivered", None)] == stage.pages("k")


async def test_a_thousand_pages_are_cancelled_by_one_statement(migrated_dsn: str) -> None:
    """One UPDATE acknowledges 1,000 incidents and cancels their pages. Only the page of the other incident is sent."""
    async with staged(migrated_dsn) as stage:
        stage.sql(
            "INSERT INTO incidents (incident_key, severity, first_seen)"
            " SELECT 'k' || n, 'critical', %(now)s - interval '10 minutes' FROM generate_series(1, 1001) AS n"
        )
        await stage.engine.tick(deliver=False)
        stage.sql("UPDATE incidents SET acknowledged_at = now() WHERE incident_key <> 'k7'")
        assert [("k7", 1, 1)] == await stage.tick()
        states = "SELECT state, reason, count(*) FROM escalation_pages GROUP BY 1, 2 ORDER BY 3"
        assert [("delivered", None, 1), ("cancelled", "acknowledged", 1000)] == stage.rows(states)


async def test_a_host_without_rights_on_pages_cancels_them(migrated_dsn: str) -> None:
    """A role that may only write incidents acknowledges, and the page is cancelled."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        await stage.engine.tick(deliver=False)
        with (
            role(migrated_dsn, grants="GRANT SELECT, UPDATE ON incidents TO {role}") as (_, dsn),
            psycopg.connect(dsn) as host,
        ):
            host.execute("UPDATE incidents SET acknowledged_at = now()")
        assert [(1, "cancelled", "acknowledged")] == stage.pages("k")


@pytest.mark.parametrize("name", ["a_host", "z_host"])
async def test_an_acknowledgement_that_a_hosts_trigger_writes_cancels_the_page(name: str, migrated_dsn: str) -> None:
    """A host's BEFORE trigger that acknowledges cancels the page, whether it runs before or after the engine's."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        await stage.engine.tick(deliver=False)
        stage.sql(
            f"""
            CREATE FUNCTION host() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                NEW.acknowledged_at := CASE WHEN NEW.summary = 'done' THEN now() END;
                RETURN NEW;
            END $$;
            CREATE TRIGGER {name} BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION host();
            """,
            "UPDATE incidents SET summary = 'done'",
        )
        assert [(1, "cancelled", "acknowledged")] == stage.pages("k")
        stage.sql("UPDATE incidents SET summary = 'again'")
        assert [] == await stage.tick(29 * MINUTE)


@pytest.mark.parametrize("reason", ENDS)
async def test_the_engines_own_verb_is_noted_once(reason: str, migrated_dsn: str) -> None:
    """A verb cancels the page with its own reason and writes one audit entry. The trigger adds none."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        await stage.engine.tick(deliver=False)
        await (stage.engine.acknowledge("k", by="ann") if reason == "acknowledged" else stage.engine.resolve("k"))
        assert [(1, "cancelled", reason)] == stage.pages("k")
        notes = stage.rows("SELECT reason FROM escalation_audit WHERE action IN ('acknowledge', 'resolve')")
        assert [None] == notes
