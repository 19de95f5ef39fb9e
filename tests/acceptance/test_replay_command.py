"""The replay command: its output, the files it writes, and the contents of the database after it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.postgres.scratch import scratch_store
from escalation_adapters.replay import read_events, replay
from escalation_core import Engine
from escalation_core.model import LevelOutcome
from escalation_core.testing import ManualClock

from .console import PROGRAM, Console, finish, one_line, program, start, url_of
from .reference import instant
from .replaying import DAY, GOOD, HEADER, at, log_of, write

# --- output


def test_json(console: Console, tmp_path: Path) -> None:
    """With --json the command prints counts per event and level, the span, and every row that it left out."""
    log = write(tmp_path, log_of((0, "a", "opened", "critical"), (5, "b", "opened", ""), (5, "a", "reopened", "")))
    said = console("replay", log, "--store", "memory", "--json")
    assert {
        "events": 3,
        "played": {"opened": 2},
        "incidents": 2,
        "escalations": 1,
        "levels": {"1": 1},
        "policies": {"builtin": 1},
        "outcomes": {},
        "first": "2025-03-14T00:00:00+00:00",
        "last": "2025-03-14T00:05:00+00:00",
        "unusable": [],
        "refused": [
            {"line": 4, "reason": "cannot reopen incident 'a': it is open; only a resolved incident is reopened"}
        ],
    } == said.json


POLICIES = """
policies:
  ops:
    levels:
      - {after: 0m, to: ["oncall:night"]}
      - {after: 5m, to: ["oncall:day", "slack:leads"]}
      - {after: 10m, to: ["oncall:team"]}
  page: {levels: [{after: 1m, to: ["oncall:day"]}]}
assign:
  - {policy: page}
  - {severity: critical, policy: ops}
hours:
  day: {zone: UTC, windows: [{from: "08:00", to: "20:00"}]}
schedules:
  night: {rotation: {zone: UTC, start: 2025-03-14T08:00, turn: 1d, people: [ann], hours: day}}
  day: {rotation: {zone: UTC, start: 2025-03-01T08:00, turn: 1d, people: [bob], hours: day}}
  team: {ical: team.ics}
people: {ann: "slack:@ann", bob: "email:bob@example.org"}
"""


def test_policies_and_people_on_call(console: Console, tmp_path: Path) -> None:
    """A replay goes by the policies file and its rotations, and reads no calendar: that level pages in its place."""
    (tmp_path / "policies.yaml").write_text(POLICIES)
    log = write(
        tmp_path,
        log_of((0, "a", "opened", "critical"), (2, "b", "opened", "warning"), (60, "a", "acknowledged", "")),
    )
    files = {"ESC_POLICIES": str(tmp_path / "policies.yaml"), "ESC_DEFAULT_TARGET": "slack:ops"}
    said = console("replay", log, "--store", "memory", "--out", tmp_path / "out.csv", **files)
    assert "calendars say who is on call now, and not in the past, so they are not read: team" in said.err
    assert [
        "3 events about 2 incidents, 2025-03-14 00:00:00Z to 2025-03-14 01:00:00Z: 4 escalations",
        "level\tcount",
        "1\t2",
        "2\t1",
        "3\t1",
        "policy\tescalations",
        "ops\t3",
        "page\t1",
        "outcome\tlevels",
        "default\t1",
        f"{LevelOutcome.NOBODY}\t1",
        "no unusable rows",
        "no refused events",
    ] == said.lines
    assert [
        "at,incident_key,episode,level,policy,position,outcome",
        f"2025-03-14T00:00:00Z,a,1,1,ops,1,{LevelOutcome.NOBODY}",
        "2025-03-14T00:00:00Z,a,1,2,ops,2,",
        "2025-03-14T00:03:00Z,b,1,1,page,1,default",
        "2025-03-14T00:10:00Z,a,1,3,ops,3,",
    ] == (tmp_path / "out.csv").read_text().splitlines()
    assert {"nobody": 1, "default": 1} == console("replay", log, "--store", "memory", "--json", **files).json[
        "outcomes"
    ]


def test_a_faulty_policies_file_is_refused(console: Console, tmp_path: Path) -> None:
    """The replay does not go on by the built-in policy."""
    (tmp_path / "policies.yaml").write_text("policies: {ops: {levels: []}}")
    log = write(tmp_path, log_of((0, "a", "opened", "critical")))
    said = console("replay", log, "--store", "memory", ESC_POLICIES=str(tmp_path / "policies.yaml"))
    assert 1 == said.code
    assert "policies.ops.levels" in said.err


def test_for_people(console: Console, tmp_path: Path) -> None:
    """Without --json the command prints the same in lines, and lists unusable rows and refused events separately."""
    log = write(tmp_path, f"{HEADER}\n{instant(at(0))},a,resolved,\nrubbish\n{GOOD}")
    assert [
        "3 events about 3 incidents, 2025-03-14 00:00:00Z to 2025-03-14 00:09:00Z: 1 escalations",
        "level\tcount",
        "1\t1",
        "unusable row, line\treason",
        "3\trow: has 1 cells; give 4, as the header has",
        "refused event, line\treason",
        "2\tcannot resolve incident 'a': it is unknown; open it first",
    ] == console("replay", log, "--store", "memory").lines


def test_as_a_program(tmp_path: Path) -> None:
    """Started as a program, the command writes the file given with --out, and prints nothing on stderr."""
    log, out = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "out.csv"
    said = program("replay", log, "--store", "memory", "--out", out)
    assert (0, "") == (said.code, said.err)
    assert 2 == len(out.read_bytes().splitlines())


# --- files


def test_sqlite_file_is_kept(console: Console, tmp_path: Path) -> None:
    """A replay keeps its SQLite file; it refuses a file that is not empty, and leaves that file unchanged."""
    log, file = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "replay.db"
    file.touch()
    assert 0 == console("replay", log, "--store", f"sqlite:///{file}").code
    kept = file.read_bytes()
    assert kept
    told = one_line(console("replay", log, "--store", f"sqlite:///{file}"))
    assert f"{file} is not empty; a replay needs a new file" == told
    assert kept == file.read_bytes()


@pytest.mark.parametrize("url", ["mongodb://u:hunter2@h/d", "replay.db", "sqlite://replay.db", ""])
def test_no_such_store(console: Console, tmp_path: Path, url: str) -> None:
    """The command refuses an unknown kind of store in one line that does not repeat the URL."""
    told = one_line(console("replay", write(tmp_path, f"{HEADER}\n{GOOD}"), "--store", url))
    assert "hunter2" not in told


def test_store_that_cannot_be_looked_at(console: Console, tmp_path: Path) -> None:
    """The command reports a file name that the system refuses in one line."""
    log = write(tmp_path, f"{HEADER}\n{GOOD}")
    line = one_line(console("replay", log, "--store", f"sqlite:////tmp/{'x' * 300}"))
    assert "cannot be read: File name too long" in line


@pytest.mark.parametrize("name", ["no/out.csv", "file/out.csv", ".", "folder", "/", "o" * 300])
def test_out_cannot_be_written(console: Console, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If --out cannot be written, the command says so in one line and leaves no partial file."""
    log = write(tmp_path, f"{HEADER}\n{GOOD}")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert f"{name} cannot be written: " in one_line(console("replay", log, "--store", "memory", "--out", name))
    assert before == sorted(tmp_path.rglob("*"))


def test_out_replaces(console: Console, tmp_path: Path) -> None:
    """--out replaces an existing file, also through a link. If the log is bad, the file stays unchanged."""
    log, out, link = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "out.csv", tmp_path / "link.csv"
    out.write_text("precious", encoding="utf-8")
    link.symlink_to(out)
    one_line(console("replay", tmp_path / "none.csv", "--store", "memory", "--out", link))
    assert "precious" == out.read_text(encoding="utf-8")
    console("replay", log, "--store", "memory", "--out", link)
    assert link.is_symlink()
    assert f"at,incident_key,episode,level\r\n{instant(at(5))},good,1,1\r\n".encode() == out.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes with names in folders")
def test_out_is_a_pipe(console: Console, tmp_path: Path) -> None:
    """The command writes into a pipe given with --out, and does not replace the pipe by a file."""
    log, pipe, read = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    said = console("replay", log, "--store", "memory", "--out", pipe)
    reader.join(10)
    assert (0, True) == (said.code, pipe.is_fifo())
    assert [f"at,incident_key,episode,level\r\n{instant(at(5))},good,1,1\r\n".encode()] == read


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="only where there is such a file")
def test_out_to_where_the_rest_is_printed(tmp_path: Path) -> None:
    """With --out /dev/stdout and stdout in a file, the file holds the escalations and then the report."""
    log, said = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "said"
    with said.open("wb") as stdout:
        command = [*PROGRAM, "replay", str(log), "--store", "memory", "--out", "/dev/stdout"]
        subprocess.run(command, stdout=stdout, check=True, timeout=60)
    text = said.read_text(encoding="utf-8")
    assert text.startswith("at,incident_key,episode,level")
    assert "escalations" in text


# --- PostgreSQL's schema


def schemas(dsn: str) -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
        )
        return sorted(name for (name,) in rows)


def test_postgres_leaves_nothing(console: Console, pg_dsn: str, tmp_path: Path) -> None:
    """A replay on PostgreSQL works in its own schema, and drops the schema at its end."""
    log, out = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "out.csv"
    said = console("replay", log, "--store", url_of(pg_dsn), "--out", out)
    assert (0, "") == (said.code, said.err)
    assert 2 == len(out.read_bytes().splitlines())
    assert ["public"] == schemas(pg_dsn)


async def test_postgres_leaves_nothing_when_it_fails(pg_dsn: str, tmp_path: Path) -> None:
    """The replay drops its schema as well when it fails half-way."""
    events, _ = read_events(write(tmp_path, f"{HEADER}\n{GOOD}"))
    clock = ManualClock(DAY)
    seen: list[Any] = []

    def fail(done: int) -> None:
        seen.extend(schemas(pg_dsn))
        raise RuntimeError("half-way")

    async def work() -> None:
        async with scratch_store(pg_dsn, clock) as store:
            await replay(Engine(store, notifiers=[LogNotifier("replay")]), clock, events, progress=fail)

    with pytest.raises(RuntimeError, match="half-way"):
        await work()
    assert 2 == len(seen)
    assert ["public"] == schemas(pg_dsn)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_postgres_leaves_nothing_when_it_is_interrupted(pg_dsn: str, tmp_path: Path) -> None:
    """The replay drops its schema as well when the user presses Ctrl-C."""
    log = write(tmp_path, log_of(*((minute, f"k{minute}", "opened", "") for minute in range(50_000))))
    process = start("replay", log, "--store", url_of(pg_dsn))
    until = time.monotonic() + 20
    while 2 > len(schemas(pg_dsn)) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert 1 == said.code
    assert "Traceback" not in said.err
    assert ["public"] == schemas(pg_dsn)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_postgres_leaves_nothing_when_it_is_terminated(pg_dsn: str, tmp_path: Path) -> None:
    """The replay ends with code 1 on SIGTERM, as on Ctrl-C, and drops its schema."""
    log = write(tmp_path, log_of(*((minute, f"k{minute}", "opened", "") for minute in range(50_000))))
    process = start("replay", log, "--store", url_of(pg_dsn))
    until = time.monotonic() + 20
    while 2 > len(schemas(pg_dsn)) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert 1 == finish(process).code
    assert ["public"] == schemas(pg_dsn)
