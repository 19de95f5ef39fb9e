"""Play a log of host events on the real engine, with the log's instants as its clock."""

import asyncio
import csv
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs

from escalation_core import Engine, Escalation, InvalidValue, Settings, State, TransitionRefused
from escalation_core.model import BUILTIN
from escalation_core.ports import Transaction
from escalation_core.rules.gate import Gate, Mode
from escalation_core.testing import ManualClock

from ..files import write_whole
from .log import Event, Fault

_CHUNK = 5000
KEEPABLE = ("canary", "pause", "dry-run", "switches")


@attrs.define(kw_only=True)
class Replay:
    """The result of a replay."""

    events: int = 0
    """Number of usable events, refused ones included."""
    played: Counter[str] = attrs.field(factory=Counter)
    unusable: list[Fault] = attrs.field(factory=list)
    """Rows that are not valid events."""
    refused: list[Fault] = attrs.field(factory=list)
    """Events that the incident's state does not allow."""
    incidents: int = 0
    escalations: list[Escalation] = attrs.field(factory=list)
    first: datetime | None = None
    last: datetime | None = None

    @property
    def levels(self) -> dict[int, int]:
        """The number of escalations to each level."""
        return dict(sorted(Counter(escalation.level for escalation in self.escalations).items()))

    @property
    def policies(self) -> dict[str, int]:
        """The number of escalations by each policy."""
        return dict(sorted(Counter(escalation.policy or BUILTIN for escalation in self.escalations).items()))

    @property
    def outcomes(self) -> dict[str, int]:
        """The number of levels that did not page whom they name: ``nobody`` was passed over, see ``LevelOutcome``."""
        found = [escalation.outcome.value for escalation in self.escalations if escalation.outcome is not None]
        return dict(sorted(Counter(found).items()))

    def as_dict(self) -> dict[str, object]:
        """Return the result for JSON, with escalations as counts."""
        return {
            "events": self.events,
            "played": dict(self.played),
            "incidents": self.incidents,
            "escalations": len(self.escalations),
            "levels": {str(level): count for level, count in self.levels.items()},
            "policies": self.policies,
            "outcomes": self.outcomes,
            "first": None if self.first is None else self.first.isoformat(),
            "last": None if self.last is None else self.last.isoformat(),
            "unusable": [attrs.asdict(fault) for fault in self.unusable],
            "refused": [attrs.asdict(fault) for fault in self.refused],
        }


def replay_settings(settings: Settings, keep: Sequence[str] = ()) -> Settings:
    """Return the settings for a replay: canary, pause, dry run and switches are off unless ``keep`` names them.

    The dead man's switch is always off: a replay must not report that a worker ticks.
    """
    off: dict[str, dict[str, Any]] = {
        "canary": {"canary_pct": 100},
        "pause": {"pause_cron": None, "pause_length": None},
        "dry-run": {"dry_run": False},
        "switches": {"worker_enabled": True, "v1": True},
    }
    changes = {field: value for name, fields in off.items() if name not in keep for field, value in fields.items()}
    return attrs.evolve(settings, warnings=(), heartbeat_url=None, **changes)


async def replay(
    engine: Engine, clock: ManualClock, events: Sequence[Event], *, progress: Callable[[int], None] = lambda done: None
) -> Replay:
    """Play events, in their order, on an engine whose store reads ``clock``; return the result."""
    outcome = Replay()
    if events:
        outcome.first, outcome.last = events[0].at, events[-1].at
    for instant, group in groupby(events, key=lambda event: event.at):
        _leave_if_told()
        await _escalate(engine, clock, instant, inclusive=False)
        clock.set(instant)
        for event in group:
            try:
                await _apply(engine, event)
                outcome.played[event.event] += 1
            except (TransitionRefused, InvalidValue) as refusal:
                outcome.refused.append(Fault(event.line, str(refusal)))
            outcome.events += 1
        await _escalate(engine, clock, instant, inclusive=True)
        progress(outcome.events)
    outcome.escalations = sorted(
        [escalation async for escalation in _escalations(engine)],
        key=lambda done: (done.created_at, done.incident_key.encode(), done.episode, done.level),
    )
    outcome.incidents = len({event.incident_key for event in events})
    return outcome


def _leave_if_told() -> None:
    """Raise a lost cancellation: in Python 3.11 ``asyncio.wait_for`` may swallow one (gh-86296)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _escalate(engine: Engine, clock: ManualClock, limit: datetime, *, inclusive: bool) -> None:
    """Play every escalation that is due before ``limit``, or at ``limit`` if ``inclusive``, each at its own instant."""
    settings = engine.settings

    while (due := (await engine.store.next_due(canary=settings.canary)).due_at) is not None:
        # A change may move an instant into the past: then the escalation happens now, or when the pause ends.
        at = max(due, clock())
        gate = Gate.at(settings.switches, at)
        if gate.mode is Mode.PAUSED and gate.until is not None:
            at = gate.until
        if at > limit or (at == limit and not inclusive) or settings.dry_run:
            return
        clock.set(at)
        if not (await engine.tick(deliver=False)).changed:
            return


async def _apply(engine: Engine, event: Event) -> None:
    key = event.incident_key
    severity = event.severity if event.severity.strip() else None
    if event.event == "acknowledged":
        await engine.acknowledge(key)
    elif event.event == "resolved":
        await engine.resolve(key)
    elif event.event == "severity_changed":
        await engine.change_severity(key, event.severity)
    else:
        if event.event == "reopened":
            await _admit_reopen(engine, key)
        await engine.open(key, severity=severity)


async def _admit_reopen(engine: Engine, key: str) -> None:
    incident = await engine.store.read(lambda tx: tx.incidents.load(key, lock=False))
    state = State.UNKNOWN if incident is None else incident.state
    if state is not State.RESOLVED:
        raise TransitionRefused(key, state.value, "reopen", "only a resolved incident is reopened")


async def _escalations(engine: Engine) -> AsyncIterator[Escalation]:
    after = 0
    while True:

        async def work(tx: Transaction, after: int = after) -> Sequence[tuple[int, Escalation]]:
            return await tx.ledger.escalations(after=after, limit=_CHUNK)

        found = await engine.store.read(work)
        for after, escalation in found:  # noqa: B007 - the last number is where the next chunk begins
            yield escalation
        if len(found) < _CHUNK:
            return


def write_escalations(path: Path, escalations: Sequence[Escalation], *, policies: bool = False) -> None:
    """Write escalations as CSV (RFC 4180), whole or not at all.

    ``policies`` adds the columns policy, position and outcome.

    Raises:
        EscalationError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ("at", "incident_key", "episode", "level", *(("policy", "position", "outcome") if policies else ()))
    )
    for one in escalations:
        at = one.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        outcome = "" if one.outcome is None else one.outcome.value
        walk = (one.policy or BUILTIN, one.position or one.level, outcome) if policies else ()
        writer.writerow((at, one.incident_key, one.episode, one.level, *walk))
    write_whole(path, text.getvalue())
