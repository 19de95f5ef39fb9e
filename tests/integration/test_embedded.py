"""The throw-away server: that it comes up, survives, and leaves nothing behind."""

import os

import psycopg
import pytest

from escalation_adapters.embedded import CannotStart, EmbeddedPostgres


def test_a_crashed_server_comes_back_with_what_was_committed() -> None:
    """After a crash and a restart, committed rows are there, on the same port."""
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


def test_a_folder_without_programs_is_refused(tmp_path: os.PathLike[str]) -> None:
    """A folder that holds no PostgreSQL is an error, and nothing is left behind."""
    with pytest.raises((CannotStart, OSError)):
        EmbeddedPostgres.start(bin_dir=str(tmp_path))
