"""What odd hosts do to workers: settings of their role, rights taken away, undone instants, unruly notifiers."""

import asyncio
from collections.abc import Mapping

from ..harness.run import Run
from ..harness.servers import WORKER
from .upsets import Scenario, due

SETTINGS = {
    "array_nulls": "off",
    "default_transaction_isolation": "serializable",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "TimeZone": "'Pacific/Kiritimati'",
    "standard_conforming_strings": "off",
}
UNDONE = """
CREATE FUNCTION faults.undo() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    {what};
    RETURN NEW;
END $body$;
CREATE TRIGGER undo BEFORE UPDATE ON incidents
    FOR EACH ROW WHEN (NEW.incident_key LIKE 'undone%' AND current_setting('escalation.engine', true) = 'on')
    EXECUTE FUNCTION faults.undo()
"""
DONE_AGAIN = "DROP FUNCTION faults.undo() CASCADE"
FORBIDDEN = "worker forbidden"
UNDONE_FOR = 3.0
"""Seconds for which the trigger is there: long enough for several levels, in real processes by the wall clock."""


async def oddly_set(run: Run) -> None:
    """The workers' role has settings that change what statements mean."""
    for name, value in SETTINGS.items():
        await run.execute(f"ALTER ROLE {WORKER} SET {name} = {value}")
    try:
        await run.team(2)
        await due(run, *(f"k{number}" for number in range(4)))
        run.live(10, over=2)
        await run.lived()
    finally:
        await run.execute(f"ALTER ROLE {WORKER} RESET ALL")


def undone(what: str) -> Scenario:
    """A trigger of the host undoes the instant of two rows, until the host has thought better of it."""

    async def scenario(run: Run) -> None:
        keys = [f"undone-{number}" for number in range(2)]
        findings = frozenset(f"unreadable {key}" for key in keys)
        recovery = run.rules.gap + run.rules.tick
        with run.trial("instant undone", stops=True, keys=frozenset(keys), findings=findings, recovery=recovery):
            await run.execute(UNDONE.replace("{what}", what))
            await run.team(2)
            await due(run, *keys)
            run.live(10, over=2)
            await asyncio.sleep(UNDONE_FOR)
            await run.execute(DONE_AGAIN)

    return scenario


async def forbidden(run: Run) -> None:
    """The workers' role may not write the incidents for a while: they say so, and go on once they may."""
    team = await run.team(2)
    await due(run, "before")
    await run.heard(1)
    with run.fault(FORBIDDEN, *team, stops=True, unhealthy=True):
        await run.execute(f"REVOKE UPDATE ON incidents FROM {WORKER}")
        await due(run, *(f"k{number}" for number in range(4)))
        # Health has to show it within two ticks: the workers are real processes, on the wall clock.
        await asyncio.sleep(3 * run.rules.tick)
        await run.execute(f"GRANT UPDATE ON incidents TO {WORKER}")
    run.live(6, over=1)
    await run.lived()


async def unruly(run: Run) -> None:
    """The notifier raises what nothing should raise, before it has sent anything, for every third page."""
    await run.work("w1", unruly=True)
    await run.work("w2", unruly=True)
    await due(run, *(f"k{number}" for number in range(6)))
    run.live(10, over=2)
    await run.lived()


ODD_HOSTS: Mapping[str, Scenario] = {
    "settings of the role": oddly_set,
    "instants are kept": undone("NEW.next_due_at := OLD.next_due_at"),
    "instants are set to the past": undone("NEW.next_due_at := '2001-01-01'"),
    "rights are taken away": forbidden,
    "notifiers misbehave": unruly,
}
