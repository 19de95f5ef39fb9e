"""The gauges: what the engine's metrics show at the instant at which a reader asks for them."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from ..rules.notices import UNSETTLED_NOTICE
from .health import Observed
from .schedules import ScheduleLoader
from .targets_health import TargetHealth

ReadTarget = Callable[[TargetHealth, datetime], float | None]
"""Returns a value of a target at the instant of the counts; None if the target has none."""


def _unix(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


TARGET_GAUGES: tuple[tuple[str, str, str, ReadTarget], ...] = (
    (
        "escalation.target.oldest_page",
        "s",
        "How long the oldest unsettled page has waited",
        lambda target, at: None if target.oldest_page is None else max((at - target.oldest_page).total_seconds(), 0.0),
    ),
    (
        "escalation.target.rate",
        "{message}/s",
        "Messages a second that the budget in force allows",
        lambda target, _: None if target.budget is None else target.budget.rate,
    ),
    (
        "escalation.target.burst",
        "{message}",
        "Messages that the budget in force allows at once",
        lambda target, _: None if target.budget is None else target.budget.burst,
    ),
    (
        "escalation.target.throttled_until",
        "s",
        "Unix time until which the receiver asked for no messages",
        lambda target, _: _unix(target.throttled_until),
    ),
    (
        "escalation.target.last_delivered",
        "s",
        "Unix time at which the receiver last accepted a page",
        lambda target, _: _unix(target.last_delivered_at),
    ),
    (
        "escalation.target.last_failed",
        "s",
        "Unix time at which an attempt to send a page last failed",
        lambda target, _: _unix(target.last_failed_at),
    ),
)
"""The gauges of targets: name, unit, description, and what reads the value. The target is their attribute."""


class Observable(Protocol):
    """The part of an engine that the gauges read. The metric reader calls it from its own thread, so it only reads."""

    def observed_lag(self) -> float | None:
        """Return the seconds since this engine last completed a tick; None before the first."""

    def observed_stats(self) -> Observed | None:
        """Return the last counts of the store; None before the first count, and if the last one is too old."""

    @property
    def policies_fault(self) -> str | None:
        """Why the last policies file could not be loaded; None if it could."""

    @property
    def schedule_loader(self) -> ScheduleLoader:
        """What loads the schedules of the sources."""


class Gauges:
    """The observable gauges of one meter. All engines share them, because SDKs drop a second gauge of the same name."""

    def __init__(self, meter: Meter) -> None:
        self.engines: WeakSet[Observable] = WeakSet()
        meter.create_observable_gauge(
            "escalation.tick.lag", [self._lag], unit="s", description="Time since an engine last completed a tick"
        )
        meter.create_observable_gauge(
            "escalation.page.backlog", [self._backlog], unit="{page}", description="Unsettled pages"
        )
        meter.create_observable_gauge(
            "escalation.page.dead", [self._most(lambda seen: seen.stats.dead)], unit="{page}", description="Dead pages"
        )
        meter.create_observable_gauge(
            "escalation.incident.overdue",
            [self._most(lambda seen: seen.stats.overdue)],
            unit="{incident}",
            description="Incidents that are due and did not escalate yet",
        )
        meter.create_observable_gauge(
            "escalation.incident.oldest_overdue",
            [self._most(lambda seen: seen.oldest_overdue.total_seconds())],
            unit="s",
            description="How long the oldest of them has been due",
        )
        meter.create_observable_gauge(
            "escalation.incident.exhausted",
            [self._most(lambda seen: seen.stats.exhausted)],
            unit="{incident}",
            description="Open incidents whose walk through their policy is over",
        )
        meter.create_observable_gauge(
            "escalation.incident.unheard",
            [self._most(lambda seen: seen.stats.unheard)],
            unit="{incident}",
            description="Open incidents of which no page was delivered, and none is tried again",
        )
        meter.create_observable_gauge(
            "escalation.notice.backlog",
            [self._most(lambda seen: sum(seen.notices.get(state, 0) for state in UNSETTLED_NOTICE))],
            unit="{notice}",
            description="Unsettled notices",
        )
        for name, unit, description, read in TARGET_GAUGES:
            meter.create_observable_gauge(name, [self._of_targets(read)], unit=unit, description=description)
        meter.create_observable_gauge(
            "escalation.policy.load_failed",
            [self._load_failed],
            unit="{engine}",
            description="Engines of this process that could not load their policies file",
        )
        meter.create_observable_gauge(
            "escalation.policy.unknown",
            [self._most(lambda seen: sum(seen.walks.unknown_policies.values()))],
            unit="{incident}",
            description="Incidents that name a policy which an engine did not know",
        )
        meter.create_observable_gauge(
            "escalation.policy.put_off",
            [self._most(lambda seen: seen.walks.put_off)],
            unit="{incident}",
            description="Incidents whose level was put off twice, because no tick came within its hours",
        )
        meter.create_observable_gauge(
            "escalation.policy.lost",
            [self._most(lambda seen: seen.walks.lately.get("lost_version", 0))],
            unit="{incident}",
            description="Incidents of the last day whose version of a policy the store had lost",
        )
        meter.create_observable_gauge(
            "escalation.policy.files",
            [self._most(lambda seen: len(seen.walks.worker_digests))],
            unit="{file}",
            description="Different policies files that the workers run",
        )

        meter.create_observable_gauge(
            "escalation.policy.nobody_on_call",
            [self._most(lambda seen: seen.walks.nobody_on_call)],
            unit="{escalation}",
            description="Escalations of the last day whose levels named no one",
        )
        meter.create_observable_gauge(
            "escalation.schedule.load_failed",
            [self._schedules_failed],
            unit="{source}",
            description="Sources of schedules that engines of this process could not load",
        )

    def _lag(self, _: CallbackOptions) -> Iterable[Observation]:
        lags = [lag for engine in list(self.engines) if (lag := engine.observed_lag()) is not None]
        return [Observation(max(lags))] if lags else []

    def _load_failed(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(sum(engine.policies_fault is not None for engine in list(self.engines)))]

    def _schedules_failed(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(sum(len(engine.schedule_loader.faults) for engine in list(self.engines)))]

    def _backlog(self, _: CallbackOptions) -> Iterable[Observation]:
        backlog: dict[str, int] = {}
        for seen in self._seen():
            for target, count in seen.stats.backlog.items():
                backlog[target] = max(count, backlog.get(target, 0))
        return [Observation(count, {"escalation.target": target}) for target, count in backlog.items()]

    def _of_targets(self, read: ReadTarget) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            # Engines of one store see the same targets. The one that counted last knows best.
            found: dict[str, float | None] = {}
            for seen in sorted(self._seen(), key=lambda seen: seen.at):
                found |= {name: read(target, seen.at) for name, target in seen.targets.items()}
            return [
                Observation(value, {"escalation.target": name}) for name, value in found.items() if value is not None
            ]

        return observe

    def _most(self, read: Callable[[Observed], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            # Engines of one store count the same rows, so the greatest count is right and a sum would be too high.
            seen = self._seen()
            return [Observation(max(map(read, seen)))] if seen else []

        return observe

    def _seen(self) -> list[Observed]:
        return [seen for engine in list(self.engines) if (seen := engine.observed_stats()) is not None]


_gauges: WeakKeyDictionary[object, Gauges] = WeakKeyDictionary()


def find_gauges(provider: MeterProvider, meter: Meter) -> Gauges:
    """Return the gauges of a provider. They are made once."""
    key: object = provider
    if provider not in _gauges and provider is metrics.get_meter_provider():
        # The process's provider is a proxy until the host sets the real one, which then takes over the proxy's gauges.
        # Both get one key, the API's module, so that engines made before and after share the gauges.
        key = metrics
    if key not in _gauges:
        _gauges[key] = Gauges(meter)
    return _gauges[key]
