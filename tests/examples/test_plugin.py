"""The plug-in in a package of its own, installed from its wheel beside the library: the program pages through it."""

import json
import re
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from escalation_core import idempotency_key

from .hosting import EXAMPLES, Programs, Receiver

README = (EXAMPLES / "plugin/README.md").read_text(encoding="utf-8")
LATE = (datetime.now(UTC) - timedelta(minutes=20)).isoformat()
TOKEN = "hush-token"
BEFORE = ("escalation", "open", "db-7/disk", "--severity", "critical", "--first-seen", LATE)


@pytest.fixture
def app(run: Programs, receiver: Receiver, tmp_path: Path) -> Programs:
    """The program ``escalation`` on an SQLite file, with what the plug-in's README sets."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    receiver.reply = b'{"id": "x", "event": "message"}'
    return run.of(
        "plugin",
        ESC_DATABASE_URL=f"sqlite:///{tmp_path / 'escalation.db'}",
        ESC_TICK_MS="1000",
        ESC_ALLOW_HTTP="true",
        NTFY_URL=receiver.url,
        NTFY_TOPICS='{"ntfy:ops": "ops-alerts"}',
        NTFY_TOKEN_FILE=str(tmp_path / "token"),
        PYTHONWARNINGS="error",
    )


def test_installed_from_its_wheel() -> None:
    """The plug-in comes from a wheel, and not from its source."""
    found = distribution("escalation-ntfy")
    assert "site-packages" in Path(str(found.locate_file("escalation_ntfy"))).parts
    assert ["escalation.notifiers"] == [point.group for point in found.entry_points]
    assert found.read_text("direct_url.json") is None or ".whl" in str(found.read_text("direct_url.json"))


def test_page_arrives(app: Programs, receiver: Receiver) -> None:
    """``escalation run`` pages through the plug-in: the message has its dedup key and its token, and is settled."""
    [listed] = app("escalation", "config", "check", "--json").json["plugins"]
    expected = {"name": "entry point escalation.notifiers: ntfy of escalation-ntfy", "kind": "notifier"}
    assert expected | {"targets": ["ntfy:ops"]} == listed
    app(*BEFORE)
    assert "ntfy:ops" in app("escalation", "show", "db-7/disk").out

    with app.beside("escalation", "run") as worker:
        [page] = receiver.wait_for(1)
        worker.wait_for("delivered=1")
        done = worker.stop()
    assert 0 == done.code, done.out
    assert TOKEN not in done.out
    key = idempotency_key("db-7/disk", 1)
    assert ("POST", urlsplit(receiver.url).path) == (page.method, page.path)
    assert (key, f"Bearer {TOKEN}") == (page.headers["X-Dedup-Key"], page.headers["Authorization"])
    message = {"topic": "ops-alerts", "title": "critical, level 1: db-7/disk", "message": "db-7/disk", "priority": 5}
    assert message | {"sequence_id": key} == page.body
    [sent] = app("escalation", "pages", "--state", "delivered", "--json").json
    assert "ntfy:ops" == sent["target"]


def test_test_page(app: Programs, receiver: Receiver) -> None:
    """A test page of the README's command goes through the plug-in as well."""
    [command] = re.findall(r"^escalation (test-page \S+)", README, re.MULTILINE)
    assert "ntfy:ops: delivered" in app("escalation", *command.split()).out
    [page] = receiver.wait_for(1)
    assert page.body["message"].startswith("TEST: nothing is wrong")


def test_plugin_without_its_variables(app: Programs, tmp_path: Path) -> None:
    """Without its token the worker does not start, and says so; an operator can still answer an incident."""
    app(*BEFORE)
    broken = {"NTFY_TOKEN_FILE": str(tmp_path / "gone")}
    for words in (("run",), ("tick",), ("config", "check"), ("test-page", "ntfy:ops")):
        refused = app("escalation", *words, env=broken, code=1)
        assert (
            "escalation: 1 plug-in is wrong:\n"
            "  entry point escalation.notifiers: ntfy of escalation-ntfy: NTFY_TOKEN: NTFY_TOKEN_FILE cannot be read"
            " (FileNotFoundError); name a UTF-8 file that this process may read\n"
        ) == refused.err
    assert "" == app("escalation", "ack", "db-7/disk", env=broken).err
    shown = app("escalation", "show", "db-7/disk", env=broken)
    assert json.loads(shown.err)["message"].startswith("a plug-in is missing in this command: entry point")
