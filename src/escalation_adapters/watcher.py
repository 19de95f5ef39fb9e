"""A process that ends servers once their owner is gone, however it went: killed, it ends nothing itself any more.

This module is the owner's end of it, and the program that the process runs.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

STOP_TIMEOUT_SECONDS = 10.0
"""How long a server may take to end, and its folder to vanish, before force is used."""


class Watcher:
    """Watches this process from another one; if this one is gone, that ends its servers and removes their folder.

    The other process reads a pipe that this one holds open, which the system closes when this one ends. It is in a
    session of its own, so that a signal to the group of this one misses it. On Windows nothing watches.
    """

    def __init__(self, folder: Path) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform == "win32":
            return
        self._process = subprocess.Popen(  # noqa: S603 - this very file
            [sys.executable, "-I", "-S", __file__, str(folder)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    @property
    def pid(self) -> int | None:
        """The process that watches."""
        return None if self._process is None else self._process.pid

    def watch(self, server: int, how: signal.Signals) -> None:
        """Name a server's process, and the signal that ends it."""
        self._tell(server, how)

    def forget(self, server: int) -> None:
        """Take back a server's process, which has ended."""
        self._tell(server, 0)

    def end(self) -> None:
        """End the process that watches. Servers that were not taken back end as well. A second call does nothing."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:  # a process that was forked from this one holds the pipe, too
                self._process.kill()
                self._process.wait()

    def _tell(self, server: int, how: int) -> None:
        if self._process is not None and self._process.stdin is not None:
            # If somebody ended the process that watches, all else goes on without it.
            with suppress(BrokenPipeError):
                self._process.stdin.write(f"{server} {int(how)}\n".encode())


def main(folder: Path) -> None:
    """Read which servers there are until the owner is gone; then end those that are left."""
    servers: dict[int, int] = {}
    for line in sys.stdin:
        server, how = map(int, line.split())
        servers[server] = how
        if not how:
            del servers[server]
    for server, how in servers.items():
        _send(server, how)
        _send(server, signal.SIGCONT)  # one that stands still heeds nothing
    until = time.monotonic() + STOP_TIMEOUT_SECONDS
    while time.monotonic() < until and any(_send(server, 0) for server in servers):
        time.sleep(0.05)
    for server in servers:
        _send(server, signal.SIGKILL)
    until = time.monotonic() + STOP_TIMEOUT_SECONDS
    # A program that was preparing the folder may still be at it.
    while time.monotonic() < until and folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def _send(server: int, how: int) -> bool:
    """Send a signal; return whether the process is there."""
    try:
        os.kill(server, how)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
