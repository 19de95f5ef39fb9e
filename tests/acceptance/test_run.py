"""``escalation run`` as a service manager starts it: it ticks, pages a real receiver, and ends on a signal."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from escalation_adapters.cli.base import _loop_factory
from escalation_core import idempotency_key

from .console import TIMEOUT, TO_THE_LOG, Console, ago, start
from .worker import call, ended, receiving, tick_line, until, variables

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")


async def test_run(escalation: Console) -> None:
    """The worker ticks and pages until SIGTERM, logs JSON lines with the metrics' names, and exits with code 0."""
    for key in ("one", "two"):
        assert 0 == (await call(escalation, "open", key, "--severity", "critical", "--first-seen", ago(20))).code
    async with receiving() as receiver:
        process = start("run", env=escalation.env | variables(receiver))
        try:
            await until(lambda: 2 == len(receiver.pages), process)
            # Opened while the worker runs: the worker pages it within a tick.
            await call(escalation, "open", "three", "--severity", "critical", "--first-seen", ago(20))
            await until(lambda: 3 == len(receiver.pages), process)
            # The worker settles a page after the receiver has answered.
            for _ in range(100):
                health = await call(escalation, "health", "--json", **variables(receiver))
                if not health.json["backlog"]:
                    break
            process.send_signal(signal.SIGTERM)
            said = await ended(process)
        finally:
            process.kill()
    assert (0, "") == (said.code, said.out)
    assert True is health.json["ok"]
    assert 1 == health.json["workers"]
    assert {} == health.json["backlog"]
    assert {idempotency_key(key, 1) for key in ("one", "two", "three")} == {
        page["dedup_key"] for page in receiver.pages
    }
    lines = [json.loads(line) for line in said.err.splitlines()]
    assert all({"at", "level", "logger", "message"} <= set(line) for line in lines)
    ticks = [line for line in lines if "escalation_tick_ms" in line]
    assert all({"escalations_count", "skipped_idempotent", "escalation_tick_ms"} <= set(line) for line in ticks)
    assert 3 == sum(line["escalations_count"] for line in ticks)
    assert "stopping" in " ".join(line["message"] for line in lines)
    assert receiver.url not in said.err


async def test_pause_from_another_process(escalation: Console) -> None:
    """A pause set by another process holds the worker from its next tick; no page goes before an operator resumes."""
    async with receiving() as receiver:
        process = start("run", env=escalation.env | variables(receiver))
        try:
            assert "open" == (await tick_line(process))["mode"]
            paused = await call(escalation, "pause", "--until", "1h", "--reason", "deploying", "--by", "ada", "--json")
            await call(escalation, "open", "one", "--severity", "critical", "--first-seen", ago(20))
            seen = (await call(escalation, "health", "--json")).json
            # The second tick to end after this line began after the pause.
            modes = [(await tick_line(process))["mode"] for _ in range(3)]
            assert ([], "paused") == (receiver.began, modes[-1])
            assert 0 == (await call(escalation, "resume", "--by", "bob")).code
            await until(lambda: 1 == len(receiver.pages), process)
            process.send_signal(signal.SIGTERM)
            assert 0 == (await ended(process)).code
        finally:
            process.kill()
    assert "paused" == seen["mode"]
    assert "ada" == seen["pausedBy"]
    assert "deploying" == seen["pauseReason"]
    assert paused.json["ends_at"] == seen["pausedUntil"]


async def test_nothing_is_lost(on_sqlite: Console) -> None:
    """On SIGTERM the worker delivers and settles the pages in flight; the next worker sends all the others."""
    keys = [f"INC{number}" for number in range(40)]  # more pages than may be in flight to one target
    for key in keys:
        assert 0 == (await call(on_sqlite, "open", key, "--severity", "critical", "--first-seen", ago(20))).code
    async with receiving(delay=0.7) as receiver:
        process = start("run", env=on_sqlite.env | variables(receiver))
        try:
            await until(lambda: bool(receiver.began), process)
            process.send_signal(signal.SIGTERM)
            said = await ended(process)
        finally:
            process.kill()
        assert 0 == said.code
        assert 0 < len(receiver.pages) < len(keys)
        assert sorted(receiver.began) == sorted(page["dedup_key"] for page in receiver.pages)
        backlog = (await call(on_sqlite, "health", "--json", **variables(receiver))).json["backlog"]
        assert {"slack:ops": len(keys) - len(receiver.pages)} == backlog
        receiver.delay = 0
        rest = await call(on_sqlite, "tick", "--json", **variables(receiver))
    assert (0, 0) == (rest.code, rest.json["escalations"])
    # Each page arrives exactly once: the worker loses none and doubles none.
    assert sorted(idempotency_key(key, 1) for key in keys) == sorted(page["dedup_key"] for page in receiver.pages)


async def test_interrupted(on_sqlite: Console) -> None:
    """Ctrl-C ends the worker like SIGTERM."""
    process = start("run", env=on_sqlite.env)
    said_so = process.stderr
    assert said_so is not None
    try:
        warned, first = [await asyncio.to_thread(said_so.readline) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        said = await ended(process)
    finally:
        process.kill()
    assert (0, "") == (said.code, said.out)
    assert TO_THE_LOG in warned
    assert "escalation_tick_ms" in json.loads(first)


@pytest.mark.parametrize(("streams", "loop"), [("", "uvloop"), (">&-", "None"), ("2>&-", "None"), ("<&-", "None")])
def test_loop_is_the_quicker_one_that_is_there(tmp_path: Path, streams: str, loop: str) -> None:
    """A worker runs on uvloop if it is installed, except when a standard stream is closed, since libuv then aborts."""
    said = tmp_path / "said"
    code = "import sys; from escalation_adapters.cli.base import _loop_factory as f; made = f();"
    code += " open(sys.argv[1], 'w').write(str(made and made.__module__))"
    subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-c", code, said], timeout=TIMEOUT, check=False
    )
    assert loop == said.read_text()


def test_loop_is_pythons_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvloop, which is an extra, a worker runs on asyncio's own loop."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert None is _loop_factory()
