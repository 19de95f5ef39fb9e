"""Tests of missing and disabled triggers: health and ``migrate status`` report them; ``migrate up`` repairs them."""

import pytest

from escalation_adapters.postgres import migrate

from ..acceptance.console import program, url_of
from .stage import Stage, staged

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")

BOTH = ["zz_escalation_host_insert", "zz_escalation_host_update"]
BROKEN = {
    "disabled": "ALTER TABLE incidents DISABLE TRIGGER {}",
    "replica only": "ALTER TABLE incidents ENABLE REPLICA TRIGGER {}",
    "missing": "DROP TRIGGER {} ON incidents",
}


def status(stage: Stage, *options: str) -> tuple[int, str]:
    """Run ``migrate status``; return its exit code and its output."""
    said = program("migrate", "status", *options, env={"ESC_DATABASE_URL": url_of(stage.dsn)})
    return said.code, said.out + said.err


@pytest.mark.parametrize("trigger", BOTH)
@pytest.mark.parametrize("how", BROKEN)
async def test_a_trigger_that_is_off_is_told_and_mended(how: str, trigger: str, migrated_dsn: str) -> None:
    """Health and ``check`` name the trigger, ``up`` repairs the trigger, and the engine sees hosts' writes again."""
    async with staged(migrated_dsn) as stage:
        assert [] == list(await migrate.check(migrated_dsn))
        assert () == tuple((await stage.engine.health()).warnings)
        stage.sql(BROKEN[how].format(trigger))
        (fault,) = await migrate.check(migrated_dsn)
        assert trigger in fault
        assert ("is missing" if how == "missing" else "is disabled") in fault
        health = await stage.engine.health()
        assert [fault] == list(health.stats.faults)
        assert [fault] == list(health.warnings)
        assert True is health.ok
        said: list[str] = []
        assert ["repaired public.incidents"] == list(await migrate.up(migrated_dsn, say=said.append, create=True))
        assert [f"repairing: {fault}"] == said
        assert [] == list(await migrate.check(migrated_dsn))
        assert () == tuple((await stage.engine.health()).warnings)
        stage.incident("k")
        assert [("k", 1, 1)] == await stage.tick()
        await stage.engine.tick(deliver=False)
        stage.sql("UPDATE incidents SET acknowledged_at = now()")
        assert stage.due("k") is None
        assert [] == list(await migrate.up(migrated_dsn, create=True))


async def test_status_of_the_command_line_tells_a_trigger_that_is_off(migrated_dsn: str) -> None:
    """``migrate status`` exits with 1 while a trigger is off, also with ``--json``, and with 0 after ``migrate up``."""
    async with staged(migrated_dsn) as stage:
        assert 0 == status(stage)[0]
        assert 0 == status(stage, "--json")[0]
        stage.sql(BROKEN["disabled"].format(BOTH[0]), BROKEN["missing"].format(BOTH[1]))
        for options in ((), ("--json",)):
            code, text = status(stage, *options)
            assert 1 == code
            assert f"{BOTH[0]} on public.incidents is disabled" in text
            assert BOTH[1] in text
        assert 0 == program("migrate", "up", env={"ESC_DATABASE_URL": url_of(migrated_dsn)}).code
        assert 0 == status(stage)[0]


async def test_status_tells_a_key_that_may_be_null(migrated_dsn: str) -> None:
    """If the host dropped NOT NULL from its key, ``migrate status`` exits with 1 and prints the remedy."""
    async with staged(migrated_dsn) as stage:
        stage.sql(
            "ALTER TABLE incidents DROP CONSTRAINT incidents_pkey",
            "ALTER TABLE incidents ADD UNIQUE (incident_key)",
            "ALTER TABLE incidents ALTER COLUMN incident_key DROP NOT NULL",
        )
        code, text = status(stage)
        assert (1, True) == (code, 'ALTER COLUMN "incident_key" SET NOT NULL' in text)


async def test_an_installation_without_triggers_has_no_such_fault(pg_dsn: str) -> None:
    """With ``trigger=False`` there is no fault, a second ``up`` makes no trigger, and the engine finds rows by SQL."""
    await migrate.up(pg_dsn, trigger=False, create=True)
    assert [] == list(await migrate.check(pg_dsn))
    assert [] == list(await migrate.up(pg_dsn, create=True))
    async with staged(pg_dsn) as stage:
        assert ([], []) == (
            list((await stage.engine.health()).stats.faults),
            list((await stage.engine.health()).warnings),
        )
        assert [] == stage.rows("SELECT tgname FROM pg_trigger")
        stage.incident("k")
        await stage.tick()
        assert [("k", 1, 1)] == await stage.tick()
