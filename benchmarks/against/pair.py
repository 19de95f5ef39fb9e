"""One run of a workload: a process of each side, which take turns."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

from ..ground import ROOT, Ground
from .sources import Sources
from .workload import Workload

MAX_SECONDS = 300
"""How long one run may take."""
Figures = dict[str, list[float]]
"""The figures of a side by name, in the order of the blocks."""


@attrs.define
class LeftOut(Exception):
    """Why a workload has no figures."""

    why: str
    fault: bool
    """Whether this tree is at fault."""


@attrs.frozen(kw_only=True)
class Side:
    """The process of one side."""

    process: "subprocess.Popen[str]"
    this: bool
    """Whether the library is this tree's."""
    errors: IO[bytes]
    """What the process writes to stderr."""
    figures: Figures = attrs.field(factory=dict)

    def ready(self) -> bool:
        """Wait until the process is ready for its next block; return False if there is none."""
        return bool(self._answer() == "ready")

    def go(self) -> None:
        """Let the process run its next block, and note the figures."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the process has ended; its answer reports why
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        for name, value in self._answer()["figures"].items():
            self.figures.setdefault(name, []).append(value)

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").strip().splitlines()
            late = code < 0 and f"it took longer than {MAX_SECONDS} s, or was killed"
            raise self._left_out(late or f"it does not run: {last[-1] if last else f'exit code {code}'}")
        answer = json.loads(line)
        if "lacks" in answer:
            raise self._left_out(f"what it measures is not there: {answer['lacks']}")
        return answer

    def _left_out(self, why: str) -> LeftOut:
        return LeftOut(f"{'in this tree' if self.this else 'at the other commit'}, {why}", fault=self.this)


def run_pair(
    one: Workload, module: str, sources: Sources, ground: Ground | None, number: int
) -> tuple[Figures, Figures]:
    """Run a workload on both sides, block by block in turns; return the figures of this tree and of the other commit.

    The side that begins alternates: A B, B A, and so on.
    """
    with contextlib.ExitStack() as stack:
        sides = [
            stack.enter_context(_started(one, module, source, sources.scratch, ground, number))
            for source in (sources.this, sources.other)
        ]

        def kill() -> None:
            for side in sides:
                side.process.kill()

        timer = threading.Timer(MAX_SECONDS, kill)
        stack.callback(timer.cancel)
        timer.start()
        for turn in itertools.count(number):
            ready = [side.ready() for side in sides]
            if not all(ready):
                break
            for side in sides if turn % 2 == 0 else reversed(sides):
                side.go()
        return sides[0].figures, sides[1].figures


@contextlib.contextmanager
def _started(
    one: Workload, module: str, source: Path, scratch: Path, ground: Ground | None, number: int
) -> Iterator[Side]:
    path = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    # The same hashes on both sides of a pair, others in the next pair: a lucky layout of a dict favours no side.
    environment = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": str(number)}
    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        tempfile.TemporaryFile(dir=scratch) as errors,
        ground.empty() if one.postgres and ground else contextlib.nullcontext("") as dsn,
    ):
        command = [sys.executable, "-m", "benchmarks.against.measure", str(source), module, one.name, folder, dsn]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=-1, stdout=-1, stderr=errors, text=True)
        try:
            yield Side(process=process, this=source.parent.name == "this", errors=errors)
        finally:
            process.kill()
            process.communicate()
