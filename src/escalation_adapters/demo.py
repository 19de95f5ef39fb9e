"""The demonstration: two hours of an on-call night in a few seconds, on SQLite, with a receiver on this machine."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from .extras import needs

with needs(__name__, "http"):
    from aiohttp import web

from escalation_core import Engine, Settings
from escalation_core.testing import ManualClock

from .channels.slack import SlackNotifier
from .sqlite import SQLiteStore
from .timeline import Track, track

START = datetime(2025, 3, 14, 2, 0, tzinfo=UTC)
LENGTH = timedelta(minutes=130)
STEP = timedelta(minutes=1)
"""The demonstration's scheduler ticks once in each minute of the demonstration's time."""

Act = Callable[[Engine, str], Awaitable[Any]]


@attrs.frozen
class Scene:
    """An action of a person or the host on an incident, in a minute of the night."""

    minute: int
    incident_key: str
    text: str
    act: Act


def _open(severity: str, summary: str) -> Act:
    return lambda engine, key: engine.open(key, severity=severity, summary=summary)


def _acknowledge(by: str) -> Act:
    return lambda engine, key: engine.acknowledge(key, by=by)


def _resolve(by: str) -> Act:
    return lambda engine, key: engine.resolve(key, by=by)


SHOP, DISK, CERTIFICATE, LAG = "shop/checkout", "db-7/disk", "edge/certificate", "db-7/replication"
SCENES: Sequence[Scene] = (
    Scene(0, SHOP, "opens: checkout errors above 5 %", _open("critical", "Checkout errors above 5 %")),
    Scene(3, DISK, "opens: disk at 91 %", _open("warning", "Disk at 91 %")),
    Scene(12, SHOP, "the primary acknowledges", _acknowledge("primary")),
    Scene(15, CERTIFICATE, "opens: certificate expires in 3 days", _open("warning", "Certificate expires in 3 days")),
    Scene(
        20,
        CERTIFICATE,
        "the secondary snoozes it until 03:20",
        lambda engine, key: engine.snooze(key, START + timedelta(minutes=80), by="secondary"),
    ),
    Scene(25, SHOP, "the primary resolves", _resolve("primary")),
    Scene(40, LAG, "opens: replication lag 90 s", _open("warning", "Replication lag 90 s")),
    Scene(52, DISK, "the secondary acknowledges", _acknowledge("secondary")),
    Scene(58, LAG, "becomes critical", lambda engine, key: engine.change_severity(key, "critical", by="monitoring")),
    Scene(70, SHOP, "opens again: checkout errors are back", _open("critical", "Checkout errors are back")),
    Scene(
        75,
        DISK,
        "the secondary takes the acknowledgement back",
        lambda engine, key: engine.unacknowledge(key, by="secondary"),
    ),
    Scene(95, LAG, "the primary acknowledges", _acknowledge("primary")),
    Scene(112, LAG, "the primary resolves", _resolve("primary")),
    Scene(118, SHOP, "the primary acknowledges", _acknowledge("primary")),
)
"""The night's script."""


@attrs.frozen
class Line:
    """A line of output: an instant, a kind, an incident key and a text."""

    at: datetime
    kind: str
    incident_key: str
    text: str


@asynccontextmanager
async def _receiver(arrived: Callable[[dict[str, Any]], None]) -> AsyncIterator[str]:
    """Run a receiver of pages on the loopback interface, and yield its URL."""

    async def take(request: web.Request) -> web.Response:
        arrived(await request.json())
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/page", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/page"
    finally:
        await runner.cleanup()


async def demo(show: Callable[[Line], None], *, pace: float = 0.05) -> Sequence[Track]:
    """Play the night, at ``pace`` real seconds per minute; call ``show`` for each line; return the tracks to draw."""
    clock = ManualClock(START)
    received: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="escalation-demo-") as folder:
        async with _receiver(received.append) as url:
            store = await SQLiteStore.connect(str(Path(folder) / "demo.db"), clock=clock)
            notifier = SlackNotifier({"slack:ops": url}, allow_http=True)
            settings = Settings(snooze=timedelta(minutes=10), max_level=4)
            async with Engine(store, settings=settings, notifiers=[notifier]) as engine:
                loop = asyncio.get_running_loop()
                over = loop.time()
                while clock() < START + LENGTH:
                    over += pace  # by the clock, so that later minutes make up for a slow one
                    await _minute(engine, clock(), show, received)
                    clock.advance(STEP)
                    await asyncio.sleep(max(over - loop.time(), 0))
                keys = dict.fromkeys(scene.incident_key for scene in SCENES)
                return [track(await engine.history(key), key, clock()) for key in keys]


async def _minute(engine: Engine, now: datetime, show: Callable[[Line], None], received: list[dict[str, Any]]) -> None:
    for scene in SCENES:
        if START + timedelta(minutes=scene.minute) == now:
            await scene.act(engine, scene.incident_key)
            show(Line(now, "host", scene.incident_key, scene.text))
    # A host with a scheduler of its own has to call only this.
    report = await engine.tick()
    for example in report.examples:
        if example.outcome == "escalate":
            show(Line(now, "escalate", example.incident_key, f"not acknowledged: level {example.level}"))
    for page in received:
        show(Line(now, "page", "", page["text"].partition("\n")[0]))
    received.clear()
