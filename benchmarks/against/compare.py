"""Measure each workload on both sides in turns, and report medians and ratios."""

import contextlib
import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from escalation_adapters.embedded import EmbeddedPostgres

from ..ground import ROOT, Ground
from ..results import machine, median_ratio, spread
from .pair import Figures, LeftOut, run_pair
from .sources import sources
from .workload import Workload, workloads_of

WORKLOADS = "benchmarks.against.workloads"
MAX_RUNS = 99
# No work of the server's own during a measurement. Without fsync (the server's default here), the disk does not count.
QUIET = ("autovacuum = off", "checkpoint_timeout = '1h'", "max_wal_size = '8GB'")


@attrs.frozen(kw_only=True)
class Figure:
    """One figure of a workload, with a value for each run."""

    workload: str
    name: str
    this: Sequence[float]
    """The median of the blocks of this tree, in microseconds a row."""
    other: Sequence[float]
    """The same of the other commit."""
    ratios: Sequence[float]
    """The median of the quotients of neighbouring blocks: a machine that slows down in a run does not change it."""


def figures_of(workload: str, pairs: Sequence[tuple[Figures, Figures]]) -> list[Figure]:
    """Return the figures of a workload from the blocks of each run."""
    return [
        Figure(
            workload=workload,
            name=name,
            this=[statistics.median(this[name]) for this, _ in pairs],
            other=[statistics.median(other[name]) for _, other in pairs],
            ratios=[median_ratio(this[name], other[name]) for this, other in pairs],
        )
        for name in pairs[0][0]
    ]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval that misses the true median in at most 1 of 20 comparisons, whatever the distribution.

    With fewer than six values there is none: the result is the least and the greatest value.
    """
    ordered, cut, count = sorted(values), 0, len(values)
    while 2 * sum(math.comb(count, below) for below in range(cut + 2)) / 2**count <= 0.05:
        cut += 1
    return ordered[cut], ordered[count - 1 - cut]


def run(
    revision: str, *, runs: int = 9, chosen: Sequence[str] = (), as_json: bool = False, root: Path = ROOT,
    module: str = WORKLOADS,
) -> int:  # fmt: skip
    """Compare this tree with a commit, print the result, and return the exit code: 1 if this tree fails a workload."""
    if not 1 <= runs <= MAX_RUNS:
        raise SystemExit(f"--runs: is {runs}; give 1 to {MAX_RUNS}")
    workloads = choose(workloads_of(importlib.import_module(module)), chosen)
    progress_to = Console(stderr=True)
    figures: list[Figure] = []
    left_out: dict[str, LeftOut] = {}
    columns = (SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn(), TextColumn(""))
    with (
        sources(root, revision) as sides,
        server(workloads) as ground,
        Progress(*columns, console=progress_to, transient=True, disable=not progress_to.is_terminal) as progress,
    ):
        task = progress.add_task("", total=len(workloads) * runs)
        about = machine(ground.version if ground else 0)
        for number, one in enumerate(workloads):
            began = time.monotonic()
            try:
                pairs = []
                for pair in range(runs):
                    progress.update(task, description=f"{one.name}, pair {pair + 1} of {runs}")
                    pairs.append(run_pair(one, module, sides, ground, pair))
                    progress.advance(task)
            except LeftOut as reason:
                left_out[one.name] = reason
                done = "left out"
            else:
                figures += figures_of(one.name, pairs)
                done = "measured"
            progress_to.print(f"{one.name}: {done} in {time.monotonic() - began:.0f} s", highlight=False)
            progress.update(task, completed=(number + 1) * runs)
    if as_json:
        against = {"revision": revision, "commit": sides.commit}
        print(json.dumps(whole(against, runs, figures, left_out) | {"machine": about}, indent=2))
    else:
        show(f"{revision} ({sides.commit[:8]})", runs, figures, left_out)
    return int(any(reason.fault for reason in left_out.values()))


def choose(found: Mapping[str, Workload], chosen: Sequence[str]) -> list[Workload]:
    """Return the workloads whose names contain one of the texts; all if there is no text."""
    workloads = [one for name, one in found.items() if not chosen or any(text in name for text in chosen)]
    if not workloads:
        raise SystemExit(f"-k: no workload's name contains {' or '.join(chosen)}; there are: {', '.join(found)}")
    return workloads


@contextlib.contextmanager
def server(workloads: Sequence[Workload]) -> Iterator[Ground | None]:
    """Start a PostgreSQL on the loopback interface, if a workload needs one."""
    if not any(one.postgres for one in workloads):
        yield None
        return
    with EmbeddedPostgres.start() as postgres:
        ground = Ground(postgres)
        ground.set(*QUIET)
        yield ground


def whole(
    against: Mapping[str, str], runs: int, figures: Sequence[Figure], left_out: Mapping[str, LeftOut]
) -> dict[str, Any]:
    """Return the comparison for machines."""
    found: dict[str, dict[str, Any]] = {}
    for one in figures:
        low, high = interval(one.ratios)
        found.setdefault(one.workload, {})[one.name] = {
            "this": spread(one.this),
            "other": spread(one.other),
            "ratio": spread(one.ratios) | {"from": low, "to": high},
        }
    return {
        "against": against,
        "runs": runs,
        "unit": "microseconds a row",
        "workloads": found,
        "left_out": {name: reason.why for name, reason in left_out.items()},
    }


def show(against: str, runs: int, figures: Sequence[Figure], left_out: Mapping[str, LeftOut]) -> None:
    """Print the comparison as a table."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("workload", "µs a row", title=f"This tree against {against}; medians, runs in turns: {runs}")
    for column in ("this tree", "other", "ratio", "95 % interval" if runs > 5 else "least to greatest"):
        table.add_column(column, justify="right")
    for one in figures:
        low, high = interval(one.ratios)
        medians = [f"{statistics.median(side):.2f}" for side in (one.this, one.other)]
        ratio = f"{statistics.median(one.ratios):.3f}"
        table.add_row(one.workload, one.name, *medians, ratio, f"{low:.3f} to {high:.3f}")
    if figures:
        console.print(table)
        console.print("A ratio above 1 means that this tree takes longer.", highlight=False)
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason.why}", highlight=False, soft_wrap=True)
