"""Worker processes: start, kill, stop, resume and end them."""

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
"""Seconds that a worker may take to start, to stop or to end on a busy machine."""


class Process(Protocol):
    """A process with its id and its exit code."""

    @property
    def pid(self) -> int | None: ...

    @property
    def exitcode(self) -> int | None: ...


@attrs.frozen
class Program:
    """A worker process that runs as a program, with its own environment."""

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
    """One worker process."""

    spec: Spec
    process: Process

    @classmethod
    def start(cls, spec: Spec, forks: ForkServerContext) -> "Worker":
        """Start the process. It is not ready yet."""
        process = forks.Process(target=main, args=(spec,), daemon=True)
        process.start()
        return cls(spec, process)

    @property
    def name(self) -> str:
        """The worker's name in the database, at the receiver, and in the list of faults."""
        return self.spec.name

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.exitcode is None

    @property
    def text(self) -> str:
        """The text of the worker's log."""
        log = Path(self.spec.log)
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    async def until_ready(self) -> None:
        """Wait until the worker runs."""
        end = time() + STATE_TIMEOUT
        while READY not in self.text:
            if not self.alive or time() > end:
                raise RuntimeError(f"worker {self.name} did not start:\n{self.text[-3000:]}")
            await asyncio.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, unless it has ended."""
        if self.alive and self.process.pid is not None:
            os.kill(self.process.pid, number)

    async def until_ended(self) -> int:
        """Wait until the process ends. Return its exit code, negative for a signal."""
        end = time() + STATE_TIMEOUT
        while self.process.exitcode is None:
            if time() > end:
                self.kill()
                raise RuntimeError(f"worker {self.name} does not end:\n{self.text[-3000:]}")
            await asyncio.sleep(0.005)
        return self.process.exitcode

    def resume(self) -> None:
        """Let a stopped process continue."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process, even if it is stopped."""
        self.signal(signal.SIGKILL)

    async def until_stopped(self) -> None:
        """Wait until the process has stopped itself, see ``Interrupt``."""
        end = time() + STATE_TIMEOUT
        while _state(self.process.pid) != "T":
            if not self.alive or time() > end:
                raise RuntimeError(f"worker {self.name} did not stop:\n{self.text[-3000:]}")
            await asyncio.sleep(0.002)


def _state(pid: int | None) -> str:
    """Return the state of a process as in /proc: T if it is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except OSError:
        return "gone"
