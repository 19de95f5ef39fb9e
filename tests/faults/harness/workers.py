"""Worker processes as a test handles them: started, killed, stopped, let go on, ended."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from time import time
from typing import Protocol

import attrs

from .worker import READY, Spec, main, write

STATE_TIMEOUT = 60.0
"""Seconds that a worker may take to start, to stop or to end, on a machine that has other work."""


class Process(Protocol):
    """What there is to know of a process."""

    @property
    def pid(self) -> int | None: ...

    @property
    def exitcode(self) -> int | None: ...


@attrs.frozen
class Program:
    """A process that was started as a program, with an environment of its own."""

    popen: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, spec: Spec, environment: Mapping[str, str]) -> "Program":
        """Start a worker as a program."""
        command = [sys.executable, "-m", "tests.faults.harness.worker", write(spec)]
        folders = [environment.get("PYTHONPATH", ""), str(Path(__file__).parents[3])]
        given = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
        with Path(spec.log).open("ab") as log:
            return cls(subprocess.Popen(command, env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    @property
    def pid(self) -> int | None:
        return self.popen.pid

    @property
    def exitcode(self) -> int | None:
        return self.popen.poll()


@attrs.define
class Worker:
    """One process."""

    spec: Spec
    process: Process

    @classmethod
    def start(cls, spec: Spec, forks: ForkServerContext) -> "Worker":
        """Start it; it is not ready yet."""
        process = forks.Process(target=main, args=(spec,), daemon=True)
        process.start()
        return cls(spec, process)

    @property
    def name(self) -> str:
        """What it is called in the database, at the receiver, and in the list of faults."""
        return self.spec.name

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.process.exitcode is None

    @property
    def text(self) -> str:
        """Everything that it has written."""
        log = Path(self.spec.log)
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    async def until_ready(self) -> None:
        """Wait until it works."""
        end = time() + STATE_TIMEOUT
        while READY not in self.text:
            if not self.alive or time() > end:
                raise RuntimeError(f"worker {self.name} did not start:\n{self.text[-3000:]}")
            await asyncio.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone needs none."""
        if self.alive and self.process.pid is not None:
            os.kill(self.process.pid, number)

    async def gone(self) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        end = time() + STATE_TIMEOUT
        while self.process.exitcode is None:
            if time() > end:
                self.kill()
                raise RuntimeError(f"worker {self.name} does not end:\n{self.text[-3000:]}")
            await asyncio.sleep(0.005)
        return self.process.exitcode

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, also if it is stopped."""
        self.signal(signal.SIGKILL)

    async def stopped(self) -> None:
        """Wait until it has been stopped by itself."""
        end = time() + STATE_TIMEOUT
        while _state(self.process.pid) != "T":
            if not self.alive or time() > end:
                raise RuntimeError(f"worker {self.name} did not stop:\n{self.text[-3000:]}")
            await asyncio.sleep(0.002)


def _state(pid: int | None) -> str:
    """Return what the system says of a process: T if it is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except OSError:
        return "gone"
