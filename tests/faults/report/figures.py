"""The report: the figures of each run, their sums, and the table at the end of the test session."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from escalation_core import __version__
from escalation_core.testing.invariants import INVARIANTS
from escalation_core.testing.invariants.escalations import FAULT_BEFORE, NO_FAULT, lateness
from escalation_core.testing.invariants.history import KILL, History, Violation
from escalation_core.testing.invariants.phases import stops
from escalation_core.testing.invariants.recovery import recoveries

from ..harness.rules import Rules

Figures = dict[str, Any]
"""The figures of one run, as values that JSON can hold."""
NO_FAULT_RUN = "test_no_fault"
"""The name of the run without faults."""
COUNTS = ("incidents", "writes", "escalations", "pages", "requests", "copies")
LIMIT = Rules().lease + Rules().tick
"""Seconds within which a killed worker's pages are claimed again: a lease and a tick."""


def figures(
    name: str,
    seconds: float,
    server: str,
    history: History,
    violations: Sequence[Violation],
    measured: Mapping[str, int],
) -> Figures:
    """Return the figures of one run."""
    accepted = Counter((post.dedup_key, post.target) for post in history.requests if post.accepted)
    return {
        "run": name,
        "seconds": round(seconds, 1),
        "unexcused": round(unexcused(history), 1),
        "postgresql": server,
        **measured,
        "faults": dict(Counter(fault.kind for fault in history.faults)),
        "incidents": len({op.key for op in history.writes}),
        "writes": len(history.writes),
        "escalations": len(history.escalations),
        "pages": len(history.pages),
        "requests": len(history.requests),
        "copies": sum(accepted.values()) - len(accepted),
        "recoveries": [(kind, round(wait, 3)) for kind, wait in recoveries(history)],
        "lateness": [(name, round(late, 3)) for name, late in lateness(history)],
        "violations": [str(violation) for violation in violations],
    }


def unexcused(history: History) -> float:
    """Return the seconds of a run in which nothing excused a late escalation.

    An outage and a pause excuse one, and so do the two ticks after them.
    """
    began = min((op.began for op in history.writes), default=history.ended)
    total, at = 0.0, began
    for start, end in stops(history):
        total += max(0.0, min(start, history.ended) - at)
        at = max(at, end + 2 * history.settings.tick)
    return total + max(0.0, history.ended - at)


def percentile(values: Sequence[float], part: float) -> float | None:
    """Return the value that this part of the values is below; None without values."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)] if values else None


def spread(values: Sequence[float]) -> Figures:
    """Return the number of values, their percentiles and the maximum."""
    parts = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {"count": len(values), **{name: percentile(values, part) for name, part in parts.items()}}


def sums(runs: Sequence[Figures]) -> Figures:
    """Return the sums over some runs."""
    faults: Counter[str] = Counter()
    for run in runs:
        faults.update(run["faults"])
    return {
        "runs": len(runs),
        "kills": faults[KILL],
        "restarts": faults["restart"],
        **{name: sum(run[name] for run in runs) for name in COUNTS},
        "faults": dict(sorted(faults.items())),
        "violations": sum(len(run["violations"]) for run in runs),
    }


def whole(runs: Sequence[Figures], seconds: float) -> Figures:
    """Return the figures of all runs together. Runs with a planted defect are counted, and otherwise left out."""
    planted = [run for run in runs if run["run"].endswith("-planted]")]
    clean = [run for run in runs if run not in planted]
    recovered: dict[str, list[float]] = {"kill -9": [], "any other fault": []}
    for kind, wait in (each for run in clean for each in run["recoveries"]):
        recovered["kill -9" if kind == KILL else "any other fault"].append(wait)
    late: dict[str, list[float]] = {"in a run without faults": [], NO_FAULT: [], FAULT_BEFORE: []}
    for run in clean:
        for name, wait in run["lateness"]:
            late["in a run without faults" if run["run"] == NO_FAULT_RUN else name].append(wait)
    broken = Counter(violation.partition(" ")[0] for run in clean for violation in run["violations"])
    return {
        "library": __version__,
        "postgresql": ", ".join(sorted({run["postgresql"] for run in clean})),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}",
        "seconds": round(seconds, 1),
        "seconds of runs": round(sum(run["seconds"] for run in clean), 1),
        "unexcused": round(sum(run["unexcused"] for run in clean), 1),
        "defects": {"planted": len(planted), "caught": sum(bool(run["violations"]) for run in planted)},
        **sums(clean),
        "kill points": sum(run.get("points", 0) for run in clean),
        "kills at points": sum(run.get("kills", 0) for run in clean),
        "recovery": {name: {**spread(waits), "limit": LIMIT} for name, waits in recovered.items()},
        "lateness": {name: spread(waits) for name, waits in late.items()},
        "violations": {name: broken[name] for name in INVARIANTS},
    }


def write(path: Path, runs: Sequence[Figures], seconds: float) -> None:
    """Write the report: the sums, and the figures of each run without its long lists."""
    short = [{name: value for name, value in run.items() if name not in ("recoveries", "lateness")} for run in runs]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"all": whole(runs, seconds), "runs": short}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def table(runs: Sequence[Figures], seconds: float) -> Iterator[str]:
    """Yield the lines of the table at the end of the test session."""
    columns = " ".join(f"{name:>11}" for name in ("faults", "writes", "escalations", "requests", "copies"))
    yield f"{'run':62} {'s':>5} {columns} {'broken':>6}"
    for run in runs:
        broken = ",".join(sorted({violation.partition(" ")[0] for violation in run["violations"]})) or "-"
        counts = (sum(run["faults"].values()), run["writes"], run["escalations"], run["requests"], run["copies"])
        cells = " ".join(f"{count:>11}" for count in counts)
        yield f"{run['run'][:62]:62} {run['seconds']:>5} {cells} {broken:>6}"
    found = whole(runs, seconds)
    yield f"{found['library']} on PostgreSQL {found['postgresql']}, {found['machine']}, {seconds / 60:.1f} min"
    yield f"faults: {', '.join(f'{count} {kind}' for kind, count in found['faults'].items())}"
    yield f"{found['kills at points']} kills at {found['kill points']} points; {found['copies']} copies"
    for name, times in (*found["recovery"].items(), *found["lateness"].items()):
        yield f"seconds: {name}: {times}"
