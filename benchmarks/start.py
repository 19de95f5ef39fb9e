"""The time of an import above bare Python, and the time of the command line to its first answer.

Processes use compiled bytecode, which pip writes when it installs. Without it, for example after another installer or
where no process may write it, every process compiles all modules anew.
"""

import os
import subprocess
import sys
import time

from rich.progress import Progress

from .ground import Ground
from .results import Ratio, Result, spread

WAYS = {
    "bare Python": (sys.executable, "-c", "pass"),
    "import escalation_core": (sys.executable, "-c", "import escalation_core"),
    "escalation --version": (sys.executable, "-c", "from escalation_adapters.cli import main; main()", "--version"),
}


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:  # noqa: ARG001 - parts are called alike
    """Measure whole processes, in turns."""
    rounds = 7 if quick else 21
    task = progress.add_task("start", total=rounds)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for command in WAYS.values():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, command in WAYS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            took[way].append((time.perf_counter() - began) * 1000)
        progress.advance(task)
    progress.remove_task(task)
    figures = {way: spread(found) for way, found in took.items()}
    above = figures["import escalation_core"]["median"] - figures["bare Python"]["median"]
    return Result(
        name="start",
        title="Whole processes",
        columns=("what", "ms"),
        rows=[[way, f"{figures[way]['median']:.0f}"] for way in WAYS],
        ratios=[Ratio(name="import escalation_core above bare Python", value=above, most=150, aim=100, unit=" ms")],
        data=figures,
    )
