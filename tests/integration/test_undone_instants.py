"""A host's trigger undoes the engine's next_due_at. The engine defers the row, no worker spins, and pages go out."""

from datetime import timedelta

import pytest

from escalation_core.rules.plan import ALTERED

from .stage import MINUTE, Stage, staged

BAD, GOOD = "bad", "good"
BODY = """
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.incident_key = 'bad' AND current_setting('escalation.engine', true) = 'on' THEN {what}; END IF;
    RETURN NEW;
END $$;
CREATE {kind} FOR EACH ROW {when} EXECUTE FUNCTION meddle();
"""
BEFORE = "TRIGGER meddle BEFORE UPDATE ON incidents"
AFTER = "TRIGGER meddle AFTER UPDATE ON incidents"
DEFERRED = "CONSTRAINT TRIGGER meddle AFTER UPDATE ON incidents DEFERRABLE INITIALLY DEFERRED"
ONCE = "WHEN (pg_trigger_depth() = 0)"
TO_PAST = "UPDATE incidents SET next_due_at = '2001-01-01' WHERE incident_key = 'bad' AND next_due_at > '2001-01-01'"
MEDDLING = {
    "keeps": BODY.format(kind=BEFORE, what="NEW.next_due_at := OLD.next_due_at", when=""),
    "keeps the row": BODY.format(kind=BEFORE, what="NEW := OLD", when=""),
    "nulls": BODY.format(kind=BEFORE, what="NEW.next_due_at := NULL", when=""),
    "nulls a risen row": BODY.format(
        kind=BEFORE,
        what="IF NEW.escalation_level > OLD.escalation_level THEN NEW.next_due_at := NULL; END IF",
        when="",
    ),
    "sets a past one": BODY.format(kind=BEFORE, what="NEW.next_due_at := '2001-01-01'", when=""),
    "sets the epoch": BODY.format(kind=BEFORE, what="NEW.next_due_at := 'epoch'", when=""),
    "after": BODY.format(kind=AFTER, what=TO_PAST, when=ONCE),
    "deferred": BODY.format(kind=DEFERRED, what=TO_PAST, when=ONCE),
}
HEALS = "nulls a risen row"
"""With this trigger the engine finds the row as unseen and plans it, so it does not defer the row."""


def level_of(stage: Stage, key: str) -> int:
    found: list[int] = stage.rows("SELECT max(level) FROM escalation_events WHERE incident_key = %(key)s", key=key)
    return found[0]


@pytest.mark.parametrize("meddling", [name for name in MEDDLING if name != HEALS])
async def test_a_row_whose_instant_is_undone_is_deferred(migrated_dsn: str, meddling: str) -> None:
    """Within four ticks the engine defers the row and health names it. The engine pages both rows."""
    async with staged(migrated_dsn) as stage:
        stage.sql(MEDDLING[meddling])
        stage.incident(BAD, GOOD)
        for _ in range(4):
            report = await stage.engine.tick()
        assert timedelta() < await stage.engine.next_tick_in(report)
        assert not report.changed
        health = await stage.engine.health()
        assert {BAD: ALTERED} == dict(health.stats.unreadable_examples)
        assert 0 == health.stats.overdue
        assert {(BAD, 1, 1), (GOOD, 1, 1)} <= {*await stage.tick(), *pages(stage)}


def pages(stage: Stage) -> list[tuple[str, int, int]]:
    return [(page.incident.incident_key, page.episode, page.level) for page in stage.notifier.pages]


@pytest.mark.parametrize("meddling", [name for name in MEDDLING if name not in ("nulls", "keeps the row")])
async def test_its_pages_go_out_at_their_time(migrated_dsn: str, meddling: str) -> None:
    """The row reaches the same levels as the other row: the engine passes over it only until its true instant."""
    async with staged(migrated_dsn) as stage:
        stage.sql(MEDDLING[meddling])
        stage.incident(BAD, GOOD)
        for _ in range(120):
            await stage.tick(after=MINUTE)
        mine = [page[2] for page in pages(stage) if page[0] == BAD]
        assert mine == [page[2] for page in pages(stage) if page[0] == GOOD]
        assert [*range(1, len(mine) + 1)] == mine
        assert len(mine) > 2


@pytest.mark.parametrize("meddling", ["keeps", "sets a past one", "sets the epoch"])
async def test_its_next_escalation_is_told(migrated_dsn: str, meddling: str) -> None:
    """``history`` gives the end of the deferral as the next escalation, not the next_due_at of the row."""
    async with staged(migrated_dsn) as stage:
        stage.sql(MEDDLING[meddling])
        stage.incident(BAD)
        for _ in range(4):
            await stage.tick()
        told = (await stage.engine.history(BAD)).upcoming
        assert told.held_by is None
        assert told.at is not None
        assert [] == await stage.tick(after=told.at - stage.clock() - MINUTE)
        assert [(BAD, 1, 2)] == await stage.tick(after=MINUTE)


async def test_a_row_is_as_any_other_once_the_trigger_is_gone(migrated_dsn: str) -> None:
    """After the host drops the trigger and the incident escalates again, health no longer counts the row."""
    async with staged(migrated_dsn) as stage:
        stage.sql(MEDDLING["keeps"])
        stage.incident(BAD)
        for _ in range(4):
            await stage.tick()
        stage.sql("DROP FUNCTION meddle CASCADE")
        for _ in range(60):
            await stage.tick(after=MINUTE)
        assert 2 <= level_of(stage, BAD)
        assert 0 == (await stage.engine.health()).stats.unreadable


async def test_a_host_that_writes_a_row_again_and_again_is_no_fault(migrated_dsn: str) -> None:
    """After each write of the host, a tick plans the row anew. Health does not count the row as unreadable."""
    async with staged(migrated_dsn) as stage:
        stage.incident(GOOD)
        for number in range(4):
            stage.sql("UPDATE incidents SET summary = %(summary)s, next_due_at = 'epoch'", summary=f"{number}")
            await stage.tick()
        assert 0 == (await stage.engine.health()).stats.unreadable
        assert [(GOOD, 1, 1)] == pages(stage)


async def test_a_row_whose_escalation_is_recorded_already_is_no_fault(migrated_dsn: str) -> None:
    """If the escalation is recorded already, the engine plans the row again and checks the instant by that plan."""
    async with staged(migrated_dsn) as stage:
        stage.incident(GOOD)
        await stage.tick()
        for _ in range(3):
            stage.sql("UPDATE incidents SET escalation_level = 0, last_escalated_at = NULL, next_due_at = '2001-01-01'")
            await stage.tick(after=MINUTE)
        assert 0 == (await stage.engine.health()).stats.unreadable
        assert [(GOOD, 1, 1)] == pages(stage)
