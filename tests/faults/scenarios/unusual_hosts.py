"""Scenarios with unusual hosts: settings of the role, a revoked right, an undone next_due_at, notifiers that raise."""

import asyncio
from collections.abc import Mapping

from ..harness.run import Run
from ..harness.servers import WORKER
from .host_faults import Scenario, due

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
    {assignment};
    RETURN NEW;
END $body$;
CREATE TRIGGER undo BEFORE UPDATE ON incidents
    FOR EACH ROW WHEN (NEW.incident_key LIKE 'undone%' AND current_setting('escalation.engine', true) = 'on')
    EXECUTE FUNCTION faults.undo()
"""
DROP_UNDO = "DROP FUNCTION faults.undo() CASCADE"
REVOKED = "right to write revoked"
UNDONE_FOR = 3.0
"""Seconds until the host drops the trigger: long enough for several levels."""


async def role_settings(run: Run) -> None:
    """The workers' role has settings that change what statements mean."""
    for name, value in SETTINGS.items():
        await run.execute(f"ALTER ROLE {WORKER} SET {name} = {value}")
    try:
        await run.start_workers(2)
        await due(run, *(f"k{number}" for number in range(4)))
        run.start_incidents(10, over=2)
        await run.finish_incidents()
    finally:
        await run.execute(f"ALTER ROLE {WORKER} RESET ALL")


def undone(assignment: str) -> Scenario:
    """Return a scenario in which a trigger of the host undoes the next_due_at of two rows, until the host drops it."""

    async def scenario(run: Run) -> None:
        keys = [f"undone-{number}" for number in range(2)]
        findings = frozenset(f"unreadable {key}" for key in keys)
        recovery = run.rules.gap + run.rules.tick
        with run.disturbance(
            "next_due_at undone", stops=True, keys=frozenset(keys), findings=findings, recovery=recovery
        ):
            await run.execute(UNDONE.replace("{assignment}", assignment))
            await run.start_workers(2)
            await due(run, *keys)
            run.start_incidents(10, over=2)
            await asyncio.sleep(UNDONE_FOR)
            await run.execute(DROP_UNDO)

    return scenario


async def right_revoked(run: Run) -> None:
    """The workers' role may not write the incidents for a while. The workers log it, and continue once they may."""
    workers = await run.start_workers(2)
    await due(run, "before")
    await run.until_requests(1)
    with run.fault(REVOKED, *workers, stops=True, unhealthy=True):
        await run.execute(f"REVOKE UPDATE ON incidents FROM {WORKER}")
        await due(run, *(f"k{number}" for number in range(4)))
        # Health must show the fault within two ticks.
        await asyncio.sleep(3 * run.rules.tick)
        await run.execute(f"GRANT UPDATE ON incidents TO {WORKER}")
    run.start_incidents(6, over=1)
    await run.finish_incidents()


async def raising_notifiers(run: Run) -> None:
    """The notifier raises a BaseException for every third page, before it sends the page."""
    await run.start_worker("w1", raising_notifier=True)
    await run.start_worker("w2", raising_notifier=True)
    await due(run, *(f"k{number}" for number in range(6)))
    run.start_incidents(10, over=2)
    await run.finish_incidents()


UNUSUAL_HOSTS: Mapping[str, Scenario] = {
    "settings of the role": role_settings,
    "next_due_at is kept": undone("NEW.next_due_at := OLD.next_due_at"),
    "next_due_at is set to the past": undone("NEW.next_due_at := '2001-01-01'"),
    "right to write is revoked": right_revoked,
    "notifiers raise": raising_notifiers,
}
