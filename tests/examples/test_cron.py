"""The plain script with cron, from an empty database to a page, and back to nothing of the library."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from .hosting import EXAMPLES, KEPT, TIMEOUT, Programs, Receiver

README = (EXAMPLES / "cron/README.md").read_text(encoding="utf-8")
GUIDE = (EXAMPLES.parent / "docs/how-to/cron.md").read_text(encoding="utf-8")
[ATTACH] = re.findall(r"^escalation (migrate attach .*)$", README, re.MULTILINE)
[DETACH] = re.findall(r"^escalation (migrate detach --drop-tables)", README, re.MULTILINE)
[CRON] = re.findall(r"^\* \* \* \* \*  (.*)$", GUIDE, re.MULTILINE)
LATE = (datetime.now(UTC) - timedelta(minutes=6)).isoformat()
"""The start of a run whose incident is due at once: a critical one must be acknowledged in five minutes."""
Catalogue = Callable[[str], frozenset[str]]


def rows(dsn: str, query: LiteralString) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def cron(run: Programs, database: str, receiver: Receiver) -> Programs:
    """The example's programs, with its tables in the database."""
    with psycopg.connect(database) as connection:
        connection.execute((EXAMPLES / "cron/schema.sql").read_bytes())
    return run.of(
        "cron", ESC_DATABASE_URL=database, ESC_TARGETS=json.dumps({"ops": receiver.url}), ESC_ALLOW_HTTP="true"
    )


@pytest.fixture
def attached(cron: Programs) -> Programs:
    """The example's programs, after the attach of its README."""
    cron("escalation", *shlex.split(ATTACH))
    return cron


def test_page_comes_once_until_acknowledged(attached: Programs, receiver: Receiver, database: str) -> None:
    """A failed run pages at the next tick, and only then; plain SQL acknowledges it, and it escalates no more."""
    attached("report.py", "failed", "backup", "--message", "disk full", "--started", LATE)
    assert 1 == attached("tick.py").json["delivery"]["delivered"]
    again = attached("tick.py").json

    [page] = receiver.wait_for(1)
    assert "POST" == page.method
    assert "disk full" in page.body["text"]
    assert page.headers["X-Dedup-Key"]
    assert (0, 0) == (again["escalations"], again["delivery"]["sent"])

    attached("report.py", "acknowledge", "backup", "--by", "primary")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE incidents SET since = since - interval '1 hour'")
    assert 0 == attached("tick.py").json["escalations"]
    assert [("primary", 1)] == rows(database, "SELECT acknowledged_by, escalation_level FROM incidents")
    assert 1 == len(receiver.requests)


def test_verb_and_row_are_rolled_back_together(attached: Programs, database: str) -> None:
    """A run that is recorded already is refused, and its incident is not opened either."""
    attached("report.py", "succeeded", "backup", "--started", LATE)
    refused = attached("report.py", "failed", "backup", "--started", LATE, code=1)

    assert "runs_pkey" in refused.err
    assert [] == rows(database, "SELECT FROM incidents")
    assert [] == rows(database, "SELECT FROM escalation_audit WHERE action = 'open'")
    attached("report.py", "failed", "backup")
    assert [("report.py",)] == rows(database, "SELECT actor FROM escalation_audit WHERE action = 'open'")


def test_succeeded_run_ends_the_incident(attached: Programs, receiver: Receiver, database: str) -> None:
    """A run that succeeds resolves the incident; the next failed run begins another episode, and pages again."""
    attached("report.py", "failed", "backup", "--started", LATE)
    attached("tick.py")
    attached("report.py", "succeeded", "backup")
    assert 0 == attached("tick.py").json["escalations"]
    attached("report.py", "failed", "backup", "--started", (datetime.now(UTC) - timedelta(minutes=7)).isoformat())
    assert 1 == attached("tick.py").json["delivery"]["delivered"]

    first, second = receiver.wait_for(2)
    assert first.headers["X-Dedup-Key"] != second.headers["X-Dedup-Key"]


def test_dead_page_is_an_error(attached: Programs) -> None:
    """Where no target takes an escalation, cron gets exit code 1 and the report."""
    attached("report.py", "failed", "backup", "--started", LATE)
    done = attached(
        "tick.py", env={"ESC_TARGETS": '{"ops": "https://127.0.0.1:1", "other": "https://127.0.0.1:1"}'}, code=1
    )
    assert 1 == done.json["dead_pages"]


@pytest.mark.parametrize("program", [("tick.py",), ("report.py", "failed", "backup")], ids=" ".join)
def test_database_without_an_attach(cron: Programs, program: tuple[str, ...]) -> None:
    """Before the attach each program ends with one line that names the command, and with exit code 1."""
    done = cron(*program, code=1)
    [line] = done.err.splitlines()
    assert line.startswith(f"{program[0]}: schema 'public' is not migrated; ")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither cron nor sh, which run the line")
def test_line_for_cron(attached: Programs, receiver: Receiver, tmp_path: Path) -> None:
    """The guide's line ticks as cron runs it: by ``sh``, with little in its environment but what the file sets."""
    attached("report.py", "failed", "backup", "--started", LATE)
    for file in EXAMPLES.joinpath("cron").glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cron.env").write_text("".join(f"{name}='{value}'\n" for name, value in attached.env.items()))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)

    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    done = subprocess.run(
        ["sh", "-c", CRON.replace("/opt/nightly", shlex.quote(str(tmp_path)))],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SHELL": "/bin/sh", **kept},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert 1 == json.loads((tmp_path / "tick.log").read_text())["escalations"]
    assert 1 == len(receiver.wait_for(1))


def test_detach_leaves_what_was_there(cron: Programs, database: str, catalogue: Catalogue) -> None:
    """Attach, page, detach: the database has the objects that it had, and the host's rows stay."""
    before = catalogue(database)
    cron("escalation", *shlex.split(ATTACH))
    cron("report.py", "failed", "backup", "--started", LATE)
    cron("tick.py")
    assert before != catalogue(database)
    with psycopg.connect(database) as connection:
        # A detach waits for two tick intervals after the last tick, so that no worker is running.
        connection.execute("UPDATE escalation_workers SET ticked_at = ticked_at - interval '5 minutes'")

    cron("escalation", *shlex.split(DETACH), "--yes")

    assert before == catalogue(database)
    assert [("backup", "critical")] == rows(database, "SELECT job, severity FROM incidents")
    assert [("backup",)] == rows(database, "SELECT job FROM runs")
