"""A storm: several workers share budgets and follow chains of fallbacks, while some of them are killed."""

from collections import Counter
from random import Random
from time import monotonic

import attrs
import pytest

from escalation_core import Budget
from escalation_core.testing.invariants.bundles import messages

from .conftest import NewRun
from .harness.receiver import OK, Answer
from .harness.rules import Rules
from .scenarios.storms import BUNDLES, CHAINS, bundles_and_kills, chains, due

KILLS = {False: 8, True: 120}
INCIDENTS = {False: 120, True: 400}
RECEIVED_PER_SECOND = 20
REFUSED_RATES = 10.0, 5.0
"""The rates of a target after its first 429 and after many: ten times those of the library."""
KNOWN_AFTER = 1.0
"""Seconds after the first 429 in which pages may be refused that were sent at once."""


@pytest.mark.timeout(900)
async def test_killed_while_pages_follow_chains(new_run: NewRun, full: bool) -> None:
    """Pages reach the end of a chain with two dead ends, and incidents with three dead ends are unheard and loud.

    The receiver never gets more than the budget of a target allows, though three workers send and are killed.
    """
    async with new_run(seed=24, rules=CHAINS) as run:
        await chains(run, kills=KILLS[full], random=Random(24))
        assert [] == await run.judge()
        assert run.result is not None
        history = run.result[0]
        states = Counter((page.target, page.state) for page in history.pages)
        for seen in (
            *((target, "handed_over") for target in CHAINS.fallbacks),
            ("gone", "dead"),
            ("spare", "delivered"),
            ("closed", "superseded"),
            ("paced", "delivered"),
        ):
            assert states[seen], f"no page to {seen[0]} is {seen[1]}"
        noted = {note.key for note in history.notes or () if note.action == "unheard"}
        assert {f"unheard-{number}" for number in range(3)} <= noted
        assert not {key for key in noted if key.startswith("heard-")}
        run.measured |= {f"pages {state}": count for state, count in Counter(p.state for p in history.pages).items()}


@pytest.mark.timeout(900)
async def test_killed_while_pages_are_bundled(new_run: NewRun, full: bool) -> None:
    """Bundles are taken, half taken, refused, cut off and delayed, and workers are killed: each page arrives."""
    async with new_run(seed=26, rules=BUNDLES) as run:
        await bundles_and_kills(run, kills=KILLS[full] // 2, random=Random(26))
        assert [] == await run.judge()
        assert run.result is not None
        history = run.result[0]
        sent = messages(history.changes)
        assert any(len(message.pages) > 1 for message in sent), "no bundle was sent"
        assert len({message.bundle for message in sent}) < len(sent), "no bundle was tried again"
        refused = [page for page in history.changes if (page.reason or "").startswith("refused in a bundle")]
        assert refused, "no bundle was refused for good"
        assert any(page.bundle for page in refused if page.state == "pending"), "no refused bundle was halved"
        half: dict[str, float] = {}  # when half of it was accepted first
        for request in sorted(history.requests, key=lambda request: request.at):
            if request.half_accepted:
                half.setdefault(request.dedup_key, request.at)
        again = [request for request in history.requests if request.at > half.get(request.dedup_key, request.at)]
        assert again, "no bundle was tried again after half of it was accepted"
        run.measured |= {
            "bundles": len({message.bundle for message in sent}),
            "pages in bundles": sum(map(len, (m.pages for m in sent))),
        }


@pytest.mark.timeout(900)
async def test_receiver_with_a_rate_of_its_own(new_run: NewRun, full: bool) -> None:
    """Workers learn the rate of a receiver that answers 429: then it refuses at most one request in five."""
    accepted = list[float]()

    def answer(number: int) -> Answer:
        now = monotonic()
        recent = [at for at in accepted if at > now - 1]
        if len(recent) >= RECEIVED_PER_SECOND:
            return Answer(status=429, accepts=False, headers="Retry-After: 0\r\n")
        accepted.append(now)
        return OK

    async with new_run(seed=25, rules=Rules(max_level=1, refused_rates=REFUSED_RATES, bundle_after=3600.0)) as run:
        run.targets = ("ops",)
        # All incidents are opened at once, so their escalations may be late as well.
        with run.disturbance("receiver: 429 above its rate", stops=True):
            run.receiver.answers = answer
            await run.start_workers()
            await due(run, "k", INCIDENTS[full])
            assert await run.until_idle(60.0)
        # The checks know only the budgets of settings: let them take the target as one that has a budget.
        run.rules = attrs.evolve(run.rules, budgets={"ops": Budget(rate=1000, burst=1000)})
        assert [] == await run.judge()
        first = min(request.at for request in run.receiver.requests if not request.accepted)
        later = [request for request in run.receiver.requests if request.at > first + KNOWN_AFTER]
        refused = sum(not request.accepted for request in later)
        run.measured["requests at a learned rate"], run.measured["refused at a learned rate"] = len(later), refused
        assert refused <= len(later) / 5
