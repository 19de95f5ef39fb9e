"""Telemetry: the instruments and spans that the engine reports to OpenTelemetry.

Names and meanings: ``docs/reference/telemetry.md``. No attribute contains an incident key or a webhook's URL.
The module uses only the OpenTelemetry API: without an SDK in the process it reports nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import attrs
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import Tracer, TracerProvider

from ..model import SETTLED, Bundle, Outcome, Page, PageRecord, PageState, Rejected, Retry
from ..version import VERSION
from .health import Observed
from .report import TickReport
from .schedules import ScheduleLoader

SCOPE = "escalation_core"


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


class _Gauges:
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

    def _most(self, read: Callable[[Observed], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            # Engines of one store count the same rows, so the greatest count is right and a sum would be too high.
            seen = self._seen()
            return [Observation(max(map(read, seen)))] if seen else []

        return observe

    def _seen(self) -> list[Observed]:
        return [seen for engine in list(self.engines) if (seen := engine.observed_stats()) is not None]


_gauges: WeakKeyDictionary[object, _Gauges] = WeakKeyDictionary()


def _find_gauges(provider: MeterProvider, meter: Meter) -> _Gauges:
    key: object = provider
    if provider not in _gauges and provider is metrics.get_meter_provider():
        # The process's provider is a proxy until the host sets the real one, which then takes over the proxy's gauges.
        # Both get one key, the API's module, so that engines made before and after share the gauges.
        key = metrics
    if key not in _gauges:
        _gauges[key] = _Gauges(meter)
    return _gauges[key]


@attrs.define(slots=False)
class Telemetry:
    """The instruments of one engine. Providers default to the process's own."""

    meter_provider: MeterProvider | None = None
    tracer_provider: TracerProvider | None = None

    def __attrs_post_init__(self) -> None:
        """Create the instruments."""
        provider = self.meter_provider or metrics.get_meter_provider()
        meter = provider.get_meter(SCOPE, VERSION)
        self._gauges = _find_gauges(provider, meter)
        self._tracer: Tracer = trace.get_tracer(SCOPE, VERSION, self.tracer_provider)
        self._ticks = meter.create_histogram("escalation.tick.duration", unit="s", description="Time a tick took")
        self._behind = meter.create_counter(
            "escalation.tick.behind", unit="{tick}", description="Ticks that ended with more to claim"
        )
        self._escalations = meter.create_counter(
            "escalation.escalations", unit="{escalation}", description="Escalations recorded"
        )
        self._skips = meter.create_counter(
            "escalation.skips", unit="{incident}", description="Claimed incidents that did not escalate, by reason"
        )
        self._lateness = meter.create_histogram(
            "escalation.lateness", unit="s", description="Greatest lateness in a tick: fired minus due"
        )
        self._deliveries = meter.create_counter(
            "escalation.deliveries", unit="{attempt}", description="Attempts to send a page, by channel and outcome"
        )
        self._sends = meter.create_histogram("escalation.delivery.duration", unit="s", description="Time a send took")
        self._pages = meter.create_counter(
            "escalation.pages", unit="{page}", description="Pages settled, by the state they ended in"
        )
        self._unconfigured = meter.create_counter(
            "escalation.severity.unconfigured",
            unit="{escalation}",
            description="Escalations of severities without a window of their own",
        )
        self._labels_left_out = meter.create_counter(
            "escalation.labels.left_out",
            unit="{escalation}",
            description="Escalations of incidents whose labels are too long, routed as if they had none",
        )

        self._walks = meter.create_counter(
            "escalation.policy.events",
            unit="{event}",
            description="What happened to walks through policies besides escalations, by the audit's name",
        )
        self._in_place = meter.create_counter(
            "escalation.target.replaced",
            unit="{page}",
            description="Pages to another target, because what the policy names cannot be paged or names no one",
        )

    def observe(self, engine: Observable) -> None:
        """Let the gauges read this engine, as long as the engine exists."""
        self._gauges.engines.add(engine)

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[trace.Span]:
        """Trace the code inside the ``with`` block."""
        with self._current(name, attributes) as span:
            try:
                yield span
            except Exception as error:
                # Only the error's class: its text may contain an incident key.
                span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
                raise

    def ticked(self, report: TickReport) -> None:
        """Record a tick's duration and counts. Of a dry run record only the duration, because it changed nothing."""
        self._ticks.record(report.duration.total_seconds(), {"escalation.mode": report.mode.value})
        if report.dry_run:
            return
        self._behind.add(int(report.behind))
        self._escalations.add(report.escalated)
        for reason, count in (report.skipped + report.rescheduled).items():
            self._skips.add(count, {"escalation.reason": reason})
        if report.latest is not None:
            self._lateness.record(report.latest.total_seconds())
        if report.dead_pages:
            self._pages.add(report.dead_pages, {"escalation.state": PageState.DEAD.value})
        if report.unconfigured:
            self._unconfigured.add(report.unconfigured.total())
        self.count_events(report.happened)
        self._in_place.add(report.in_place)
        if report.labels_left_out:
            self._labels_left_out.add(report.labels_left_out)

    def count_events(self, events: Mapping[str, int]) -> None:
        """Count what plannings and verbs did besides escalations, under the audit's names."""
        for event, count in events.items():
            self._walks.add(count, {"escalation.event": event})

    def sending(self, channel: str, message: Page | Bundle) -> AbstractContextManager[trace.Span]:
        """Trace one send. The code inside raises nothing."""
        named = {"escalation.channel": channel}
        if isinstance(message, Bundle):
            return self._current("escalation.send", named | {"escalation.bundle.pages": len(message.pages)})
        return self._current("escalation.send", named | {"escalation.level": message.level})

    def sent(self, span: trace.Span, channel: str, outcome: Outcome, seconds: float) -> None:
        """Record the outcome and the duration of a send."""
        attributes = {"escalation.channel": channel, "escalation.outcome": outcome_name(outcome)}
        span.set_attributes(attributes)
        self._deliveries.add(1, attributes)
        self._sends.record(seconds, attributes)

    def settled(self, page: PageRecord) -> None:
        """Count a page that is settled."""
        if page.state in SETTLED:
            self._pages.add(1, {"escalation.state": page.state.value})

    def _current(self, name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[trace.Span]:
        span = self._tracer.start_span(name, attributes=attributes)
        if not span.get_span_context().is_valid:
            # No SDK traces. Making this the current span would add a tenth to the cost of a page.
            return nullcontext(span)
        return trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def outcome_name(outcome: Outcome) -> str:
    """Return an outcome's name for metrics and logs."""
    if isinstance(outcome, Retry):
        return "throttled" if outcome.throttled else "retry"
    return "rejected" if isinstance(outcome, Rejected) else "delivered"
