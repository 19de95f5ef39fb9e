"""OpenTelemetry gets counters, histograms, gauges and spans, and never an incident's key or a URL."""

import asyncio
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Iterator
from datetime import timedelta

import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from escalation_core import Budget, Delivered, Engine, Outcome, Page, Rejected, Retry, Settings, SettingsRouter
from escalation_core.engine.telemetry import outcome_name
from escalation_core.model import Escalation, LevelOutcome, NextDue, PageState
from escalation_core.ports import Notifier
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import MINUTE, START, Named, incident, put
from ..walking import policies

KEY = "a-key-that-must-not-leave"
URL = "https://hooks.example.org/a-secret-that-must-not-leave"
Points = dict[tuple[tuple[str, object], ...], float]


@attrs.frozen
class Seen:
    """The telemetry of a process, in memory."""

    meters: MeterProvider
    reader: InMemoryMetricReader
    tracers: TracerProvider
    exporter: InMemorySpanExporter

    def engine(self, store: MemoryStore, *notifiers: Notifier, settings: Settings | None = None) -> Engine:
        given = notifiers or (RecordingNotifier("slack:ops"),)
        return Engine(
            store,
            settings=settings,
            notifiers=given,
            router=SettingsRouter((), next(iter(given[0].targets))),
            meter_provider=self.meters,
            tracer_provider=self.tracers,
        )

    def points(self) -> dict[str, Points]:
        """Return each instrument's points: a counter's and gauge's value, a histogram's count, by attributes."""
        data = self.reader.get_metrics_data()
        found: dict[str, Points] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value = getattr(point, "value", None)
                        number = getattr(point, "count", 0) if value is None else value
                        attributes = tuple(sorted((point.attributes or {}).items()))
                        found.setdefault(metric.name, {})[attributes] = number
        return found

    def units(self) -> dict[str, str | None]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: metric.unit
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def seen() -> Iterator[Seen]:
    reader, exporter, tracers = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    yield Seen(meters, reader, tracers, exporter)
    meters.shutdown()
    tracers.shutdown()


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


# --- ticks


async def test_escalations(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """A tick counts its escalations, and measures the latest one's lateness and its own duration."""
    engine = seen.engine(store)
    await put(store, *(incident(f"{KEY}-{n}", next_due_at=START + 5 * MINUTE) for n in range(3)))
    clock.advance(timedelta(minutes=5, seconds=2))
    await engine.tick(deliver=False)
    points = seen.points()
    assert {(): 3} == points["escalation.escalations"]
    assert {(("escalation.mode", "open"),): 1} == points["escalation.tick.duration"]
    assert {(): 1} == points["escalation.lateness"]
    assert "escalation.severity.unconfigured" not in points
    await engine.tick()
    assert {(("escalation.mode", "open"),): 2} == seen.points()["escalation.tick.duration"]
    assert {(): 3} == seen.points()["escalation.escalations"]


async def test_reasons(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """The engine counts each claimed row that did not escalate by its reason."""
    engine = seen.engine(store, settings=Settings(max_level=2))
    now = START + 10 * MINUTE
    clock.set(now)
    await store.host.insert("early", severity="critical", first_seen=now)
    await store.host.insert("poison", severity="critical", first_seen=now, level=None)
    await store.host.insert("top", severity="critical", first_seen=START, level=2)
    await put(
        store,
        incident("acknowledged", acknowledged_at=START, next_due_at=START),
        incident("resolved", resolved_at=START, next_due_at=START),
        incident("again", next_due_at=START),
    )
    await engine.tick(deliver=False)
    # As if the write of the level had been lost: the ledger holds the escalation.
    await put(store, incident("again", next_due_at=START))
    await engine.tick(deliver=False)
    reasons = {dict(key)["escalation.reason"]: count for key, count in seen.points()["escalation.skips"].items()}
    assert {
        "not_due": 1,
        "unreadable": 1,
        "exhausted": 1,
        "acknowledged": 1,
        "resolved": 1,
        "already_recorded": 1,
    } == reasons


async def test_unconfigured(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """Escalations of severities without a window are counted without the severity, since hosts may invent many."""
    engine = seen.engine(store)
    await put(
        store, incident("k", severity="purple", next_due_at=START), incident("l", severity=None, next_due_at=START)
    )
    clock.advance(20 * MINUTE)
    await engine.tick(deliver=False)
    assert {(): 2} == seen.points()["escalation.severity.unconfigured"]


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("disabled", Settings(worker_enabled=False)),
        ("v1_off", Settings(v1=False)),
        ("paused", Settings(pause_cron="0 0 * * *", pause_length=timedelta(hours=1))),
    ],
)
async def test_modes(seen: Seen, store: MemoryStore, mode: str, settings: Settings) -> None:
    """The duration of a tick that is held back carries the mode that holds it."""
    await seen.engine(store, settings=settings).tick()
    assert {(("escalation.mode", mode),): 1} == seen.points()["escalation.tick.duration"]
    assert {(): 0} == seen.points()["escalation.escalations"]


async def test_dry_run_counts_nothing(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """A dry run leaves a span with ``escalation.dry_run``, and counts no escalation or page."""
    engine = seen.engine(store)
    await put(store, incident(KEY, next_due_at=START), incident("odd", severity="purple", next_due_at=START))
    clock.advance(20 * MINUTE)
    report = await engine.tick(dry_run=True)
    assert 2 == report.escalated
    counters = {"escalation.escalations", "escalation.lateness", "escalation.pages", "escalation.severity.unconfigured"}
    assert set() == counters & set(seen.points())
    [span] = seen.spans("escalation.tick")
    assert {"escalation.dry_run": True, "escalation.escalated": 2} == attributes(span)
    assert [] == seen.spans("escalation.deliver")


# --- pages


ANSWERS: dict[str, tuple[Outcome, str | None]] = {
    "delivered": (Delivered(), "delivered"),
    "retry": (Retry("busy"), None),
    "throttled": (Retry("too many", throttled=True), None),
    "rejected": (Rejected("gone"), "dead"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_outcomes(seen: Seen, store: MemoryStore, clock: ManualClock, name: str) -> None:
    """The engine counts and times each attempt by channel and outcome, and counts a page by its final state."""
    answer, state = ANSWERS[name]
    assert name == outcome_name(answer)
    engine = seen.engine(store, RecordingNotifier("slack:ops", answer=lambda page: answer))
    await put(store, incident(KEY, next_due_at=START))
    clock.advance(5 * MINUTE)
    await engine.tick()
    points = seen.points()
    labels = (("escalation.channel", "recording"), ("escalation.outcome", name))
    assert {labels: 1} == points["escalation.deliveries"]
    assert {labels: 1} == points["escalation.delivery.duration"]
    assert ({} if state is None else {(("escalation.state", state),): 1}) == points.get("escalation.pages", {})
    [span] = seen.spans("escalation.send")
    assert {
        "escalation.channel": "recording",
        "escalation.target": "slack:ops",
        "escalation.level": 1,
        "escalation.attempt": 1,
        "escalation.outcome": name,
    } == attributes(span)


async def test_born_dead(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """A page without a target counts as dead and not as an attempt."""
    engine = Engine(store, meter_provider=seen.meters, tracer_provider=seen.tracers)
    await put(store, incident(KEY, next_due_at=START))
    clock.advance(5 * MINUTE)
    await engine.tick()
    assert {(("escalation.state", "dead"),): 1} == seen.points()["escalation.pages"]
    assert "escalation.deliveries" not in seen.points()


async def test_cancelled(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """A page whose incident ended during a failed attempt counts as cancelled."""

    class Acknowledging(RecordingNotifier):
        async def send(self, page: Page) -> Outcome:
            await engine.acknowledge(page.incident.incident_key)
            return Retry("busy")

    engine = seen.engine(store, Acknowledging("slack:ops"))
    await put(store, incident(KEY, next_due_at=START))
    clock.advance(5 * MINUTE)
    await engine.tick()
    assert [PageState.CANCELLED] == [page.state for page in store.pages.values()]
    assert {(("escalation.state", "cancelled"),): 1} == seen.points()["escalation.pages"]


# --- gauges


async def test_lag(seen: Seen, store: MemoryStore) -> None:
    """The lag exists from the first tick on, grows, and falls with the next tick."""
    engine = seen.engine(store)
    assert "escalation.tick.lag" not in seen.points()
    await engine.tick()
    [first] = seen.points()["escalation.tick.lag"].values()
    await asyncio.sleep(0.05)
    [second] = seen.points()["escalation.tick.lag"].values()
    await engine.tick()
    [third] = seen.points()["escalation.tick.lag"].values()
    assert 0 <= first < second
    assert second >= 0.05
    assert third < second


async def test_backlog(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """The backlog of each target is the count of the last heartbeat or health."""
    engine = seen.engine(store, RecordingNotifier("slack:ops", "phone", answer=lambda page: Retry("busy")))
    await put(store, incident("k", next_due_at=START), incident("l", next_due_at=START))
    clock.advance(5 * MINUTE)
    await engine.tick()
    await engine.health()
    assert {(("escalation.target", "slack:ops"),): 2} == seen.points()["escalation.page.backlog"]


async def test_counts(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """The gauges of overdue, exhausted and dead show the counts of the last heartbeat or health."""
    engine = seen.engine(store, settings=Settings(max_level=1))
    dead = seen.engine(store, RecordingNotifier("slack:ops", answer=lambda page: Rejected("no")))
    late = incident("late", first_seen=START + 3 * MINUTE, next_due_at=START + 8 * MINUTE)
    await put(store, incident("top", next_due_at=START + 5 * MINUTE), late)
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    await dead.deliver()
    clock.advance(5 * MINUTE)
    await engine.health()
    points = seen.points()
    names = ("incident.overdue", "incident.oldest_overdue", "incident.exhausted", "page.dead")
    assert [[1], [120.0], [1], [1]] == [list(points[f"escalation.{name}"].values()) for name in names]


async def test_faults_of_policies(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """The gauges of policies show a file that could not be loaded, unknown names, lost versions, and several files."""
    engine = seen.engine(store)
    engine.use_policies(policies(ops={"levels": [{"after": "0m"}]}))
    await put(
        store,
        incident("named", policy="gone", next_due_at=START),
        incident("lost", policy_pin="ops@lost@critical", next_due_at=START),
    )
    await engine.tick()
    other = Engine(store, worker="other", policies=policies(ops={"levels": [{"after": "1m"}]}))
    await other.tick()
    await engine.health()
    names = ("load_failed", "unknown", "lost", "put_off", "files")
    points = seen.points()
    assert [[0], [1], [1], [0], [2]] == [list(points[f"escalation.policy.{name}"].values()) for name in names]
    engine.refuse_policies("it is empty")
    assert [1] == list(seen.points()["escalation.policy.load_failed"].values())
    engine.use_policies(policies(ops={"levels": [{"after": "0m"}]}))
    assert [0] == list(seen.points()["escalation.policy.load_failed"].values())


async def test_faults_of_schedules(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """The gauges show escalations for which no one was on call, and sources of schedules that cannot be loaded."""
    engine = seen.engine(store)
    default = Escalation(incident_key="k", episode=1, level=1, created_at=START, outcome=LevelOutcome.DEFAULT)
    await store.transact(lambda tx: tx.ledger.record([default]))
    engine.use_policies(policies(ops={"levels": [{"after": "0m"}]}))
    engine.schedule_loader.faults[0] = "Calendar: it raised OSError"
    await engine.health()
    points = seen.points()
    names = ("policy.nobody_on_call", "schedule.load_failed")
    assert [[1], [1]] == [list(points[f"escalation.{name}"].values()) for name in names]


async def test_engines_share_gauges(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    """Several engines of a process share the gauges: the longest lag and the greatest count of one backlog win."""
    caplog.set_level(logging.WARNING)
    clock = ManualClock(START)
    shared = MemoryStore(clock)
    first, second = (seen.engine(shared, RecordingNotifier("slack:ops")) for _ in range(2))
    other = seen.engine(MemoryStore(clock), RecordingNotifier("phone", answer=lambda page: Retry("busy")))
    await put(shared, incident("k", next_due_at=START), incident("l", next_due_at=START))
    await other.open("m", first_seen=START - 60 * MINUTE)
    clock.advance(5 * MINUTE)
    await first.tick(deliver=False)
    await other.tick()
    await asyncio.sleep(0.05)
    await second.tick(deliver=False)
    for engine in (first, second, other):
        await engine.health()
    points = seen.points()
    assert {(("escalation.target", "slack:ops"),): 2, (("escalation.target", "phone"),): 1} == points[
        "escalation.page.backlog"
    ]
    [lag] = points["escalation.tick.lag"].values()
    assert lag >= 0.05
    assert [] == [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def test_an_engine_that_is_gone(seen: Seen, store: MemoryStore) -> None:
    """The gauges keep no engine alive, and report nothing for an engine that was deleted."""
    engine = seen.engine(store)
    await engine.tick()
    assert "escalation.tick.lag" in seen.points()
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    assert "escalation.tick.lag" not in seen.points()


def test_engines_before_and_after_the_sdk() -> None:
    """Engines made before and after the process's provider was set share the gauges as well."""
    code = """
import asyncio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from escalation_core import Engine
from escalation_core.model import NextDue
from escalation_core.testing import MemoryStore, RecordingNotifier

async def main():
    early = Engine(MemoryStore(), notifiers=[RecordingNotifier()])
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    late = Engine(MemoryStore(), notifiers=[RecordingNotifier()])
    explicit = Engine(MemoryStore(), meter_provider=metrics.get_meter_provider(), notifiers=[RecordingNotifier()])
    for engines in ((late, early, explicit), (explicit, late, early), (early, explicit, late)):
        for engine in engines:
            await engine.tick()
            await asyncio.sleep(0.05)
        [lag] = [
            point.value
            for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
            for metric in scope.metrics if metric.name == "escalation.tick.lag"
            for point in metric.data.data_points
        ]
        assert lag >= 0.14, lag  # the first that ticked, whichever it was

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


async def test_targets_and_unheard_incidents(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """Each value of a target has the target as its only attribute. A value that the target lacks is left out."""
    answers: dict[str, Outcome] = {
        "slow": Retry("429", after=10 * MINUTE, throttled=True),
        "gone": Rejected("404"),
        "ops": Delivered(),
    }
    notifier = RecordingNotifier(*answers, answer=lambda page: answers[page.target])
    settings = Settings(budgets={"ops": Budget(rate=2, burst=3)})
    engine = Engine(store, settings=settings, notifiers=[notifier], router=Named(*answers), meter_provider=seen.meters)
    await put(store, incident(KEY, next_due_at=START))
    clock.advance(5 * MINUTE)
    began = clock().timestamp()
    await engine.tick()
    clock.advance(MINUTE)
    await engine.health()
    points = seen.points()
    ops, slow, gone = [(("escalation.target", name),) for name in ("ops", "slow", "gone")]
    assert {slow: 60} == points["escalation.target.oldest_page"]
    assert {ops: 2, slow: 1} == points["escalation.target.rate"]
    assert {ops: 3, slow: 1} == points["escalation.target.burst"]
    assert {slow: began + 600} == points["escalation.target.throttled_until"]
    assert {ops: began} == points["escalation.target.last_delivered"]
    assert {slow: began, gone: began} == points["escalation.target.last_failed"]
    assert {(): 0} == points["escalation.incident.unheard"]
    clock.advance(10 * MINUTE)
    later = Engine(store, settings=settings, notifiers=[notifier], router=Named("gone"), meter_provider=seen.meters)
    await put(store, incident("other", next_due_at=START))
    await later.tick()
    await later.health()
    points = seen.points()
    assert {(): 1} == points["escalation.incident.unheard"]
    assert clock().timestamp() == points["escalation.target.last_failed"][gone]  # the engine that counted last knows


# --- spans


async def test_spans(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """One tick leaves a span, its delivery pass another, and each send one within the span of the pass."""
    engine = seen.engine(store)
    await put(store, incident("k", next_due_at=START), incident("l", next_due_at=START))
    clock.advance(5 * MINUTE)
    await engine.tick()
    [tick] = seen.spans("escalation.tick")
    [delivery] = seen.spans("escalation.deliver")
    sends = seen.spans("escalation.send")
    assert {"escalation.dry_run": False, "escalation.escalated": 2} == attributes(tick)
    assert {} == attributes(delivery)
    assert 2 == len(sends)
    within = delivery.get_span_context()
    assert within is not None
    assert {within.span_id} == {send.parent.span_id for send in sends if send.parent is not None}
    assert {StatusCode.UNSET} == {span.status.status_code for span in (tick, delivery, *sends)}


async def test_span_of_a_failure(seen: Seen, store: MemoryStore) -> None:
    """The span of a failed tick shows the error's type, and no word of its text."""

    class Failing(MemoryStore):
        async def next_due(self, **_: object) -> NextDue:
            raise RuntimeError(f"{KEY} {URL}")

    with pytest.raises(RuntimeError):
        await seen.engine(Failing()).tick()
    [span] = seen.spans("escalation.tick")
    assert (StatusCode.ERROR, "RuntimeError") == (span.status.status_code, span.status.description)
    assert () == tuple(span.events)


async def test_nothing_secret(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """No attribute, span or event ever holds an incident's key, its text, or a URL."""

    def answer(page: Page) -> Outcome:
        if page.attempt == 1:
            raise RuntimeError(f"{page.incident.incident_key} {URL}")
        return Rejected(f"said {URL}")

    engine = seen.engine(store, RecordingNotifier("slack:ops", answer=answer))
    await engine.open(KEY, severity="critical", summary=KEY, labels={KEY: KEY}, by=KEY)
    await store.host.insert(f"{KEY}-poison", severity="critical", level=None)
    for _ in range(4):
        clock.advance(5 * MINUTE)
        await engine.tick()
    await engine.acknowledge(KEY, by=KEY)
    await engine.health()
    told = repr(seen.points()) + "".join(span.to_json() for span in seen.exporter.get_finished_spans())
    assert "escalation.send" in told
    assert KEY not in told
    assert URL not in told


async def test_names_and_units(seen: Seen, store: MemoryStore, clock: ManualClock) -> None:
    """Instruments follow the convention for names and units: seconds, UCUM, no suffix."""
    engine = seen.engine(store, RecordingNotifier("slack:ops", answer=lambda page: Retry("busy")))
    await put(
        store,
        incident("k", severity="purple", next_due_at=START),
        incident("l", acknowledged_at=START, next_due_at=START),
    )
    clock.advance(20 * MINUTE)
    await engine.tick()
    await engine.health()
    assert {
        "escalation.tick.duration": "s",
        "escalation.tick.behind": "{tick}",
        "escalation.escalations": "{escalation}",
        "escalation.skips": "{incident}",
        "escalation.lateness": "s",
        "escalation.severity.unconfigured": "{escalation}",
        "escalation.deliveries": "{attempt}",
        "escalation.delivery.duration": "s",
        "escalation.tick.lag": "s",
        "escalation.page.backlog": "{page}",
        "escalation.notice.backlog": "{notice}",
        "escalation.page.dead": "{page}",
        "escalation.incident.overdue": "{incident}",
        "escalation.incident.oldest_overdue": "s",
        "escalation.incident.exhausted": "{incident}",
        "escalation.incident.unheard": "{incident}",
        "escalation.target.oldest_page": "s",
        "escalation.target.last_failed": "s",
        "escalation.target.replaced": "{page}",
        "escalation.policy.load_failed": "{engine}",
        "escalation.policy.unknown": "{incident}",
        "escalation.policy.put_off": "{incident}",
        "escalation.policy.lost": "{incident}",
        "escalation.policy.files": "{file}",
        "escalation.policy.nobody_on_call": "{escalation}",
        "escalation.schedule.load_failed": "{source}",
    } == seen.units()


def test_without_an_sdk() -> None:
    """Without an SDK in the process telemetry does nothing, and the engine works."""
    code = """
import asyncio, sys
sys.modules["opentelemetry.sdk"] = None
from escalation_core import Engine
from escalation_core.model import NextDue
from escalation_core.testing import MemoryStore, RecordingNotifier

async def main():
    notifier = RecordingNotifier()
    async with Engine(MemoryStore(), notifiers=[notifier]) as engine:
        incident = await engine.open("k")
        report = await engine.tick()
        assert (0, []) == (report.escalated, notifier.pages)
        assert (await engine.health()).ok

asyncio.run(main())
"""
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert 0 == said.returncode
    assert "" == said.stdout
    assert "" == said.stderr
