"""Notices: those who were paged learn what became of the incident, though workers are killed and receivers fail."""

from collections import Counter
from random import Random

import pytest

from .conftest import NewRun
from .harness.pager import TARGET
from .scenarios.notices import NIGHT, PACED, many_resolved, night

KILLS = {False: 8, True: 120}


@pytest.mark.timeout(900)
async def test_killed_while_notices_are_told(new_run: NewRun, full: bool) -> None:
    """PagerDuty ends the night with every incident resolved, and none of them was opened twice."""
    async with new_run(seed=31, rules=NIGHT) as run:
        await night(run, kills=KILLS[full], random=Random(31))
        assert [] == await run.judge()
        assert run.result is not None
        history = run.result[0]
        assert [] == list(run.pager.unresolved())
        assert {1} == {thread.opened for thread in run.pager.threads.values()}
        assert [] == run.pager.errors
        found = Counter((one.kind, one.target) for one in history.notices or () if one.state == "delivered")
        for seen in (("acknowledged", "ops"), ("resolved", "ops"), ("acknowledged", TARGET), ("resolved", TARGET)):
            assert found[seen], f"no notice {seen[0]} to {seen[1]}"
        assert not any(target == "boss" for _, target in found)
        run.measured |= {
            f"notices {kind}": count for kind, count in Counter(kind for kind, _ in found.elements()).items()
        }


@pytest.mark.timeout(300)
async def test_pages_do_not_wait_for_notices(new_run: NewRun) -> None:
    """A budget has to take many notices, and each page that comes after them goes first."""
    async with new_run(seed=32, rules=PACED) as run:
        await many_resolved(run)
        assert [] == await run.judge()
        assert run.result is not None
        history = run.result[0]
        assert 12 == sum(one.state == "delivered" for one in history.notices or () if one.key.startswith("old"))
