"""``escalation tail`` as people and programs use it: live lines, an outage of PostgreSQL, Ctrl-C and closed pipes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from escalation_adapters.embedded import EmbeddedPostgres

from ..postgres import own_server
from .console import PROGRAM, TIMEOUT, Console, environment, one_line, start, told, url_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process alone")

IMPATIENT = "from escalation_adapters.postgres import pool; pool.CONNECT_TIMEOUT = 1.0"


@contextmanager
def tailing(*options: str, env: Mapping[str, str], code: str | None = None) -> "Iterator[subprocess.Popen[str]]":
    """Start ``escalation tail``; kill it at the end, if it still runs."""
    with start("tail", *options, env=env, code=code) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def interrupt(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Send Ctrl-C; return the exit code and the rest of standard error."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, err


def test_new_entries_come_as_they_happen(escalation: Console) -> None:
    """Each entry is one line with tabs, in the order of ``audit``'s columns. Ctrl-C ends the command with code 0."""
    told(escalation("open", "first", "--by", "ada"))
    with tailing(env=escalation.env) as process:
        assert ["open", "first", "1", "0", "ada", "", ""] == next_line(process).split("\t")[1:]
        told(escalation("ack", "first", "--by", "bob", "--reason", "on\tit"))
        assert ["acknowledge", "first", "1", "0", "bob", "", r"on\tit"] == next_line(process).split("\t")[1:]
        assert (0, "") == interrupt(process)


def test_json_lines(on_sqlite: Console) -> None:
    """With --json each line is one JSON object, as in ``audit --json``."""
    told(on_sqlite("open", "ключ", "--by", "ada"))
    with tailing("--json", env=on_sqlite.env) as process:
        assert on_sqlite("audit", "--json").json == [json.loads(next_line(process))]
        assert (0, "") == interrupt(process)


def test_closed_pipe(on_sqlite: Console) -> None:
    """If the reader closes the pipe, the next entry ends the command, without a word."""
    told(on_sqlite("open", "k"))
    with tailing(env=on_sqlite.env) as process:
        next_line(process)
        assert process.stdout is not None
        process.stdout.close()
        told(on_sqlite("ack", "k"))
        assert 1 == process.wait(TIMEOUT)
        assert process.stderr is not None
        assert "" == process.stderr.read()


@pytest.mark.parametrize("command", ["audit", "show k"])
def test_pipes_of_other_commands(on_sqlite: Console, command: str) -> None:
    """A command whose pipe closes early says nothing on standard error."""
    for number in range(50):
        told(on_sqlite("open", "k", "--summary", f"{number}" * 1000))
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {command} --json | head -n 1', "sh", *PROGRAM],
        env=environment(on_sqlite.env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_no_database_at_the_start(tmp_path: Path, console: Console) -> None:
    """If the database is missing at the start, the command refuses, as others do."""
    assert "is not there" in one_line(console("tail", ESC_DATABASE_URL=f"sqlite:///{tmp_path / 'missing.db'}"))


@own_server
@pytest.mark.direct("it stops the server itself")
def test_postgres_goes_away(console: Console) -> None:
    """While PostgreSQL is down, the command says so once; afterwards it says so, and prints each entry once."""
    with EmbeddedPostgres.start() as server:
        console.env["ESC_DATABASE_URL"] = url_of(server.dsn())
        assert 0 == console("migrate", "up", "--create").code
        told(console("open", "before", "--by", "ada"))
        with tailing(env=console.env, code=IMPATIENT) as process:
            assert process.stderr is not None
            assert "before" in next_line(process)
            server.crash()
            gone = process.stderr.readline()
            assert gone.startswith("escalation: PostgreSQL ")
            assert gone.endswith("; trying again\n")
            server.restart()
            told(console("open", "after", "--by", "ada"))
            assert "after" in next_line(process)
            told(console("ack", "after"))
            assert "acknowledge\tafter" in next_line(process)
            assert (0, "escalation: the database answers again\n") == interrupt(process)
