"""What silences paging elsewhere: refused rows, clocks that step back, hosts that do what they like."""

import pytest

from .conftest import NewRun
from .harness.rules import SECURED
from .scenarios.odd_hosts import FORBIDDEN, ODD_HOSTS
from .scenarios.upsets import RULES, UPSETS

ALL = {**UPSETS, **ODD_HOSTS}

NOTED = "SELECT count(*) FROM escalation_unreadable"
SAID = {SECURED: "ALTER ROLE name BYPASSRLS", FORBIDDEN: "CRITICAL"}
"""What workers say that may not see all rows, whoever noticed it first, they or the server; or that may not write."""


@pytest.mark.rotates(4, by="upset")
@pytest.mark.parametrize("upset", list(ALL))
async def test_upset(new_run: NewRun, upset: str) -> None:
    """Whatever is done to the tables beneath, others are paged in time, and all is well soon after it is over."""
    async with new_run(seed=len(upset), rules=RULES) as run:
        await ALL[upset](run)
        assert [] == await run.judge()
        # What was noted of rows that were refused is forgotten once they are written.
        assert [(0,)] == await run.execute(NOTED)
        for fault in run.faults:
            if fault.kind in SAID:
                befallen = [worker for worker in run.workers if worker.name in (fault.workers or ())]
                assert all(SAID[fault.kind] in worker.text for worker in befallen)
