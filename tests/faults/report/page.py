"""Write the last results into a page of the docs and into the README: ``python -m tests.faults.report.page``.

The module replaces the text between two comments of each file.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from escalation_core.testing.invariants import INVARIANTS

from .figures import COUNTS

ROOT = Path(__file__).parents[3]
PAGE, README = ROOT / "docs/explanation/faults.md", ROOT / "README.md"
TITLES = {
    "quick": "A quick run",
    "full": "The long run, without kills at awaits and without failovers",
    "kills": "The long run of kills at each await",
    "failover": "The long run of failovers",
}
SHORT_TITLES = {"quick": "quick run", "full": "long run", "kills": "kills at awaits", "failover": "failovers"}
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->"


def publish(results: Path, page: Path = PAGE, readme: Path = README) -> None:
    """Write the figures of all existing result files into the page. A quick run counts only without a long run."""
    sums = {name: json.loads(path.read_text("utf-8")) for name in TITLES if (path := results / f"{name}.json").exists()}
    if "full" in sums:
        sums.pop("quick", None)
    lines = [line for name, whole in sums.items() for line in _section(name, whole["all"], whole["runs"])]
    _insert(page, "\n".join([*_verdict({name: whole["all"] for name, whole in sums.items()}), *lines]))
    if "full" in sums and "kills" in sums:
        _insert(readme, _sentence(sums["kills"]["all"], sums["full"]["all"]))


def _insert(page: Path, text: str) -> None:
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    page.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def _sentence(kills: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    escalations, pages = (kills[name] + others[name] for name in ("escalations", "pages"))
    broken = sum(sum(sums["violations"].values()) for sums in (kills, others))
    return (
        f"The last long run killed {kills['kills at points']:,} workers at {kills['kill points']} awaits and"
        f" {others['kills']:,} workers at random moments, and restarted PostgreSQL {others['restarts']} times."
        f" Among {escalations:,} escalations and {pages:,} pages, the checks found {broken or 'no'}"
        f" violation{'s' if broken > 1 else ''} of the promise.\n"
    )


def _verdict(sums: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table with the number of violations of each invariant in each part."""
    yield from (f"| violations of | {' | '.join(SHORT_TITLES[name] for name in sums)} |", "|---|" + "---|" * len(sums))
    for invariant, meaning in INVARIANTS.items():
        counts = " | ".join(str(whole["violations"][invariant]) for whole in sums.values())
        yield f"| {invariant}: {meaning} | {counts} |"
    yield ""


def _section(name: str, sums: Mapping[str, Any], runs: list[Mapping[str, Any]]) -> Iterator[str]:
    yield from (f"### {TITLES[name]}", "")
    faults = sum(sums["faults"].values())
    yield (
        f"{sums['runs']} runs in {sums['seconds'] / 60:.0f} minutes, on {sums['machine']},"
        f" PostgreSQL {sums['postgresql']}, library {sums['library']}:"
        f" {faults:,} faults, {sums['writes']:,} writes of hosts, {sums['escalations']:,} escalations,"
        f" {sums['pages']:,} pages and {sums['requests']:,} requests. {sums['copies']:,} of the requests were copies."
    )
    yield ""
    planted, caught = sums["defects"]["planted"], sums["defects"]["caught"]
    if sums["kill points"]:
        yield (
            f"The test killed {sums['kills at points']:,} workers at {sums['kill points']} awaits. These are all awaits"
            " that a worker reaches."
        )
    if planted:
        yield f"Further runs with a planted defect: {planted}. The checks found the defect in {caught} of them."
    yield (
        f"The scenarios took {sums['seconds of runs'] / 60:.0f} min in total. For {sums['unexcused'] / 60:.0f} min of"
        " this time, no outage and no pause excused a late escalation."
    )
    yield ""
    yield from ("| fault | times |", "|---|---|")
    for kind, count in sums["faults"].items():
        yield f"| {kind} | {count:,} |"
    yield ""
    yield from ("| seconds | count | median | p99 | maximum |", "|---|---|---|---|---|")
    for fault, times in sums["recovery"].items():
        if times["count"]:
            yield _times(f"from {fault} of a worker to the next claim of its page", times)
    for condition, times in sums["lateness"].items():
        if times["count"]:
            yield _times(f"lateness of an escalation, {condition}", times)
    yield ""
    yield from _further(runs)


def _times(title: str, times: Mapping[str, Any]) -> str:
    cells = ["" if times.get(name) is None else f"{times[name]:.3f}" for name in ("p50", "p99", "max")]
    return f"| {title} | {times['count']:,} | {' | '.join(cells)} |"


def _further(runs: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table with the further figures that single runs measured."""
    known = {"run", "seconds", "unexcused", "postgresql", "points", "kills", "faults", *COUNTS}
    lines = [
        f"| {run['run']} | {', '.join(f'{name} {value:,}' for name, value in measured.items())} |"
        for run in runs
        if (measured := {name: value for name, value in run.items() if name not in (*known, "violations")})
    ]
    if lines:
        yield from ("| run | measured |", "|---|---|", *lines, "")


if __name__ == "__main__":
    publish(Path(__file__).parents[1] / "results")
