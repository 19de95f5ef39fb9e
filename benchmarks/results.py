"""Results of a part of the bench: figures, a table for people, and ratios with their bounds."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent / "results"


@attrs.frozen(kw_only=True)
class Ratio:
    """A promise about speed: a lower or an upper bound, and an aim."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None
    aim: float | None = None
    unit: str = ""

    @property
    def kept(self) -> bool:
        """Return True if the value is within its bound."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def line(self) -> str:
        """Return the verdict in a line."""
        bound = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        aim = "" if self.aim is None else f", aim {self.aim:g}"
        return f"{'ok    ' if self.kept else 'MISSED'} {self.name}: {self.value:.3g}{self.unit} ({bound}{aim})"


@attrs.frozen(kw_only=True)
class Result:
    """The result of one part. ``data`` goes to the file unchanged."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    ratios: Sequence[Ratio] = ()
    notes: Sequence[str] = ()
    """Sentences that explain the figures."""
    data: Mapping[str, Any] = attrs.field(factory=dict)

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(*self.columns, title=self.title)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False, soft_wrap=True)

    def write(self, machine: Mapping[str, Any], folder: Path) -> None:
        """Write the figures."""
        folder.mkdir(parents=True, exist_ok=True)
        ratios = [attrs.asdict(ratio) | {"kept": ratio.kept} for ratio in self.ratios]
        whole = {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "ratios": ratios,
            "notes": list(self.notes),
            "figures": self.data,
            "machine": machine,
        }
        (folder / f"{self.name}.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, the least and the most of some runs."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": list(values)}


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the quotients of two figures that were measured in turns."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def machine(server_version: int) -> dict[str, Any]:
    """Return a description of the machine and its software."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": model,
        "cores": os.cpu_count(),
        "postgres": server_version,
    }
