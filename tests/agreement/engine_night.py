"""The engine on a MemoryStore, driven by the steps of the oracle's scripts."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import Engine, Incident, InvalidValue, Policies, Settings, TransitionRefused
from escalation_core.engine.versions import Versions, need_walks
from escalation_core.model import NEEDS_REPLAN, Pause, ShiftOverride
from escalation_core.rules.on_call import OnCall
from escalation_core.rules.shifts import Shift, Shifts
from escalation_core.testing.clock import ManualClock
from escalation_core.testing.memory import MemoryStore
from escalation_core.testing.notifier import RecordingNotifier
from tests.oracle.ladder import Settings as OracleSettings
from tests.oracle.oncall import Roster
from tests.oracle.oncall import Shifts as OracleShifts

KEY = "db-7/disk"
TARGETS = ("slack:ops", "slack:lead", "email:bob", "router")
COMPARED = (
    *("severity", "first_seen", "episode", "level", "last_escalated_at", "acknowledged_at", "acknowledged_by"),
    *("resolved_at", "snoozed_until", "next_due_at", "policy", "policy_pin", "policy_since"),
)


_LAST: list[tuple[Mapping[str, Any], Policies]] = []
"""The files that were read last; the same objects are read again and again in one night."""


def read(file: Mapping[str, Any]) -> Policies:
    """Return the policies of a file."""
    for known, policies in _LAST:
        if known is file:
            return policies
    _LAST.insert(0, (file, Policies.from_mapping(file)))
    del _LAST[4:]
    return _LAST[0][1]


class EngineNight:
    """The same verbs as the oracle's ``Night``, played by an engine."""

    def __init__(self, settings: OracleSettings, file: Mapping[str, Any] | None, roster: Roster | None = None) -> None:
        self.clock = ManualClock(datetime(2000, 1, 1, tzinfo=UTC))
        self.store = MemoryStore(self.clock)
        self.settings = Settings(
            critical_window=settings.windows.get("critical", settings.window),
            warning_window=settings.window,
            windows={name: window for name, window in settings.windows.items() if name != "critical"},
            max_level=settings.max_level,
            snooze=settings.snooze,
            tick_interval=settings.tick,
        )
        self.policies = None if file is None else read(file)
        self.inside = True
        self.recalc_wanted = False
        self.roster = Roster(default="router") if roster is None else roster
        self.engine = self._engine()

    async def play(self, script: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Play the steps, and return the row after each of them."""
        after = []
        for step in script:
            arguments = {key: value for key, value in step.items() if key not in {"do", "at"}}
            self.clock.set(step["at"])
            try:
                await getattr(self, step["do"])(**arguments)
                refused = False
            except (TransitionRefused, InvalidValue):
                refused = True
            after.append(self.snapshot() | {"refused": refused})
        return after

    def snapshot(self) -> dict[str, Any]:
        row = self.store.rows.get(KEY)
        if row is None:
            return {}
        return {name: row[name] for name in COMPARED} | {"policy_level": row["policy_level"] or 0}

    def escalations(self) -> list[tuple[Any, ...]]:
        return [
            (each.created_at, each.episode, each.level, each.policy or "builtin", each.position or each.level)
            for each in self.store.ledger.values()
        ]

    def outcomes(self) -> list[tuple[Any, ...]]:
        return [(each.episode, each.level, each.outcome) for each in self.store.ledger.values()]

    def pages(self) -> list[tuple[Any, ...]]:
        return [
            (each.created_at, each.episode, each.level, each.target, each.via) for each in self.store.pages.values()
        ]

    # --- steps

    async def open(self, **given: Any) -> None:
        await self.engine.open(KEY, **given)

    async def acknowledge(self, by: str = "ann") -> None:
        await self.engine.acknowledge(KEY, by=by)

    async def unacknowledge(self) -> None:
        await self.engine.unacknowledge(KEY)

    async def resolve(self) -> None:
        await self.engine.resolve(KEY)

    async def change_severity(self, severity: str) -> None:
        await self.engine.change_severity(KEY, severity)

    async def snooze(self, until: datetime | None) -> None:
        await self.engine.snooze(KEY, until)

    async def drain(self) -> None:
        await self.engine.drain(KEY)

    async def rebind(self, *, restart: bool = False) -> None:
        await self.engine.rebind(KEY, restart=restart)

    async def host_write(self, **columns: Any) -> None:
        if KEY in self.store.rows:
            await self.store.host.update(KEY, **columns)
        else:
            await self.store.host.insert(KEY, **columns)

    async def file(self, file: Mapping[str, Any] | None) -> None:
        self.policies = None if file is None else read(file)
        self.recalc_wanted = True
        self._renew()

    async def lose_texts(self) -> None:
        self.store.versions.clear()
        self.engine._versions._kept.clear()

    async def replace_roster(self, roster: Roster) -> None:
        self.roster = roster
        self._renew()

    async def override(self, schedule: str, person: str, begin: datetime, end: datetime) -> None:
        made = ShiftOverride(schedule=schedule, person=person, starts_at=begin, ends_at=end, made_at=self.clock())
        await self.store.transact(lambda tx: need_walks(tx).add_override(made))

    async def set_back(self, levels: int) -> None:
        row = self.store.rows.get(KEY)
        if row is None or row["resolved_at"] is not None or row["acknowledged_at"] is not None:
            raise InvalidValue("row", "is not open", "leave it")
        level = max(row["level"] - levels, row["policy_level"] or 0)
        await self.store.host.past_triggers(KEY, level=level, next_due_at=NEEDS_REPLAN)

    async def deliver(self) -> None:
        await self.engine.deliver()

    async def switch(self, **switches: bool) -> None:
        for name, value in switches.items():
            if name == "paused":
                self._pause(paused=value)
            elif name == "inside":
                self.inside = value
            else:
                changes: dict[str, Any] = {{"enabled": "worker_enabled"}.get(name, name): value}
                self.settings = attrs.evolve(self.settings, **changes)
        self._renew()

    async def tick(self) -> None:
        if self.recalc_wanted and not self.settings.dry_run:
            # A new engine, because its first tick always writes a heartbeat, which a recalculation waits for.
            self._renew()
            self.recalc_wanted = False
            await self.engine.request_recalc()
        await self.engine.tick(deliver=False)

    async def recalc(self) -> None:
        self.recalc_wanted = False
        await self.engine.recalc()

    # --- inside

    def _engine(self) -> Engine:
        settings = self.settings if self.inside else attrs.evolve(self.settings, canary_pct=0)
        engine = Engine(
            self.store,
            settings=attrs.evolve(settings, default_target=self.roster.default),
            notifiers=[RecordingNotifier(*(TARGETS if self.roster.served is None else self.roster.served))],
            router=self,
        )
        # Engine(policies=) also checks the file against the settings, which these files need not fit.
        engine._versions.policies = self.policies
        return engine

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        return self.roster.router

    def on_call(self, overrides: Sequence[ShiftOverride]) -> OnCall:
        """Return what the engine knows of the roster; it takes the place of ``Versions.on_call``."""
        schedules = {name: _schedule(found) for name, found in self.roster.schedules.items() if found is not None}
        return OnCall(schedules=schedules, people=self.roster.people, overrides=overrides)

    def _renew(self) -> None:
        self.engine = self._engine()

    def _pause(self, *, paused: bool) -> None:
        # Not the verbs: a clock that steps back behind the end of a pause would find it again.
        far = timedelta(days=20_000)
        self.store.pauses.clear()
        if paused:
            self.store.pauses[1] = Pause(starts_at=self.clock() - far, ends_at=self.clock() + far, actor="-")


def _schedule(found: OracleShifts) -> Shifts:
    spans = [Shift(person=person, start=begin, end=end) for begin, end, person in found.spans]
    return Shifts(shifts=spans, horizon=found.horizon or datetime.max.replace(tzinfo=UTC))


def play(
    settings: OracleSettings,
    file: Mapping[str, Any] | None,
    script: list[dict[str, Any]],
    roster: Roster | None = None,
) -> Any:
    night = EngineNight(settings, file, roster)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Versions, "on_call", lambda _, overrides, now: night.on_call(overrides))
        return asyncio.run(night.play(script)), night
