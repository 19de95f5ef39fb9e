"""Run the bench: ``python -m benchmarks [--quick] [PART ...]``, or compare with a commit: ``--against COMMIT``."""

import argparse
import importlib
import json
import logging
import signal
import sys
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from . import report
from .against import compare
from .ground import ground
from .results import FOLDER, Result, machine

PARTS = (
    "tick",
    "empty",
    "canary",
    "endtoend",
    "lateness",
    "sqlite",
    "verbs",
    "backlog",
    "targets",
    "throttle",
    "storm",
    "start",
)
LONG_PARTS = ("throttle_slow",)
"""Parts that run only if they are named."""
PARTS_HELP = f"of {', '.join(PARTS)}; and of {', '.join(LONG_PARTS)}, which run only if they are named"


def main() -> None:
    """Run the parts, print and store their results, and exit with 1 if a ratio is missed."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes, no other systems; the docs stay as they are"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, *LONG_PARTS, []], metavar="PART", help=PARTS_HELP)
    comparison = parser.add_argument_group("comparison")
    comparison.add_argument("--against", metavar="COMMIT", help="measure this tree and a commit in turns; print ratios")
    comparison.add_argument("--runs", type=int, metavar="N", help="of each workload on each side (default: 9)")
    comparison.add_argument("-k", action="append", metavar="TEXT", help="only workloads whose names contain the text")
    comparison.add_argument("--json", action="store_true", help="print the comparison as JSON")
    options = parser.parse_args()
    if options.against is not None:
        if options.parts or options.quick:
            parser.error("--against measures workloads of its own: it takes no PART and no --quick")
        sys.exit(_against(options))
    if options.runs is not None or options.k or options.json:
        parser.error("--runs, -k and --json need --against COMMIT")
    if options.child:
        # Discard pages to the log: the bench does not measure the terminal.
        logging.getLogger().addHandler(logging.NullHandler())
        part, arguments = options.child
        figures: dict[str, Any] = _part(part).in_child(**json.loads(arguments))
        print(json.dumps(figures))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    columns = (SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn(), TextColumn(""))
    results: list[Result] = []
    with ground() as server, Progress(*columns, console=console, transient=True) as progress:
        about = machine(server.version)
        for name in options.parts or PARTS:
            result: Result = _part(name).run(server, progress, quick=options.quick)
            server.forget()
            result.show(console)
            result.write(about, FOLDER / "quick" if options.quick else FOLDER)
            results.append(result)
    if not options.quick:
        report.write()
    sys.exit(0 if judge(console, results) else 1)


def _against(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled job of CI leaves nothing behind, either
    try:
        return compare.run(
            options.against,
            runs=9 if options.runs is None else options.runs,
            chosen=options.k or (),
            as_json=options.json,
        )
    except KeyboardInterrupt:
        print("interrupted: the processes have ended, and the temporary folders are removed", file=sys.stderr)
        return 130


def judge(console: Console, results: list[Result]) -> bool:
    """Print a verdict for each ratio, and a summary; return True if all ratios are kept."""
    ratios = [ratio for result in results for ratio in result.ratios]
    for ratio in ratios:
        console.print(ratio.line(), style="green" if ratio.kept else "red", highlight=False)
    missed = [ratio.name for ratio in ratios if not ratio.kept]
    summary = f"all {len(ratios)} kept" if not missed else f"{len(missed)} of {len(ratios)} missed: {'; '.join(missed)}"
    console.print(f"bench: {summary}", highlight=False, soft_wrap=True)
    return not missed


def _part(name: str) -> Any:
    return importlib.import_module(f"benchmarks.{name}")


if __name__ == "__main__":
    main()
