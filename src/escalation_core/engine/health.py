"""Health: the state of the engine and its store at one instant."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import attrs

from ..model import NoticeState, RecalcState, Stats, WalkStats, WorkerHeartbeat
from ..rules.gate import Gate, Mode
from ..rules.notices import LOST_NOTICE
from ..settings import Settings
from .policies_health import PoliciesHealth
from .targets_health import TargetHealth

MIN_INSTANT = datetime(1, 1, 2, tzinfo=UTC)
"""An instant before all entries. It is a day after the first possible datetime, so that every zone can show it."""
CLOCK_TOLERANCE = timedelta(seconds=2)
"""How far a heartbeat may lie ahead of the store's clock. If it lies further ahead, the clock has stepped back."""


@attrs.frozen
class Observed:
    """A store's counts at one instant, for metrics."""

    stats: Stats
    oldest_overdue: timedelta
    walks: WalkStats
    at: datetime
    targets: Mapping[str, TargetHealth]
    notices: Mapping[NoticeState, int] = attrs.field(factory=dict)
    """The unsettled notices, and those that were settled within a day, by their state."""


@attrs.frozen(kw_only=True)
class Health:
    """The engine's state, as health, the command line and probes report it. Instants are in UTC."""

    ok: bool
    """False if no worker has completed a tick for two tick intervals, unless the engine is disabled or paused. Also
    False while the last heartbeat lies ahead of the store's clock, while an open incident is unheard, and while an
    incident's level was put off twice because no tick came within its hours."""
    at: datetime
    mode: Mode
    paused_until: datetime | None
    paused_by: str | None
    """The operator that paused the engine, or ``schedule``."""
    pause_reason: str | None
    enabled: bool
    v1: bool
    dry_run: bool
    canary_pct: int
    tick_lag: timedelta
    """Time by the store's clock since the last completed tick of any worker."""
    clock_step: timedelta
    """How far the store's clock has stepped back behind the last heartbeat; zero if it has not stepped back."""
    tick_interval: timedelta
    oldest_overdue: timedelta
    behind: bool
    """Whether an incident has been due for longer than a tick interval, without a pause, switch or dry run."""
    workers: int
    stats: Stats
    unconfigured: Mapping[str, int]
    """Severities without their own window that this engine has escalated, with counts."""
    unserved: Sequence[str]
    """Targets that have waiting pages, but no notifier in this engine."""
    targets: Mapping[str, TargetHealth]
    """The targets that this engine serves, that have unsettled pages, or that failed within a day, by name."""
    notices: Mapping[NoticeState, int]
    """The notices that wait, and those that were settled within a day, by their state."""
    recalc: RecalcState
    policies: PoliciesHealth
    warnings: Sequence[str]
    version: str

    @property
    def fault(self) -> str | None:
        """Why ``ok`` is False; None if it is True."""
        if self.clock_step:
            return "the store's clock stepped back behind the last heartbeat, and no worker has ticked since"
        if self.mode not in (Mode.DISABLED, Mode.PAUSED) and self.tick_lag > 2 * self.tick_interval:
            return "no worker has completed a tick for two tick intervals"
        if self.stats.unheard:
            return _unheard(self.stats.unheard)
        if self.policies.stats.put_off:
            late = f"{self.policies.stats.put_off} levels came due within their hours twice, and no tick came in time"
            return f"{late}: tick more often, or write longer hours"
        return None

    def as_dict(self) -> dict[str, object]:
        """Return health for JSON, with names in camel case (ADR 0039), spans in milliseconds and instants as text."""
        stats = self.stats
        return {
            "ok": self.ok,
            "at": self.at.isoformat(),
            "mode": self.mode.value,
            "pausedUntil": None if self.paused_until is None else self.paused_until.isoformat(),
            "pausedBy": self.paused_by,
            "pauseReason": self.pause_reason,
            "enabled": self.enabled,
            "v1": self.v1,
            "dryRun": self.dry_run,
            "canaryPct": self.canary_pct,
            "canaryHeld": stats.outside_canary,
            "tickLagMs": _milliseconds(self.tick_lag),
            "tickMs": _milliseconds(self.tick_interval),
            "clockStepMs": _milliseconds(self.clock_step),
            "overdue": stats.overdue,
            "oldestOverdueMs": _milliseconds(self.oldest_overdue),
            "behind": self.behind,
            "marked": stats.marked,
            "exhausted": stats.exhausted,
            "backlog": dict(stats.backlog),
            "oldestPageMs": _milliseconds(self.at - (stats.oldest_page or self.at)),
            "unserved": list(self.unserved),
            "targets": {name: target.as_dict(self.at) for name, target in self.targets.items()},
            "notices": {state.value: self.notices.get(state, 0) for state in NoticeState},
            "dead": stats.dead,
            "unheard": stats.unheard,
            "unreadable": stats.unreadable,
            "unreadableExamples": [{"incident_key": key, "fault": fault} for key, fault in stats.unreadable_examples],
            "unseen": stats.unseen,
            "unconfigured": dict(self.unconfigured),
            "workers": self.workers,
            "recalc": {
                "running": self.recalc.requested_at is not None,
                "visited": self.recalc.visited,
                "finishedAt": None if self.recalc.finished_at is None else self.recalc.finished_at.isoformat(),
            },
            "policies": self.policies.as_dict(),
            "warnings": list(self.warnings),
            "version": self.version,
            "schemaVersion": stats.schema_version,
        }


def _unheard(count: int) -> str:
    told = (
        "1 open incident is unheard: no page of its"
        if count == 1
        else f"{count} open incidents are unheard: no page of their"
    )
    return f"{told} highest level was delivered, and none is tried again"


def _milliseconds(span: timedelta) -> int:
    return max(span, timedelta()) // timedelta(milliseconds=1)


def tick_lag(beat: WorkerHeartbeat, now: datetime) -> timedelta:
    """Return the time since any worker last completed a tick; before the first tick, since the store was made ready."""
    return max(now - (beat.last or beat.since), timedelta())


def clock_step(latest: datetime, now: datetime) -> timedelta:
    """Return how far the store's clock has stepped back behind a heartbeat; zero within ``CLOCK_TOLERANCE``."""
    ahead = latest - now
    return ahead if ahead > CLOCK_TOLERANCE else timedelta()


def is_healthy(settings: Settings, gate: Gate, beat: WorkerHeartbeat, now: datetime) -> bool:
    """Return True if a worker ticked within two tick intervals, or if the engine is disabled or paused.

    After the store's clock stepped back, return False until the next tick.
    """
    if clock_step(beat.last or beat.since, now):
        return False
    return gate.mode in (Mode.DISABLED, Mode.PAUSED) or tick_lag(beat, now) <= 2 * settings.tick_interval


def build_health(
    *,
    settings: Settings,
    gate: Gate,
    now: datetime,
    beat: WorkerHeartbeat,
    stats: Stats,
    recalc: RecalcState,
    served: Sequence[str],
    targets: Mapping[str, TargetHealth],
    notices: Mapping[NoticeState, int],
    unconfigured: Mapping[str, int],
    policies: PoliciesHealth,
    fingerprint: str,
    version: str,
) -> Health:
    """Return health from its parts, with the warnings that follow from them."""
    step = clock_step(beat.last or beat.since, now)
    oldest_overdue = now - stats.oldest_due if stats.oldest_due else timedelta()
    warnings = [*settings.warnings, *stats.faults, *policies.warnings()]
    if step:
        warnings.append(
            f"the store's clock stepped back by {step.total_seconds():.0f} s or more: the last heartbeat lies ahead of"
            " it; the next tick corrects what it can"
        )
    elif recalc.requested_at is not None and recalc.ahead is not None:
        warnings.append("the store's clock stepped back: workers are recalculating due instants")
    if stats.unheard:
        warnings.append(
            f"{_unheard(stats.unheard)}; see escalation list --unheard, repair the targets, and run escalation dead"
            " retry, or acknowledge"
        )
    if untold := {state: count for state in LOST_NOTICE if (count := notices.get(state, 0))}:
        lists = " and ".join(f"escalation notices --state {state}" for state in untold)
        warnings.append(f"{sum(untold.values())} notices of the last day were not told; see {lists}")
    if stats.unseen:
        warnings.append(
            f"{stats.unseen} open rows or more were written while the triggers were off; workers find and plan them"
        )
    if recalc.requested_at is None and recalc.fingerprint not in (None, fingerprint):
        warnings.append(
            "windows, snooze, tick, maximum level or policies changed since the last recalc: run escalation recalc"
        )
    return Health(
        ok=is_healthy(settings, gate, beat, now) and not (stats.unheard or policies.stats.put_off),
        at=now,
        mode=gate.mode,
        paused_until=gate.until,
        paused_by=None if gate.paused is None else gate.paused.by,
        pause_reason=None if gate.paused is None else gate.paused.reason,
        enabled=settings.worker_enabled,
        v1=settings.v1,
        dry_run=settings.dry_run,
        canary_pct=settings.canary_pct,
        tick_lag=tick_lag(beat, now),
        clock_step=step,
        tick_interval=settings.tick_interval,
        oldest_overdue=oldest_overdue,
        behind=gate.may_escalate and not settings.dry_run and oldest_overdue > settings.tick_interval,
        workers=beat.workers,
        stats=stats,
        unconfigured=unconfigured,
        unserved=[target for target in stats.backlog if target not in served],
        targets=targets,
        notices=notices,
        recalc=recalc,
        policies=policies,
        warnings=warnings,
        version=version,
    )
