"""Fuzz every property of this folder with atheris, one after another: ``nox -s fuzz -- --seconds 60``.

The findings stay in ``.fuzz``: a corpus for each property, with which the next run begins, and inputs that failed.
``python -m tests.fuzz.target MODULE NAME FILE`` tries one such input again.
"""

import argparse
import importlib
import json
import pkgutil
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

import tests.fuzz

FOLDER = Path(".fuzz")
GRACE = 60
"""Seconds that a property may take beyond its time, to start and to end."""
SEEDS = 16
"""The number of inputs that every corpus begins with."""
SLOWEST = 20
"""Seconds after which a single input counts as a finding."""


@attrs.frozen
class Outcome:
    """The result of one property."""

    name: str
    seconds: float
    executions: int
    coverage: int
    corpus: int
    findings: Sequence[str]
    """The files with the inputs that made the property fail."""
    told: str
    """The failure; empty if the property held."""


def properties() -> list[tuple[str, str]]:
    """Return the module and the name of each property."""
    found = []
    for module in pkgutil.iter_modules(tests.fuzz.__path__, "tests.fuzz."):
        if module.name.startswith("tests.fuzz.test_"):
            loaded = vars(importlib.import_module(module.name))
            found += [(module.name, name) for name, value in loaded.items() if hasattr(value, "hypothesis")]
    return found


def fuzz(module: str, name: str, seconds: int) -> Outcome:
    """Fuzz one property in a separate process, since libFuzzer ends its process."""
    label = f"{module.rpartition('test_')[2]}.{name.removeprefix('test_')}"
    corpus, findings = FOLDER / "corpus" / label, FOLDER / "findings" / label
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(SEEDS):
        # Hypothesis can make an example of this many bytes; libFuzzer begins with one byte, which is too few.
        (corpus / f"seed-{number}").write_bytes(random.Random(number).randbytes(1024))
    before = set(findings.iterdir())
    options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", "-print_final_stats=1"]
    options += ["-max_len=4096", "-len_control=0"]
    command = [sys.executable, "-m", "tests.fuzz.target", module, name, *options, f"-artifact_prefix={findings}/"]
    began = time.monotonic()
    with (FOLDER / f"{label}.log").open("w+", encoding="utf-8", errors="replace") as log:
        try:
            code = subprocess.run(
                [*command, str(corpus)], stdout=log, stderr=log, timeout=seconds + GRACE, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
        log.seek(0)
        output = log.read()
    found = sorted(str(path) for path in set(findings.iterdir()) - before)
    if not any(findings.iterdir()):
        findings.rmdir()
    return Outcome(
        name=label,
        seconds=round(time.monotonic() - began, 1),
        executions=_last(r"stat::number_of_executed_units:\s+([0-9]+)", output),
        coverage=_last(r"\bcov: ([0-9]+)", output),
        corpus=len(list(corpus.iterdir())),
        findings=found,
        told="" if code == 0 else _why(output) or f"ended with {code}",
    )


def _last(pattern: str, output: str) -> int:
    return int([0, *re.findall(pattern, output)][-1])


def _why(output: str) -> str:
    """Return the end of the traceback, or of the whole output if there is no traceback."""
    _, raised, traceback = output.partition("=== Uncaught Python exception: ===")
    return "\n".join((traceback.partition("\n==")[0] if raised else output).strip().splitlines()[-8:])


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a table with their sums."""
    lines = [f"{'property':<40} {'executions':>10} {'coverage':>8} {'corpus':>6} {'findings':>8}"]
    for each in outcomes:
        found = max(len(each.findings), bool(each.told))
        lines.append(f"{each.name:<40} {each.executions:>10} {each.coverage:>8} {each.corpus:>6} {found:>8}")
    failed = sum(bool(each.told) for each in outcomes)
    executions, corpus = sum(each.executions for each in outcomes), sum(each.corpus for each in outcomes)
    lines.append(f"{'all':<40} {executions:>10} {'':>8} {corpus:>6} {failed:>8}")
    return "\n".join([*lines, *(f"\n{each.name}:\n{each.told}" for each in outcomes if each.told)])


def main() -> int:
    """Fuzz, print the table, and write the result; return 1 if a property failed."""
    parser = argparse.ArgumentParser(prog="nox -s fuzz --", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all properties together (default: 600)")
    parser.add_argument("--only", default="", help="fuzz properties whose name holds this")
    arguments = parser.parse_args()
    chosen = [each for each in properties() if arguments.only in f"{each[0].rpartition('test_')[2]}.{each[1]}"]
    if not chosen:
        parser.error(f"no property is named like {arguments.only!r}")
    share = max(1, arguments.seconds // len(chosen))
    outcomes = [fuzz(module, name, share) for module, name in chosen]
    result: dict[str, Any] = {
        "python": sys.version.split()[0],
        "seconds": arguments.seconds,
        "executions": sum(each.executions for each in outcomes),
        "failed": sum(bool(each.told) for each in outcomes),
        "properties": [attrs.asdict(each) for each in outcomes],
    }
    (FOLDER / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(outcomes))
    print(f"\nwritten to {FOLDER / 'result.json'}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
