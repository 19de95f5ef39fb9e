"""Open a file and bring it up to date, begin its transactions, and detect that it was replaced or removed."""

import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from escalation_core import StoreNotReady, StoreRefused

from .codec import micros
from .session import translated

APPLICATION_ID = 0x45534341
"""The application id in the header of this library's files ("ESCA")."""
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's transaction before the file counts as unavailable."""
LOOK_AGAIN_SECONDS = 0.010
"""Seconds that a process which waits to write sleeps between two attempts."""


class File:
    """The identity of the files that a path led to when it was opened: the database, its log and its shared memory.

    A process that has these files open goes on writing to them after they were replaced or removed, and no other
    process sees those writes. SQLite itself replaces its log and shared memory only once no process has them open.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._known: dict[Path, tuple[int, int]] = {}

    def know(self) -> None:
        """Record the identity of the files, just after they were opened."""
        self._path = self._path.absolute()
        # SQLite puts the log and the shared memory beside the file that a symbolic link leads to.
        file = self._path.resolve()
        beside = (file.with_name(f"{file.name}-{end}") for end in ("wal", "shm"))
        # A database in memory has no files.
        self._known = {path: there for path in (self._path, *beside) if (there := _identity(path)) is not None}

    def check(self) -> None:
        """Raise StoreNotReady unless the path leads to the same files."""
        for path, known in self._known.items():
            if _identity(path) != known:
                raise StoreNotReady(
                    f"{path} was replaced or removed while it was open: this process no longer reads or writes it;"
                    " put the file back, or restart with the new one"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: str, clock: Callable[[], datetime]) -> sqlite3.Connection:
    """Open or create a file, and bring it to this library's version.

    Raises:
        StoreNotReady: the file is not a database of this library, or is of a newer version.
        StoreUnavailable: another process keeps the file locked, or the disk fails.
        StoreRefused: SQLite cannot open the file.
    """
    with translated():
        try:
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        except ValueError:
            raise StoreRefused("SQLite refuses: the path holds a character that no file's name may hold") from None
        try:
            _prepare(connection, path, clock)
        except BaseException:
            connection.close()
            raise
        return connection


def begin_reading(connection: sqlite3.Connection) -> None:
    """Begin a transaction that reads one snapshot, and cannot write."""
    connection.execute("PRAGMA query_only = ON")
    connection.execute("BEGIN")


def begin_writing(connection: sqlite3.Connection) -> None:
    """Begin a transaction that writes, once no other process has one.

    SQLite's busy handler retries less often over time, in the end ten times a second. Beside processes that write one
    transaction after another, the process that has waited longest could wait for several seconds more.
    """
    until = time.monotonic() + BUSY_TIMEOUT
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                    raise
            else:
                return
            time.sleep(LOOK_AGAIN_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")


def _prepare(connection: sqlite3.Connection, path: str, clock: Callable[[], datetime]) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    begin_writing(connection)
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if (tables or application) and application != APPLICATION_ID:
            raise StoreNotReady(f"{path} is another program's database; name another file")
        steps = _steps()
        if version > len(steps):
            raise StoreNotReady(
                f"{path} is at version {version} and this library supports {len(steps)}; update escalation-core"
            )
        for step in steps[version:]:
            for statement in step.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        if version < len(steps):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(steps)}")
            connection.execute("INSERT OR IGNORE INTO escalation_meta VALUES ('made_at', ?)", (micros(clock()),))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA journal_mode = WAL")
    # The first read creates the log and the shared memory, unless another process has them open.
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    # 16 MB of page cache, and 16 MB of log before a checkpoint: SQLite's defaults are meant for small devices.
    connection.execute("PRAGMA cache_size = -16000")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")


def _steps() -> list[str]:
    """Return the SQL files that bring an empty database to this library's version, one file per version."""
    folder = files(__package__) / "schema"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [entry.read_text(encoding="utf-8") for entry in found]
