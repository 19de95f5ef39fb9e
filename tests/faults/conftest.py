"""What the fault tests share: how long they run, the ground they stand on, and their report."""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest

from .harness.run import Run
from .harness.servers import Servers
from .report.figures import Figures, figures, table, write

NewRun = Callable[..., AbstractAsyncContextManager[Run]]
"""Opens a run; what it came to goes into the report, also if a test finds it broken."""
RESULTS = Path(__file__).parent / "results"
LONG = (
    "killed_at_every", "killed_again", "behind_a_pooler_that[is silent]", "restarted_again", "behind_a_pooler_that",
    "cut_at_each", "beyond_the_lease", "terminated", "a_million", "while_busy",
)  # fmt: skip
"""What takes longest, in the long run as in the quick one."""
PROCESSES = 5
ALONE = ("kills", "failover")
"""Marks of what goes on by itself in the long run: it would be in the way of others, or they in its."""
SEED = "ESCALATION_FAULTS_SEED"
BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full`` runs long; ``--quick``, which is the default, is for every change."""
    group = parser.getgroup("faults")
    group.addoption("--quick", action="store_true", help="a few seeds each, in under three minutes (the default)")
    group.addoption("--full", action="store_true", help="many seeds, many kills, many restarts, and every variant")
    group.addoption("--faults-seed", type=int, help="what a quick run takes, and how: as an earlier one told")


def pytest_configure(config: pytest.Config) -> None:
    """Note when the run began, and take a seed; processes that share its work find the same in their environment."""
    config.stash[BEGAN] = monotonic()
    config.addinivalue_line("markers", "rotates(count, by): of its variants the quick run takes so many, by its seed")
    if config.option.faults_seed is None:
        config.option.faults_seed = int(os.environ.setdefault(SEED, str(secrets.randbelow(10**6))))


def pytest_report_header(config: pytest.Config) -> str:
    """Tell the seed."""
    return f"faults: --faults-seed {config.option.faults_seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave failover to the long run. Begin with what takes longest, one for each process: each gets two at first."""
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("failover")]
        left_out += turned(items, config.option.faults_seed)
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    longest = sorted(items, key=lambda item: next((n for n, name in enumerate(LONG) if name in item.nodeid), len(LONG)))
    shortest = [item for item in items if "test_model" in item.nodeid]
    first = [item for pair in zip(longest, shortest[:PROCESSES], strict=False) for item in pair]
    items[:] = dict.fromkeys([*first, *longest])


def turned(items: Sequence[pytest.Item], seed: int) -> list[pytest.Item]:
    """Return what a quick run with this seed leaves to others: of tests that rotate all variants but a few."""
    variants: dict[tuple[str, int], dict[str, list[pytest.Item]]] = {}
    for item in items:
        mark = item.get_closest_marker("rotates")
        if mark is not None:
            found = variants.setdefault((item.nodeid.partition("[")[0], mark.args[0]), {})
            found.setdefault(_variant(item, mark.kwargs["by"]), []).append(item)
    left_out = []
    for (name, count), found in variants.items():
        taken = Random(f"{seed} {name}").sample(sorted(found), min(count, len(found)))
        left_out += [item for variant, of in found.items() if variant not in taken for item in of]
    return left_out


def _variant(item: pytest.Item, by: str) -> str:
    """Return which variant of a test this is: its parameter of that name, as it is told."""
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params[by])


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What makes this run another one than the last: 0 in the long run, which has seeds of its own."""
    return 0 if request.config.getoption("--full") else int(request.config.option.faults_seed)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether there is time."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A PostgreSQL of this run's own."""
    with Servers.laid() as laid:
        yield laid


@pytest.fixture
def new_run(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> NewRun:
    """Opens runs on the ground."""

    @asynccontextmanager
    async def opened(**how: Any) -> AsyncIterator[Run]:
        began = monotonic()
        async with Run.open(servers, tmp_path, **how) as run:
            try:
                yield run
            finally:
                if run.told is not None:
                    seconds = monotonic() - began
                    note(request, figures(request.node.name, seconds, servers.version, *run.told, run.also))

    return opened


def note(request: pytest.FixtureRequest, run: Figures) -> None:
    """Put a run into the report; properties find their way to the process that writes it."""
    request.node.user_properties.append(("faults", run))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the report, and the table."""
    ended = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])]
    runs: list[Figures] = [
        run for report in ended if report.when == "call" for name, run in report.user_properties if name == "faults"
    ]
    if not config.getoption("--full"):
        terminalreporter.write_line(
            "faults: left out are test_failover, and the variants that are another seed's turn; --full runs all;"
            f" --faults-seed {config.option.faults_seed} runs the same"
        )
    if not runs:
        return
    seconds = monotonic() - config.stash[BEGAN]
    path = RESULTS / f"{_named(config)}.json"
    write(path, runs, seconds)
    terminalreporter.section("faults")
    for line in table(runs, seconds):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"the report is in {path}")


def _named(config: pytest.Config) -> str:
    """Return what the report is called: the page in the docs is made from whole runs alone."""
    if config.getoption("keyword") or config.args != ["tests/faults"]:
        return "part"
    if not config.getoption("--full"):
        return "quick"
    chosen = str(config.getoption("markexpr"))
    return chosen if chosen in ALONE else "full"
