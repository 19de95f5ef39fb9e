"""The screens in the documentation are what the commands show on a terminal of 80 columns."""

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from .console import Console, ago, screen, told

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"
KEY = "db-7/disk"
SUMMARY = "The disk of db-7 is almost full, and its replica is more than ten minutes behind"
ONCE = """
from escalation_adapters.cli import tail
async def once(reader, say):
    yield await reader.read()
    raise KeyboardInterrupt
tail.follow = once
None"""
"""Ctrl-C right after the first entries."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")


def documented() -> dict[str, str]:
    """Return the screens of the page by their commands."""
    blocks = re.findall(
        r"^```text\n\$ escalation (.*)\n((?:.*\n)+?)```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return dict(blocks)


def masked(text: str) -> str:
    """Return a screen without its times of day and without the timeline, which differ from run to run."""
    lines = [line.rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line and not re.fullmatch(r" [ ━─┄0-9:]+", line)]
    text = re.sub(r"\d\d:\d\d:\d\d", "03:14:05", "\n".join(lines))
    return re.sub(r"\b(\d+ s ago|now)\b", "2 s ago", text)


class Slack(BaseHTTPRequestHandler):
    """A receiver of pages that accepts each."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def slack() -> Iterator[str]:
    """Return the URL of a receiver."""
    with HTTPServer(("127.0.0.1", 0), Slack) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/ops"
        server.shutdown()
        serving.join()


@pytest.fixture
def night(on_sqlite: Console, slack: str) -> Console:
    """An incident that has escalated once, and its acknowledgement taken back."""
    # The clock on the wall says noon, so that no screen has another day.
    on_sqlite.env["TZ"] = f"CET{datetime.now(UTC).hour - 12}"
    on_sqlite.env |= {"ESC_TARGETS": json.dumps({"slack:ops": slack}), "ESC_ALLOW_HTTP": "true"}
    opened = ("open", KEY, "--severity", "critical", "--summary", SUMMARY, "--label", "team=db", "--label", "tier=1")
    told(on_sqlite(*opened, "--first-seen", ago(27), "--by", "monitoring"))
    told(on_sqlite("tick"))
    told(on_sqlite("ack", KEY, "--by", "ada", "--reason", "I am looking at it"))
    told(on_sqlite("unack", KEY, "--by", "ada", "--reason", "not my database: it belongs to the team of payments"))
    return on_sqlite


@pytest.mark.parametrize("command", ["show", "audit", "tail"])
def test_screens(night: Console, command: str) -> None:
    """Each documented screen is the real one, except for the times."""
    [(arguments, expected)] = [found for found in documented().items() if found[0].split()[0] == command]
    shown = screen(*arguments.split(), env=night.env, before=ONCE if command == "tail" else None)
    assert masked(expected) == masked(shown), shown
