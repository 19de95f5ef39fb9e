"""The form of a workload, and the meter that it gets. A workload is one function with the decorator ``workload``."""

import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import attrs


@attrs.frozen
class Meter:
    """Measures blocks of a workload when the comparison starts them, in microseconds for each row.

    The processes of both sides take turns, block by block. So a machine that is slower for a second or more slows both.
    """

    folder: Path
    """An empty folder, removed after the run."""
    dsn: str
    """The DSN of an empty database, removed after the run; empty text if the workload needs none."""

    @contextlib.contextmanager
    def measure(self, name: str = "", *, rows: int, backend: int | None = None) -> Iterator[None]:
        """Measure the block's wall time and CPU time: the latter is steadier on a busy machine.

        CPU time is that of this process, or of a backend of PostgreSQL if its process id is given. The time of another
        process is known on Linux alone; elsewhere a block with a backend has wall time only.
        """
        # As in ``escalation run``: the garbage collector skips the objects that exist by now.
        gc.collect()
        gc.freeze()
        print(json.dumps("ready"), flush=True)
        sys.stdin.readline()
        wall, cpu = time.perf_counter(), _cpu_seconds(backend)
        yield
        used, wall = _cpu_seconds(backend), time.perf_counter() - wall
        seconds = {} if cpu is None or used is None else {"CPU" if backend is None else "server CPU": used - cpu}
        seconds["wall"] = wall
        figures = {f"{name} {kind}".strip(): 1e6 * one / rows for kind, one in seconds.items()}
        print(json.dumps({"figures": figures}), flush=True)


def _cpu_seconds(backend: int | None) -> float | None:
    if backend is None:
        return time.process_time()
    try:
        return int(Path(f"/proc/{backend}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except OSError:
        return None


@attrs.frozen(kw_only=True)
class Workload:
    """A function that prepares rows, and measures what it does with them."""

    name: str
    run: Callable[[Meter], None]
    postgres: bool
    """Whether the function needs a database."""


def workload(*, postgres: bool = False) -> Callable[[Callable[[Meter], None]], Workload]:
    """Make a workload of a function.

    The function imports what it uses of the library in its body: a commit that lacks it lacks only this workload.
    """
    return lambda function: Workload(name=function.__name__.replace("_", "-"), run=function, postgres=postgres)


def workloads_of(module: ModuleType) -> dict[str, Workload]:
    """Return a module's workloads, by name."""
    return {value.name: value for value in vars(module).values() if isinstance(value, Workload)}
