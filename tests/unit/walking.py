"""Shared by tests of policies: a policies file, and a night of one incident, whose minutes count from START."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from escalation_core import Engine, Incident, Policies, Settings
from escalation_core.engine.report import TickReport
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .kit import MINUTE, START, actions, row, states

TARGETS = ("first", "second", "lead", "router")
OPS: Mapping[str, Any] = {
    "levels": [
        {"after": "0m", "to": ["first"]},
        {"after": "5m", "to": ["second", "lead"]},
        {"after": "15m", "to": ["lead"]},
    ],
    "repeat": {"times": 1, "after": "30m"},
}
"""Six escalations, at minutes 0, 5, 20, 50, 55 and 70."""
CALM: Mapping[str, Any] = {"levels": [{"after": "10m", "to": ["lead"]}, {"after": "10m", "to": ["second"]}]}
FILE: Mapping[str, Any] = {
    "policies": {"ops": OPS, "calm": CALM},
    "assign": [{"severity": "critical", "policy": "ops"}, {"severity": "low", "policy": "calm"}],
}


def policies(**named: Mapping[str, Any]) -> Policies:
    """Return a file with these policies, and without others; severity critical gets the first of them."""
    first = next(iter(named))
    return Policies.from_mapping({"policies": named, "assign": [{"severity": "critical", "policy": first}]})


LASTING = policies(ops={**OPS, "ack_timeout": "30m"})
"""The policy ops, with acknowledgements that end after half an hour."""


def minutes(instant: datetime | None) -> float | None:
    """Return the minutes from START to an instant."""
    return None if instant is None else (instant - START) / MINUTE


@attrs.define
class Night:
    """An engine on a MemoryStore, with the incident ``k``."""

    clock: ManualClock
    store: MemoryStore
    file: Policies | None = attrs.field(factory=lambda: Policies.from_mapping(FILE))
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    notifier: RecordingNotifier = attrs.field(factory=lambda: RecordingNotifier(*TARGETS))
    engine: Engine = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the engine."""
        self.restart(self.file)

    def restart(self, file: Policies | None, **settings: Any) -> None:
        """Go on with an engine that has another file, and settings of its own."""
        given = {"default_target": "router", **self.settings, **settings}
        self.file = file
        self.engine = Engine(self.store, settings=Settings(**given), notifiers=[self.notifier], policies=file)

    def at(self, minute: float) -> Engine:
        """Set the clock, and return the engine."""
        self.clock.set(START + minute * MINUTE)
        return self.engine

    async def tick(self, minute: float) -> TickReport:
        """Tick at a minute, and send nothing."""
        return await self.at(minute).tick(deliver=False)

    async def ticks(self, first: int, last: int) -> None:
        """Tick at each minute from ``first`` to ``last``, and send nothing."""
        for minute in range(first, last + 1):
            await self.tick(minute)

    async def load(self, key: str = "k") -> Incident:
        """Return the incident."""
        found = await self.store.read(lambda tx: tx.incidents.load(key))
        assert found is not None
        return found

    @property
    def rises(self) -> list[tuple[float | None, int]]:
        """The minute and the level of each escalation."""
        return [(minutes(one.created_at), one.level) for one in self.store.ledger.values()]

    @property
    def places(self) -> list[tuple[int, str | None, int | None]]:
        """The episode, policy and position of each escalation."""
        return [(one.episode, one.policy, one.position) for one in self.store.ledger.values()]

    @property
    def paged(self) -> list[tuple[int, str]]:
        """The level and target of each page."""
        return [(page.level, page.target) for page in self.store.pages.values()]

    @property
    def due(self) -> float | None:
        """The minute of next_due_at."""
        return minutes(row(self.store)["next_due_at"])

    @property
    def walk(self) -> tuple[int | None, float | None]:
        """The policy_level of the row, and the minute of its policy_since."""
        return row(self.store)["policy_level"], minutes(row(self.store)["policy_since"])

    @property
    def pin(self) -> str:
        """The pin, with the policy's name for its digest."""
        text = str(row(self.store)["policy_pin"])
        for policy in () if self.file is None else self.file.policies.values():
            text = text.replace(f"@{policy.digest}@", "@now@")
        return text

    @property
    def notes(self) -> list[str]:
        """The actions in the audit."""
        return actions(self.store)

    @property
    def states(self) -> list[str]:
        """The states of all pages."""
        return states(self.store)
