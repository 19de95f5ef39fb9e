"""A worker and its policies file: read at the start and again on request, and never worse than the one before."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from escalation_adapters.cli.base import Context
from escalation_adapters.cli.root import cli

from .console import TIMEOUT, Console, ago, start
from .worker import call, ended, receiving, until, variables

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")


def paging(target: str) -> str:
    """Return a policies file whose only policy pages one target at once."""
    return f"policies:\n  ops: {{levels: [{{after: 0m, to: [{target!r}]}}]}}\nassign: [{{policy: ops}}]\n"


BROKEN = "policies:\n  ops: {levels: [{after: 5 minutes}]}\n"


async def logged(process: "subprocess.Popen[str]", part: str) -> str:
    """Return the message of the worker's next log line with this text."""
    assert process.stderr is not None
    while True:
        line = await asyncio.wait_for(asyncio.to_thread(process.stderr.readline), TIMEOUT / 2)
        assert line, "the worker has ended"
        message: str = json.loads(line)["message"]
        if part in message:
            return message


async def targets(console: Console, key: str) -> list[str]:
    """Return the targets that were paged about an incident."""
    return [page["target"] for page in (await call(console, "show", key, "--json")).json["pages"]]


async def test_a_worker_reads_its_file_again(on_sqlite: Console, tmp_path: Path) -> None:
    """SIGHUP and ``policy reload`` read the file; with a faulty or missing one, the one before stays in force."""
    file = tmp_path / "policies.yaml"
    file.write_text(paging("slack:ops"), encoding="utf-8")
    on_sqlite.env["ESC_POLICIES"] = str(file)
    async with receiving() as receiver:
        on_sqlite.env |= variables(receiver)
        process = start("run", env=on_sqlite.env)
        try:
            await logged(process, "tick ")
            await call(on_sqlite, "open", "first")
            await until(lambda: 1 == len(receiver.pages), process)

            file.write_text(paging("other"), encoding="utf-8")
            process.send_signal(signal.SIGHUP)
            assert "was read again: 1 policies" in await logged(process, "policies file")
            await call(on_sqlite, "open", "second")
            await until(lambda: 2 == len(receiver.pages), process)

            file.write_text(BROKEN, encoding="utf-8")
            process.send_signal(signal.SIGHUP)
            said = await logged(process, "policies file")
            assert "could not be loaded, and the one before stays in force" in said
            assert 'policies.ops.levels[0].after: is "5 minutes"; write 5m' in said
            # The command has only the broken file: it leaves the policy to the worker.
            opened = await call(on_sqlite, "open", "third")
            assert (0, True) == (opened.code, "a worker plans it with its next tick" in opened.out)
            await until(lambda: 3 == len(receiver.pages), process)

            file.unlink()
            assert 0 == (await call(on_sqlite, "policy", "reload", "--by", "ada")).code
            assert "No such file" in await logged(process, "policies file")

            file.write_text(paging("other"), encoding="utf-8")
            assert 0 == (await call(on_sqlite, "policy", "reload", "--by", "ada")).code
            assert "the policies file has not changed" == await logged(process, "policies file")
            process.send_signal(signal.SIGTERM)
            assert 0 == (await ended(process)).code
        finally:
            process.kill()
    assert [["slack:ops"], ["other"], ["other"]] == [
        await targets(on_sqlite, key) for key in ("first", "second", "third")
    ]
    entries = (await call(on_sqlite, "audit", "--json")).json
    assert ["ada", "ada"] == [each["actor"] for each in entries if each["action"] == "reload"]


async def test_a_policy_that_is_gone_goes_on_for_its_incidents(on_sqlite: Console, tmp_path: Path) -> None:
    """An incident of a policy that the file no longer has escalates by the text that the store keeps."""
    file = tmp_path / "policies.yaml"
    file.write_text(
        "policies:\n  ops: {levels: [{after: 0m, to: [other]}, {after: 1s, to: [other]}]}\n", encoding="utf-8"
    )
    on_sqlite.env["ESC_POLICIES"] = str(file)
    async with receiving() as receiver:
        on_sqlite.env |= variables(receiver)
        assert 0 == (await call(on_sqlite, "open", "mine", "--policy", "ops")).code
        file.write_text(
            paging("slack:ops").replace("ops:", "new:").replace("policy: ops", "policy: new"), encoding="utf-8"
        )
        process = start("run", env=on_sqlite.env)
        try:
            await until(lambda: 2 == len(receiver.pages), process)
            process.send_signal(signal.SIGTERM)
            assert 0 == (await ended(process)).code
        finally:
            process.kill()
    assert ["other", "other"] == await targets(on_sqlite, "mine")
    refused = await call(on_sqlite, "rebind", "mine")
    assert (1, True) == (refused.code, "'ops' is not a known policy" in refused.err)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "No such file"),
        ("", "is empty"),
        (BROKEN, 'policies.ops.levels[0].after: is "5 minutes"; write 5m'),
        ("policies: &a {ops: *a}", "policies"),
        (paging("x") + "policies: {}\n", "occurs twice"),
        ("#" * 300_000, "is longer than 256 KiB"),
        (paging("nobody"), "nobody"),
        (paging("oncall:primry"), "primry"),
    ],
    ids=["missing", "empty", "wrong", "cyclic", "twice", "huge", "an unknown target", "an unknown schedule"],
)
def test_bad_file(on_sqlite: Console, tmp_path: Path, text: str | None, part: str) -> None:
    """A faulty file stops a worker's start, and no command that answers an incident."""
    file = tmp_path / "policies.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    on_sqlite.env |= {"ESC_POLICIES": str(file), "ESC_TARGETS": '{"slack:ops": "https://hooks.example.test/s3cret"}'}
    refused = on_sqlite("run")
    assert (1, "") == (refused.code, refused.out)
    assert part in refused.err
    for command in (["open", "k", "--first-seen", ago(60)], ["ack", "k"], ["show", "k"], ["list"], ["unack", "k"]):
        said = on_sqlite(*command)
        assert (0, True) == (said.code, part in said.err.replace('\\"', '"')), said
        assert "s3cret" not in said.err
    # A scheduler's tick escalates by the built-in policy: a late page is better than none.
    assert 1 == on_sqlite("tick", "--record-only", "--json").json["escalations"]
    said = on_sqlite("health", "--json")
    assert part in said.json["policies"]["fault"]
    assert any(part in warning for warning in said.json["warnings"])
    assert 1 == on_sqlite("config", "check").code


def test_a_worker_that_starts_ignores_sighup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGHUP before the worker handles it does not end the process: the worker reads the file when it starts."""
    found: list[object] = []
    before = signal.getsignal(signal.SIGHUP)
    monkeypatch.setenv("ESC_POLICIES", "policies.yaml")
    monkeypatch.setattr(Context, "run", lambda *_, **__: found.append(signal.getsignal(signal.SIGHUP)))
    try:
        assert 0 == CliRunner().invoke(cli, ["run"]).exit_code
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [signal.SIG_IGN] == found
