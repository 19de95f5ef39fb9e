"""Telemetry: the instruments and spans that the engine reports to OpenTelemetry.

Names and meanings: ``docs/reference/telemetry.md``. No attribute contains an incident key or a webhook's URL.
The module uses only the OpenTelemetry API: without an SDK in the process it reports nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import attrs
from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

from ..model import (
    SETTLED,
    Bundle,
    Notice,
    NoticeBundle,
    NoticeRecord,
    Outcome,
    Page,
    PageRecord,
    PageState,
    Rejected,
    Retry,
)
from ..rules.notices import UNSETTLED_NOTICE
from ..version import VERSION
from .gauges import Observable, find_gauges
from .report import TickReport

SCOPE = "escalation_core"


@attrs.define(slots=False)
class Telemetry:
    """The instruments of one engine. Providers default to the process's own."""

    meter_provider: MeterProvider | None = None
    tracer_provider: TracerProvider | None = None

    def __attrs_post_init__(self) -> None:
        """Create the instruments."""
        provider = self.meter_provider or metrics.get_meter_provider()
        meter = provider.get_meter(SCOPE, VERSION)
        self._gauges = find_gauges(provider, meter)
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
        self._notices = meter.create_counter(
            "escalation.notices", unit="{notice}", description="Notices settled, by kind and the state they ended in"
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

    def sending(
        self, channel: str, message: Page | Bundle | Notice | NoticeBundle
    ) -> AbstractContextManager[trace.Span]:
        """Trace one send. The code inside raises nothing."""
        attributes = {
            "escalation.channel": channel,
            "escalation.target": message.target,
            "escalation.attempt": message.attempt,
        }
        if isinstance(message, Bundle):
            attributes["escalation.bundle.pages"] = len(message.pages)
        elif isinstance(message, NoticeBundle):
            attributes["escalation.bundle.notices"] = len(message.notices)
        else:
            attributes["escalation.level"] = message.level
        return self._current("escalation.send", attributes | notice_attribute(message))

    def sent(
        self,
        span: trace.Span,
        channel: str,
        outcome: Outcome,
        seconds: float,
        message: Page | Bundle | Notice | NoticeBundle,
    ) -> None:
        """Record the outcome and the duration of a send."""
        attributes = {"escalation.channel": channel, "escalation.outcome": outcome_name(outcome)}
        attributes |= notice_attribute(message)
        span.set_attributes(attributes)
        self._deliveries.add(1, attributes)
        self._sends.record(seconds, attributes)

    def settled(self, page: PageRecord) -> None:
        """Count a page that is settled."""
        if page.state in SETTLED:
            self._pages.add(1, {"escalation.state": page.state.value})

    def told(self, notice: NoticeRecord) -> None:
        """Count a notice that is settled."""
        if notice.state not in UNSETTLED_NOTICE:
            self._notices.add(1, {"escalation.notice": notice.kind.value, "escalation.state": notice.state.value})

    def _current(self, name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[trace.Span]:
        span = self._tracer.start_span(name, attributes=attributes)
        if not span.get_span_context().is_valid:
            # No SDK traces. Making this the current span would add a tenth to the cost of a page.
            return nullcontext(span)
        return trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def notice_attribute(message: Page | Bundle | Notice | NoticeBundle) -> dict[str, str]:
    """Return the attribute of messages that tell notices: their kind."""
    if isinstance(message, NoticeBundle):
        return {"escalation.notice": "several"}
    return {"escalation.notice": message.kind.value} if isinstance(message, Notice) else {}


def outcome_name(outcome: Outcome) -> str:
    """Return an outcome's name for metrics and logs."""
    if isinstance(outcome, Retry):
        return "throttled" if outcome.throttled else "retry"
    return "rejected" if isinstance(outcome, Rejected) else "delivered"
