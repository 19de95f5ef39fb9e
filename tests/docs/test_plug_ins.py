"""The page about plug-ins does what it says: its modules and its commands, one after the other."""

import errno
import importlib
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from escalation_adapters.cli.root import cli
from escalation_adapters.worker.plugin_records import Kind
from escalation_adapters.worker.plugins import PluginContext
from escalation_core import Delivered, Incident, Page, Retry, Settings
from escalation_core.testing import ManualClock

from .pages import DOCS, blocks, code, command_lines, exports, table

PAGE = DOCS / "how-to/plug-ins.md"
MODULES = ("spool", "shop")
PLUGIN, APP = blocks(PAGE, "python")
NAMED, USED = blocks(PAGE, "bash")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with the page's modules."""
    for name, block in zip(MODULES, (PLUGIN, APP), strict=True):
        (tmp_path / f"{name}.py").write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def run(*words: str) -> Result:
    """Run a command; it must succeed."""
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert 0 == done.exit_code, (words, done.output)
    return done


def test_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page's plug-in is listed, takes a test page, and takes the page of an incident."""
    for name, value in exports(NAMED.text):
        monkeypatch.setenv(name, value)
    lines = list(command_lines(NAMED.text))
    assert [["config", "check"], ["test-page", "spool:ops"], ["run"]] == lines
    assert "ESC_PLUGINS spool:make\tnotifier\tspool:ops" in run(*lines[0]).output
    assert "spool:ops: delivered" in run(*lines[1]).output
    # In place of the page's run, which does not end by itself.
    run("open", "k", "--first-seen", (datetime.now(UTC) - timedelta(minutes=20)).isoformat())
    assert 1 == json.loads(run("tick", "--json").stdout)["delivery"]["delivered"]
    assert {True} == {
        json.loads(path.read_text())["key"] == path.name
        for path in tmp_path.iterdir()
        if path.is_file() and not path.suffix
    }


async def test_plugin_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page's plug-in writes in a thread of its own, and leaves no half of a file under the name of a page."""
    threads: list[threading.Thread] = []
    whole = Path.write_text

    def half(self: Path, text: str, **options: Any) -> int:
        threads.append(threading.current_thread())
        whole(self, text[:9], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = importlib.import_module("spool").make(PluginContext(Settings(), {}))
    incident = Incident(incident_key="k", level=1, first_seen=ManualClock()())
    page = Page(incident=incident, episode=1, level=1, target="spool:ops", dedup_key="d" * 64, at=incident.first_seen)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        assert Retry("OSError") == await spool.send(page)
    assert [False] == [thread is threading.main_thread() for thread in threads]
    assert not (tmp_path / page.dedup_key).exists()
    assert Delivered() == await spool.send(page)
    assert page.dedup_key == json.loads((tmp_path / page.dedup_key).read_text())["key"]


def test_app() -> None:
    """The page's commands use the engine of its code."""
    lines = list(command_lines(USED.text))
    assert ["--app", "shop:engine", "run"] == lines.pop()
    outputs = [run(*words).output for words in lines]
    assert "next escalation" in outputs[1]
    assert "ESC_CRIT_ACK_MIN\t2" in outputs[2]
    assert "shop:log\tlog" in outputs[2]


def test_groups() -> None:
    """The table of kinds has each kind, with its method and its group of entry points."""
    listed = {code(row[2])[0]: code(row[1])[0] for row in table(PAGE, first="object")}
    assert {kind.group: kind.method for kind in Kind} == listed


def test_commands_that_the_page_names() -> None:
    """The commands that the page names exist."""
    context = click.Context(cli)
    for name in ("run", "tick", "test-page", "ack", "resolve", "pause", "audit", "show", "next"):
        assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
        assert cli.get_command(context, name) is not None
