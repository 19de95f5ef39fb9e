"""Shared parts of the fault tests: the options for a quick or a long run, the servers, and the report."""

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
"""Opens a run. Its figures go into the report even if the test fails."""
RESULTS = Path(__file__).parent / "results"
LONG = (
    "killed_at_every", "killed_again", "faults_behind_a_pooler[no answer]", "restarted_again", "faults_behind_a_pooler",
    "cut_at_each", "beyond_the_lease", "terminated", "a_million", "while_busy",
)  # fmt: skip
"""Parts of the names of the slowest tests, in the order in which they start."""
PROCESSES = 5
SEPARATE = ("kills", "failover")
"""Pytest markers whose tests have their own part of the long run, because other tests would disturb them."""
SEED = "ESCALATION_FAULTS_SEED"
BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: ``--full`` for the long run, ``--quick`` (the default) for the quick run."""
    group = parser.getgroup("faults")
    group.addoption("--quick", action="store_true", help="a few variants each, in a few minutes (the default)")
    group.addoption("--full", action="store_true", help="many seeds, many kills, many restarts, and every variant")
    group.addoption("--faults-seed", type=int, help="repeat the choice of the quick run that printed this seed")


def pytest_configure(config: pytest.Config) -> None:
    """Note when the run began, and choose a random seed. Processes of pytest-xdist find it in their environment."""
    config.stash[BEGAN] = monotonic()
    config.addinivalue_line("markers", "rotates(count, by): a quick run takes so many variants, chosen by its seed")
    if config.option.faults_seed is None:
        config.option.faults_seed = int(os.environ.setdefault(SEED, str(secrets.randbelow(10**6))))


def pytest_report_header(config: pytest.Config) -> str:
    """Print the random seed."""
    return f"faults: --faults-seed {config.option.faults_seed}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave failover tests and some variants out of a quick run, and start the slowest tests first.

    ``-k`` chooses first, so a variant that it names is left out only if it names more than a quick run takes.
    pytest-xdist gives each process two tests at first, so each process gets one slow and one short test.
    """
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("failover")]
        left_out += variants_left_out(items, config.option.faults_seed)
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    longest = sorted(items, key=lambda item: next((n for n, name in enumerate(LONG) if name in item.nodeid), len(LONG)))
    shortest = [item for item in items if "test_model" in item.nodeid]
    first = [item for pair in zip(longest, shortest[:PROCESSES], strict=False) for item in pair]
    items[:] = dict.fromkeys([*first, *longest])


def variants_left_out(items: Sequence[pytest.Item], seed: int) -> list[pytest.Item]:
    """Return the variants that a quick run with this seed leaves out, of tests with the marker ``rotates``."""
    variants: dict[tuple[str, int], dict[str, list[pytest.Item]]] = {}
    for item in items:
        marker = item.get_closest_marker("rotates")
        if marker is not None:
            found = variants.setdefault((item.nodeid.partition("[")[0], marker.args[0]), {})
            found.setdefault(_variant(item, marker.kwargs["by"]), []).append(item)
    left_out = []
    for (name, count), found in variants.items():
        taken = Random(f"{seed} {name}").sample(sorted(found), min(count, len(found)))
        left_out += [item for variant, of in found.items() if variant not in taken for item in of]
    return left_out


def _variant(item: pytest.Item, by: str) -> str:
    """Return which variant of a test this is: the value of its parameter ``by``."""
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params[by])


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The random seed of a quick run; 0 in the long run, whose tests have their own seeds."""
    return 0 if request.config.getoption("--full") else int(request.config.option.faults_seed)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this is the long run."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The PostgreSQL server of this test session."""
    with Servers.started() as started:
        yield started


@pytest.fixture
def new_run(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> NewRun:
    """Return a function that opens runs on the server, and adds their figures to the report."""

    @asynccontextmanager
    async def open_run(**values: Any) -> AsyncIterator[Run]:
        began = monotonic()
        async with Run.open(servers, tmp_path, **values) as run:
            try:
                yield run
            finally:
                if run.result is not None:
                    seconds = monotonic() - began
                    note(request, figures(request.node.name, seconds, servers.version, *run.result, run.measured))

    return open_run


def note(request: pytest.FixtureRequest, run: Figures) -> None:
    """Add a run to the report. pytest-xdist sends a test's properties to the process that writes the report."""
    request.node.user_properties.append(("faults", run))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the report, and the table."""
    ended = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])]
    runs: list[Figures] = [
        run for report in ended if report.when == "call" for name, run in report.user_properties if name == "faults"
    ]
    if not config.getoption("--full"):
        terminalreporter.write_line(
            "faults: this quick run left out test_failover, and the variants of other seeds; --full runs all;"
            f" --faults-seed {config.option.faults_seed} runs the same variants"
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
    """Return the name of the report. The page in the docs is made from complete runs only, so others are ``part``."""
    if config.getoption("keyword") or config.args != ["tests/faults"]:
        return "part"
    if not config.getoption("--full"):
        return "quick"
    chosen = str(config.getoption("markexpr"))
    return chosen if chosen in SEPARATE else "full"
