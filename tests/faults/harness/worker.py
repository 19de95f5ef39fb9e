"""A worker process: it runs the engine and its runner on a real database, with short times.

``Run`` starts it as a fork of a server that has imported everything. With other environment variables, for example to
use another version of the library, ``Run`` starts it as ``python -m tests.faults.harness.worker SPEC``.
"""

import asyncio
import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from time import time
from typing import Any, Literal, TextIO

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from escalation_adapters.channels.pagerduty import PagerDutyNotifier
from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.cli.base import _loop_factory
from escalation_adapters.postgres import PostgresStore, outbox, pool, timeouts
from escalation_adapters.worker import runner
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import (
    Budget,
    Engine,
    NoticeKind,
    Notifier,
    Outcome,
    Page,
    RetryPolicy,
    Route,
    Settings,
    StoreUnavailable,
)

from ..defects import plants
from ..kill_points import walk_migration, walks
from ..kill_points.points import Point
from . import hook, policies, schedules
from .hook import Interrupt
from .rules import Rules

RECONNECT_TIME = 2.5
"""Seconds that a worker waits for a connection: at least 2.2, because the pool may wait so long between attempts."""
CALL_TIMEOUT = 2.0, 0.3, 0.7
"""Seconds: for a call to the database, for its cancellation, and for which a transaction may be idle."""
LONG_OUTAGE = 2 * CALL_TIMEOUT[0]
"""Seconds of an outage that is longer than every timeout of a worker, so that health shows the outage."""
RUNNER_WAITS = 0.1, 0.5
"""The runner's first and longest wait for a database that is out of reach, in seconds."""
SCHEDULE_TIMES = 0.5, 0.3
"""Seconds from one load of the schedules to the next, and for which a source may load."""
LATE_SCHEDULES = 0.3, 60.0
"""Seconds that the first tick waits for the schedules, and for which a source may load, if it may be late."""
LOG_FORMAT = "%(created).3f %(name)s %(levelname)s %(message)s"
MIGRATE = "migrate "
"""The prefix of a walk that migrates the schema of that name."""
PAGERDUTY = "pagerduty+http://"
"""The beginning of the URL of a target whose receiver is PagerDuty's."""
READY = "worker is ready"
EVENT_LOOP = "the event loop is from"
INTERRUPTED_AT = "worker is interrupted at"
PASSED = "worker passed"


@attrs.frozen(kw_only=True)
class Spec:
    """The parameters of a worker process."""

    name: str
    dsn: str = attrs.field(repr=False)
    targets: Mapping[str, str] = attrs.field(repr=False)
    log: str
    """The path of the worker's log."""
    rules: Rules = attrs.field(factory=Rules)
    defect: plants.Name | None = None
    interrupt: Interrupt | None = None
    batch_size: int = 50
    max_connections: int = 4
    pooler: Literal["transaction"] | None = None
    walk: str = "run"
    """The program of the worker: a name in ``WALKS``, or ``migrate SCHEMA``."""
    policies: str | None = None
    """The path of the policies file, if the worker has one."""
    schedules: str | None = None
    """The path of the file that the worker's source of schedules reads, if it has one."""
    late_schedules: bool = False
    """Whether the source may load for longer than the first tick waits, as it may with the library's own times."""
    raising_notifier: bool = False
    """Whether the worker's notifier is a ``RaisingNotifier``."""
    counts: Sequence[Point] = ()
    """Kill points. At its end the worker logs how often it passed each of them."""


class RaisingNotifier(SlackNotifier):
    """A notifier that raises a BaseException before it sends, for every third page."""

    _asked = 0

    async def send(self, page: Page) -> Outcome:
        """Send the page, or raise ``CancelledError``, ``SystemExit`` or ``GeneratorExit`` in turn."""
        self._asked += 1
        if self._asked % 3 == 1:
            raise (asyncio.CancelledError, SystemExit, GeneratorExit)[self._asked // 3 % 3](*self._urls.values())
        return await super().send(page)


def _notifiers(spec: Spec) -> list[Notifier]:
    """Return PagerDuty's notifier for its URLs, and Slack's for all others."""
    pagers = {name: url for name, url in spec.targets.items() if url.startswith(PAGERDUTY)}
    others = {name: url for name, url in spec.targets.items() if name not in pagers}
    slack = (RaisingNotifier if spec.raising_notifier else SlackNotifier)(others, allow_http=True)
    return [slack, *([PagerDutyNotifier(pagers, allow_http=True)] if pagers else [])]


def settings_of(rules: Rules, targets: Mapping[str, str]) -> Settings:
    """Return the engine's settings. A critical incident pages all targets, any other incident the first target.

    Fallbacks alone page the targets in reserve.
    """
    routed = [target for target in targets if target not in rules.reserves]
    first, *_ = routed or ["ops"]
    return Settings(
        max_level=rules.max_level,
        critical_window=timedelta(seconds=rules.windows["critical"]),
        warning_window=timedelta(seconds=rules.windows["warning"]),
        snooze=timedelta(seconds=rules.snooze),
        tick_interval=timedelta(seconds=rules.tick),
        routes=(Route(severity="critical", targets=tuple(routed)),) if routed else (),
        default_target=first,
        # Each target but the first has a budget, which never delays a page here: what it costs is in each claim.
        budgets={name: Budget(rate=1000, burst=100) for name in routed[1:]} | dict(rules.budgets),
        notices={name: frozenset(map(NoticeKind, rules.notices.get(name, ()))) for name in targets},
        fallbacks=rules.fallbacks if targets else {},
        fallback_after=timedelta(seconds=rules.fallback_after),
        bundle_after=timedelta(seconds=rules.bundle_after),
        retry=RetryPolicy(
            lease=timedelta(seconds=rules.lease),
            send_timeout=timedelta(seconds=rules.send_timeout),
            first=timedelta(seconds=0.2),
            longest=timedelta(seconds=1),
            least_after=timedelta(seconds=0.1),
            most_after=timedelta(seconds=2),
            throttle=timedelta(seconds=0.5),
            per_target=rules.per_target,
        ),
    )


async def open_engine(spec: Spec, output: TextIO, metrics: MeterProvider) -> Engine:
    """Open the engine. Wait for the database if it is out of reach."""
    spans = TracerProvider()
    spans.add_span_processor(
        SimpleSpanProcessor(ConsoleSpanExporter(out=output, formatter=lambda span: span.to_json(None) + "\n"))
    )
    while True:
        try:
            return await _open(spec, spans, metrics)
        except StoreUnavailable as error:
            logging.getLogger("tests.faults").warning("the worker waits for the database: %s", error)
            await asyncio.sleep(RUNNER_WAITS[0])


async def _open(spec: Spec, spans: TracerProvider, metrics: MeterProvider) -> Engine:
    store = await PostgresStore.connect(spec.dsn, pooler=spec.pooler, max_connections=spec.max_connections)
    engine = Engine(
        store,
        settings=settings_of(spec.rules, spec.targets),
        heartbeat=next(
            (HttpHeartbeat(url, allow_http=True) for url in spec.targets.values() if not url.startswith(PAGERDUTY)),
            None,
        ),
        policies=None if spec.policies is None else policies.load(spec.policies),
        schedules=[]
        if spec.schedules is None
        else [schedules.FailingSource(Path(spec.schedules), spec.late_schedules)],
        notifiers=_notifiers(spec),
        worker=spec.name,
        batch_size=spec.batch_size,
        tracer_provider=spans,
        meter_provider=metrics,
    )
    return await engine.__aenter__()


async def _work(spec: Spec, output: TextIO) -> None:
    reader = InMemoryMetricReader()
    engine = None if spec.walk.startswith(MIGRATE) else await open_engine(spec, output, MeterProvider([reader]))
    counts = hook.count(spec.counts)
    if spec.interrupt is not None:
        spec.interrupt.arm(lambda: print(INTERRUPTED_AT, time(), file=output))
    output.write(
        f"{READY} at {time():.0f} by its own clock, {EVENT_LOOP} {type(asyncio.get_running_loop()).__module__}\n"
    )
    if engine is None:
        await walk_migration.migrate_host(spec.dsn, spec.walk.removeprefix(MIGRATE))
    else:
        try:
            await walks.WALKS[spec.walk](engine)
        finally:
            output.write(f"metrics {reader.get_metrics_data()}\n")
            await engine.aclose()
    output.writelines(f"{PASSED} {point.module} {point.line} {count}\n" for point, count in counts.items())
    hook.await_kill()


def main(spec: Spec) -> None:
    """Run the worker until a signal or a fault ends it."""
    output = Path(spec.log).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - open as long as the process is
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    sys.stdout = sys.stderr = output
    warnings.simplefilter("error")
    logging.basicConfig(stream=output, level=logging.DEBUG, format=LOG_FORMAT, force=True)
    for noisy in ("asyncio", "psycopg"):
        logging.getLogger(noisy).setLevel(logging.INFO)
    _shorten_waits(spec)
    walks.policies_file = None if spec.policies is None else partial(policies.load, spec.policies)
    if spec.defect is not None:
        plants.plant(spec.defect, spec.dsn)
    # The event loop that ``escalation run`` uses: uvloop, if it is installed.
    with policies.short_times(), asyncio.Runner(loop_factory=_loop_factory()) as loop:
        loop.run(_work(spec, output))


def _shorten_waits(spec: Spec) -> None:
    """Shorten the library's constants for waits and timeouts.

    The timeouts of calls stay long for a short walk, so that a slow machine cannot change its course. A walk that
    tests a timeout sets it itself.
    """
    runner.FIRST_WAIT, runner.MAX_WAIT = (timedelta(seconds=span) for span in RUNNER_WAITS)
    plan: Any = import_module("escalation_core.rules.plan")
    plan.FIRST_DEFERRAL, plan.MAX_DEFERRAL = (timedelta(seconds=span) for span in spec.rules.defer)
    pace: Any = import_module("escalation_core.rules.pace")
    pace.FIRST_RATE, pace.LEAST_RATE = spec.rules.refused_rates
    claims: Any = outbox
    claims.STARVED_AFTER = timedelta(seconds=spec.rules.starved_after)
    if spec.walk in walks.WHOLE:
        loading: Any = import_module("escalation_core.engine.schedules")
        loading.REFRESH, loading.LOAD_TIMEOUT = (timedelta(seconds=span) for span in SCHEDULE_TIMES)
        if spec.late_schedules:
            loading.FIRST_WAIT, loading.LOAD_TIMEOUT = (timedelta(seconds=span) for span in LATE_SCHEDULES)
        module: Any = pool
        module.CONNECT_TIMEOUT = RECONNECT_TIME
        timeouts.CALL_TIMEOUT, timeouts.GRACE, timeouts.IDLE = CALL_TIMEOUT


def read(text: str) -> Spec:
    """Return the spec of a command line. Such a spec has no interrupt and no counts."""
    values = json.loads(text)
    return Spec(**values | {"rules": Rules(**values["rules"])})


def write(spec: Spec) -> str:
    """Return a spec as the argument of a command line."""
    return json.dumps(attrs.asdict(spec), default=sorted)  # a frozenset of kinds of notices


if __name__ == "__main__":
    main(read(sys.argv[1]))
