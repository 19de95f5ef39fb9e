"""What silences paging elsewhere: refused rows, clocks that step back, hosts that do what they like."""

import pytest

from .conftest import Stage
from .history import SECURED
from .odd_hosts import FORBIDDEN, ODD_HOSTS
from .upsets import RULES, UPSETS

ALL = {**UPSETS, **ODD_HOSTS}

NOTED = "SELECT count(*) FROM escalation_unreadable"
SAID = {SECURED: "ALTER ROLE name BYPASSRLS", FORBIDDEN: "CRITICAL"}
"""What workers say that may not see all rows, whoever noticed it first, they or the server; or that may not write."""


@pytest.mark.rotates(4, by="upset")
@pytest.mark.parametrize("upset", list(ALL))
async def test_upset(stage: Stage, upset: str) -> None:
    """Whatever is done to the tables beneath, others are paged in time, and all is well soon after it is over."""
    async with stage(seed=len(upset), rules=RULES) as arena:
        await ALL[upset](arena)
        assert [] == await arena.judge()
        # What was noted of rows that were refused is forgotten once they are written.
        assert [(0,)] == await arena.execute(NOTED)
        for fault in arena.faults:
            if fault.kind in SAID:
                befallen = [worker for worker in arena.workers if worker.name in (fault.workers or ())]
                assert all(SAID[fault.kind] in worker.text for worker in befallen)
