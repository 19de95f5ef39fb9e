"""What silences paging elsewhere: refused rows, clocks that step back, hosts that change what they like."""

import pytest

from .conftest import Stage
from .history import SECURED
from .upsets import RULES, UPSETS

NOTED = "SELECT count(*) FROM escalation_unreadable"
REFUSES = "ALTER ROLE name BYPASSRLS"
"""What a worker says that may not see all rows, whoever noticed it first: it or the server."""


@pytest.mark.rotates(4, by="upset")
@pytest.mark.parametrize("upset", list(UPSETS))
async def test_upset(stage: Stage, upset: str) -> None:
    """Whatever is done to the tables beneath, others are paged in time, and all is well soon after it is over."""
    async with stage(seed=len(upset), rules=RULES) as arena:
        await UPSETS[upset](arena)
        assert [] == await arena.judge()
        # What was noted of rows that were refused is forgotten once they are written.
        assert [(0,)] == await arena.execute(NOTED)
        for fault in arena.faults:
            if fault.kind == SECURED:
                befallen = [worker for worker in arena.workers if worker.name in (fault.workers or ())]
                assert all(REFUSES in worker.text for worker in befallen)
