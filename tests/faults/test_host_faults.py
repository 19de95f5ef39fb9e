"""Faults in the tables and around the workers: refused rows, clock steps, unseen writes, unusual hosts."""

import pytest

from .conftest import NewRun
from .harness.rules import SECURED
from .scenarios.host_faults import HOST_FAULTS, RULES
from .scenarios.unusual_hosts import REVOKED, UNUSUAL_HOSTS

ALL = {**HOST_FAULTS, **UNUSUAL_HOSTS}

UNREADABLE_ROWS = "SELECT count(*) FROM escalation_unreadable"
LOGGED = {SECURED: "ALTER ROLE name BYPASSRLS", REVOKED: "CRITICAL"}
"""A text that each worker logs during a fault of a kind."""


@pytest.mark.rotates(4, by="fault")
@pytest.mark.parametrize("fault", list(ALL))
async def test_host_fault(new_run: NewRun, fault: str) -> None:
    """The fault delays no other incident, and soon after its end no incident is late."""
    async with new_run(seed=len(fault), rules=RULES) as run:
        await ALL[fault](run)
        assert [] == await run.judge()
        # The engine deletes its note of a refused row once it has written the row.
        assert [(0,)] == await run.execute(UNREADABLE_ROWS)
        for recorded in run.faults:
            if recorded.kind in LOGGED:
                affected = [worker for worker in run.workers if worker.name in (recorded.workers or ())]
                assert all(LOGGED[recorded.kind] in worker.text for worker in affected)
