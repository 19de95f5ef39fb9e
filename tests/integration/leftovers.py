"""What is left of a program that starts a server: a judge for tests."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 20
"""Within which everything is gone, on a machine that has other work."""


def leaves_nothing(program: str, *arguments: str, killed: bool) -> None:
    """Run a program that starts ``server``, let it end or kill it, and check that nothing is left of the server."""
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
        time.sleep(0.02)  # these are not this process's children: it cannot wait for them, only ask again
        # A PostgreSQL that misses its folder ends by itself, but up to a minute later.
        assert Path(folder).exists() or not there(server)


def there(pid: str) -> bool:
    """Tell whether there is such a process."""
    with suppress(ProcessLookupError):
        os.kill(int(pid), 0)
        return True
    return False
