"""A worker process: the engine and its runner on a real database, with short times, in a process of its own.

Started by ``run`` as a fork of a server that has imported everything; or, with another version of the library in the
path, as ``python -m tests.faults.harness.worker SPEC``.
"""

import asyncio
import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from time import time
from typing import Any, Literal, TextIO

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.cli.base import _loop_factory
from escalation_adapters.postgres import PostgresStore, pool, timeouts
from escalation_adapters.worker import runner
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import Engine, Outcome, Page, RetryPolicy, Route, Settings, StoreUnavailable

from ..defects import plants
from ..kill_points import walk_migration, walks
from ..kill_points.points import Point
from . import hook
from .hook import Act
from .rules import Rules

RECONNECT_TIME = 2.5
"""Seconds of patience with a connection. Not less: between two attempts of the pool there may be 2.2 seconds."""
CALL_TIMEOUT = 2.0, 0.3, 0.7
"""Seconds of a database's silence, of grace after it, and of a client's own within a transaction."""
OUTLASTS = 2 * CALL_TIMEOUT[0]
"""Seconds of a fault that is to outlast every limit of a worker's: by then it has given up, and health shows it."""
RUNNER_WAITS = 0.1, 0.5
"""The runner's first and longest wait for a database that is down, as short as everything else here."""
LOG_FORMAT = "%(created).3f %(name)s %(levelname)s %(message)s"
READY = "worker is ready"
UNDER = "its event loop is from"
STRUCK = "worker is struck at"
COUNTED = "worker came by"


@attrs.frozen(kw_only=True)
class Spec:
    """What a worker is told."""

    name: str
    dsn: str = attrs.field(repr=False)
    targets: Mapping[str, str] = attrs.field(repr=False)
    log: str
    """The file that it writes everything to."""
    rules: Rules = attrs.field(factory=Rules)
    defect: plants.Name | None = None
    act: Act | None = None
    batch_size: int = 50
    max_connections: int = 4
    pooler: Literal["transaction"] | None = None
    walk: str = "run"
    """What it does: one of the walks, or ``migrate SCHEMA``."""
    unruly: bool = False
    """Whether its notifier raises what nothing should raise, before it sends, for every third page."""
    counts: Sequence[Point] = ()
    """Kill points: the worker writes at its end how often it passed each of them."""


class Unruly(SlackNotifier):
    """Raises one thing after the other."""

    _asked = 0

    async def send(self, page: Page) -> Outcome:
        """Send, or raise."""
        self._asked += 1
        if self._asked % 3 == 1:
            raise (asyncio.CancelledError, SystemExit, GeneratorExit)[self._asked // 3 % 3](*self._urls.values())
        return await super().send(page)


def settings_of(rules: Rules, targets: Mapping[str, str]) -> Settings:
    """Return the settings that the rules stand for. Critical incidents page everybody, others the first target."""
    first, *_ = targets or {"ops": ""}
    return Settings(
        max_level=rules.max_level,
        critical_window=timedelta(seconds=rules.windows["critical"]),
        warning_window=timedelta(seconds=rules.windows["warning"]),
        snooze=timedelta(seconds=rules.snooze),
        tick_interval=timedelta(seconds=rules.tick),
        routes=(Route(severity="critical", targets=tuple(targets)),) if targets else (),
        default_target=first,
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
    """Open the engine; a database that is not there yet is waited for."""
    spans = TracerProvider()
    spans.add_span_processor(
        SimpleSpanProcessor(ConsoleSpanExporter(out=output, formatter=lambda span: span.to_json(None) + "\n"))
    )
    while True:
        try:
            return await _open(spec, spans, metrics)
        except StoreUnavailable as error:
            logging.getLogger("tests.faults").warning("not yet: %s", error)
            await asyncio.sleep(RUNNER_WAITS[0])


async def _open(spec: Spec, spans: TracerProvider, metrics: MeterProvider) -> Engine:
    store = await PostgresStore.connect(spec.dsn, pooler=spec.pooler, max_connections=spec.max_connections)
    engine = Engine(
        store,
        settings=settings_of(spec.rules, spec.targets),
        heartbeat=next((HttpHeartbeat(url, allow_http=True) for url in spec.targets.values()), None),
        notifiers=[(Unruly if spec.unruly else SlackNotifier)(spec.targets, allow_http=True)],
        worker=spec.name,
        batch_size=spec.batch_size,
        tracer_provider=spans,
        meter_provider=metrics,
    )
    return await engine.__aenter__()


async def _work(spec: Spec, output: TextIO) -> None:
    what, _, schema = spec.walk.partition(" ")
    reader = InMemoryMetricReader()
    engine = None if schema else await open_engine(spec, output, MeterProvider([reader]))
    counts = hook.count(spec.counts)
    if spec.act is not None:
        spec.act.arm(lambda: print(STRUCK, time(), file=output))
    output.write(f"{READY} at {time():.0f} by its own clock, {UNDER} {type(asyncio.get_running_loop()).__module__}\n")
    if engine is None:
        await walk_migration.migrating(spec.dsn, schema)
    else:
        try:
            await walks.WALKS[what](engine)
        finally:
            output.write(f"metrics {reader.get_metrics_data()}\n")
            await engine.aclose()
    output.writelines(f"{COUNTED} {point.module} {point.line} {count}\n" for point, count in counts.items())
    hook.linger()


def main(spec: Spec) -> None:
    """Be the worker, until a signal or a fault ends it."""
    output = Path(spec.log).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - open as long as the process is
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    sys.stdout = sys.stderr = output
    warnings.simplefilter("error")
    logging.basicConfig(stream=output, level=logging.DEBUG, format=LOG_FORMAT, force=True)
    for noisy in ("asyncio", "psycopg"):
        logging.getLogger(noisy).setLevel(logging.INFO)
    _hurry(spec)
    if spec.defect is not None:
        plants.plant(spec.defect, spec.dsn)
    # The event loop that ``escalation run`` takes: uvloop, where it is installed.
    with asyncio.Runner(loop_factory=_loop_factory()) as loop:
        loop.run(_work(spec, output))


def _hurry(spec: Spec) -> None:
    """Make what waits for a database as short as everything else here.

    Not for a walk, which only has to come by somewhere: it brings its own silence, and bears a machine that is slow.
    """
    runner.FIRST_WAIT, runner.MAX_WAIT = (timedelta(seconds=span) for span in RUNNER_WAITS)
    planning: Any = import_module("escalation_core.rules.plan")
    planning.FIRST_DEFERRAL, planning.MAX_DEFERRAL = (timedelta(seconds=span) for span in spec.rules.defer)
    if spec.walk in walks.WHOLE:
        module: Any = pool
        module.CONNECT_TIMEOUT = RECONNECT_TIME
        timeouts.CALL_TIMEOUT, timeouts.GRACE, timeouts.IDLE = CALL_TIMEOUT


def read(text: str) -> Spec:
    """Return the spec of a command line, where nothing acts and no defect is planted."""
    values = json.loads(text)
    return Spec(**values | {"rules": Rules(**values["rules"])})


def write(spec: Spec) -> str:
    """Return a spec for a command line."""
    return json.dumps(attrs.asdict(spec))


if __name__ == "__main__":
    main(read(sys.argv[1]))
