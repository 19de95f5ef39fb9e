"""The screens of the page about the command line at night: its commands run in a terminal, at a fixed instant.

``python -m tests.docs.screens`` writes the screens into the page.
"""

import asyncio
import json
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from escalation_adapters.sqlite import SQLiteStore
from escalation_adapters.worker.app import make_router
from escalation_core import Delivered, Engine, Rejected, Settings
from escalation_core.testing import ManualClock, RecordingNotifier

from ..acceptance.console import PROGRAM, environment
from ..faketime import standing_still
from ..terminal import interrupt, run
from .pages import DOCS

PAGE = DOCS / "how-to/answer-a-page.md"
WIDTH = 80
ZONE, HERE = "CET-1CEST,M3.5.0,M10.5.0/3", timezone(timedelta(hours=1))
"""The zone of the operator's machine, by a rule of POSIX, which needs no database of zones."""
NOW = datetime(2025, 3, 14, 3, 14, 20, tzinfo=HERE)
"""The instant at which the first command runs."""
STEP = timedelta(seconds=8)
"""The time from one command to the next."""
SCREEN = re.compile(r"^```console\n\$ escalation ([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLLOWING = {"tail --since 30m": "resolve, level 1"}
"""Commands that run until Ctrl-C, and the end of their screen."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Act = Callable[[Engine], Awaitable[Any]]


def _open(key: str, severity: str, summary: str, team: str) -> Act:
    return lambda engine: engine.open(key, severity=severity, summary=summary, labels={"team": team}, by="monitoring")


NIGHT: Sequence[tuple[int, Act]] = (
    (-71, _open("db-7/replication", "warning", "Replication lag 90 s", "storage")),
    (-56, _open("edge/certificate", "warning", "Certificate expires in 3 days", "edge")),
    (-50, lambda engine: engine.acknowledge("db-7/replication", by="primary")),
    (-40, lambda engine: engine.snooze("edge/certificate", timedelta(hours=3), by="secondary")),
    (-39, _open("shop/checkout", "critical", "Checkout errors above 5 %", "shop")),
    (-22, _open("billing/invoices", "critical", "Invoices are not sent", "billing")),
    (-6, _open("db-7/disk", "critical", "Disk at 91 %", "storage")),
    (-5, _open("web/login", "critical", "Logins fail", "web")),
)
"""What happened before, each with its minute from ``NOW``."""


@contextmanager
def night(folder: Path) -> Iterator[dict[str, str]]:
    """Play the night into a database; yield the environment of the commands, with receivers of test pages."""
    with _receivers() as targets:
        settings = {
            "ESC_DATABASE_URL": f"sqlite:///{folder / 'night.db'}",
            "ESC_TARGETS": json.dumps(targets),
            "ESC_ROUTES": json.dumps(
                [
                    {"min_level": 2, "targets": ["slack:ops", "slack:managers"]},
                    {"labels": {"team": "billing"}, "targets": ["slack:billing"]},
                ]
            ),
            "ESC_DEFAULT_TARGET": "slack:ops",
            "ESC_ALLOW_HTTP": "true",
        }
        asyncio.run(_play(folder / "night.db", Settings.from_env(settings), list(targets)))
        yield environment(settings) | {
            "TZ": ZONE, "TERM": "xterm-256color", "PYTHONUTF8": "1", "USER": "primary", "LOGNAME": "primary",
        }  # fmt: skip


async def _play(file: Path, settings: Settings, targets: Sequence[str]) -> None:
    clock = ManualClock((NOW - timedelta(minutes=80)).astimezone(UTC))
    notifier = RecordingNotifier(
        *targets, answer=lambda page: Rejected("HTTP 404") if page.target == "slack:billing" else Delivered()
    )
    store = await SQLiteStore.connect(str(file), clock=clock)
    async with Engine(store, settings=settings, notifiers=[notifier], router=make_router(settings)) as engine:
        while clock() < NOW:
            for minute, act in NIGHT:
                if clock() == NOW + timedelta(minutes=minute):
                    await act(engine)
            await engine.tick()
            clock.advance(timedelta(minutes=1))


@contextmanager
def _receivers() -> Iterator[dict[str, str]]:
    """Run a web server that accepts pages to some targets and rejects those to others; yield each target's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b"ok" if self.path != "/billing" else b"no_service"
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200 if body == b"ok" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            port = server.server_address[1]
            yield {f"slack:{name}": f"http://127.0.0.1:{port}/{name}" for name in ("ops", "managers", "billing")}
        finally:
            server.shutdown()
            thread.join()


def screens() -> Iterator[tuple[str, str, str]]:
    """Run each command of the page, in order; yield the command, the screen on the page and the screen now."""
    with tempfile.TemporaryDirectory() as folder, night(Path(folder)) as env:
        for number, match in enumerate(SCREEN.finditer(PAGE.read_text(encoding="utf-8"))):
            command, written = match[1], match[2]
            at = standing_still(NOW + number * STEP)
            steps = [(FOLLOWING[command], interrupt)] if command in FOLLOWING else []
            shown = run([*PROGRAM, *shlex.split(command)], env | at, width=WIDTH, steps=steps)
            lines = [line.rstrip() for line in _ESCAPES.sub("", shown.text).splitlines()]
            yield command, written, "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Write the screens into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for command, written, shown in screens():
        fence = f"```console\n$ escalation {command}\n"
        text = text.replace(f"{fence}{written}```", f"{fence}{shown}```", 1)
        sys.stdout.write(f"$ escalation {command}\n{shown}\n")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
