"""A check that a program leaves neither a process nor a folder of the server that it started."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 20
"""Seconds within which the server, its folder and its watcher must be gone, even on a busy machine."""


def leaves_nothing(program: str, *arguments: str, killed: bool) -> None:
    """Run a program that starts ``server``, end or kill the program, and check that nothing is left of the server."""
    told = "\nprint(server.pid, server._watcher.pid, server.folder, flush=True)\nimport sys; sys.stdin.read()\n"
    command = [sys.executable, "-c", program + told + ("" if killed else "server.stop()\n"), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server, watcher, folder = owner.stdout.readline().split()
        assert all(map(there, (server, watcher)))
        assert Path(folder).exists()
        if killed:
            owner.send_signal(signal.SIGKILL)
        owner.communicate()
    end = time.monotonic() + SECONDS
    while Path(folder).exists() or there(watcher):
        assert time.monotonic() < end
        time.sleep(0.02)  # they are not children of this process: only polling shows their end
        # The server must end before its folder goes: PostgreSQL without its folder ends up to a minute later.
        assert Path(folder).exists() or not there(server)


def there(pid: str) -> bool:
    """Return True if a process with this id exists."""
    with suppress(ProcessLookupError):
        os.kill(int(pid), 0)
        return True
    return False
