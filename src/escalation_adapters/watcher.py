"""A watcher process, which ends servers after their owner has ended: a killed owner cannot end them itself.

This module has the owner's side, and is also the program of the watcher process.
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
"""How long a server may take to end, and its folder to vanish, before the watcher kills it."""


class Watcher:
    """Starts a watcher process, which ends the servers and removes their folder after this process has ended.

    The watcher reads a pipe from this process, which the system closes when this process ends. The watcher has a
    session of its own, so that a signal to this process's group misses it. On Windows there is no watcher.
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
        """The watcher's process id, None on Windows."""
        return None if self._process is None else self._process.pid

    def watch(self, server: int, how: signal.Signals) -> None:
        """Register a server's process, and the signal that ends it."""
        self._tell(server, how)

    def forget(self, server: int) -> None:
        """Remove a server's process, which has ended."""
        self._tell(server, 0)

    def end(self) -> None:
        """End the watcher, which first ends the servers that are still registered. A second call does nothing."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:  # a fork of this process holds the pipe, too
                self._process.kill()
                self._process.wait()

    def _tell(self, server: int, how: int) -> None:
        if self._process is not None and self._process.stdin is not None:
            # Without a watcher that was killed, all else works on.
            with suppress(BrokenPipeError):
                self._process.stdin.write(f"{server} {int(how)}\n".encode())


def main(folder: Path) -> None:
    """Read the registered servers until the owner has ended; then end the servers that are left."""
    servers: dict[int, int] = {}
    for line in sys.stdin:
        server, how = map(int, line.split())
        servers[server] = how
        if not how:
            del servers[server]
    for server, how in servers.items():
        _send(server, how)
        _send(server, signal.SIGCONT)  # a stopped process handles no other signal
    until = time.monotonic() + STOP_TIMEOUT_SECONDS
    while time.monotonic() < until and any(_send(server, 0) for server in servers):
        time.sleep(0.05)
    for server in servers:
        _send(server, signal.SIGKILL)
    until = time.monotonic() + STOP_TIMEOUT_SECONDS
    # A program of the owner may still be writing the folder.
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
