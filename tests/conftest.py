"""Shared by all tests: a real PostgreSQL, checks for programs of the system, and hypothesis profiles."""

import asyncio
import logging
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from escalation_adapters import embedded
from escalation_adapters.postgres import migrate

from .postgres import Server, start

if (memory := embedded._place(durable=False)) is not None:
    # The folders of tests lie beside the server's data: a slow disk needs milliseconds for each commit of SQLite.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))

settings.register_profile("fast", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SERVER = pytest.StashKey[str]()
MISSING = pytest.StashKey[dict[str, int]]()
TEMPLATE = "escalation_template"
pytest_plugins = ("tests.pooled",)


@pytest.fixture(autouse=True)
def _put_back_logging() -> Iterator[None]:
    """Restore the root logger, since a command that a test calls in this process changes its logging."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The run's server, which starts when a test first asks for it."""
    server = start()
    request.config.stash[SERVER] = server.version()
    try:
        yield server
    finally:
        if server.backend is not None:
            server.backend.stop()


@pytest.fixture
def pg_dsn(postgres_server: Server) -> Iterator[str]:
    """The DSN of an empty database for this test only."""
    with postgres_server.fresh() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Server) -> Iterator[str]:
    """The name of a migrated database that tests copy, since a copy is quicker than a migration."""
    name = f"{TEMPLATE}_{secrets.token_hex(4)}"
    dsn = postgres_server.create(name)
    try:
        # In a thread, since the first test that asks may run in an event loop already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(migrate.up(dsn, create=True))).result()
        yield name
    finally:
        postgres_server.drop(name)


@pytest.fixture
def migrated_dsn(postgres_server: Server, migrated_template: str) -> Iterator[str]:
    """The DSN of a migrated database for this test only."""
    with postgres_server.fresh(migrated_template) as dsn:
        with psycopg.connect(dsn) as connection:
            # Health counts from the migration on: without this, a copy late in a run would look neglected.
            connection.execute("UPDATE escalation_migrations SET applied_at = now()")
        yield dsn


@pytest.fixture
def worker_dsn(migrated_dsn: str, request: pytest.FixtureRequest) -> str:
    """The DSN of the same database for stores of other processes, which also read WORKER_POOLER."""
    through = request.config.getoption("--pooler")
    return request.getfixturevalue("poolers").dsn(migrated_dsn) if through else migrated_dsn


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is missing; fail it if ESCALATION_REQUIRE_SYSTEM is 1."""
    for mark in item.iter_markers("system"):
        missing = [program for program in mark.args if shutil.which(program, path=_path()) is None]
        if not missing:
            continue
        if os.environ.get("ESCALATION_REQUIRE_SYSTEM") == "1":
            pytest.fail(f"{', '.join(missing)} is missing; install it: .ci/system-packages lists what tests need")
        for program in missing:
            counts = item.config.stash.setdefault(MISSING, {})
            counts[program] = counts.get(program, 0) + 1
        pytest.skip(f"{', '.join(missing)} is missing")


def _path() -> str:
    # Debian keeps servers in folders outside an ordinary user's PATH.
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the name of the server that the tests ran on."""
    server = config.stash.get(SERVER, None)
    if server is not None:
        terminalreporter.write_line(f"PostgreSQL tests ran on {server}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Print in the run's last line which programs were missing, and how many tests were skipped for each."""
    missing = config.stash.get(MISSING, None)
    if missing:
        named = ", ".join(f"{program} ({count})" for program, count in sorted(missing.items()))
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        line = f"skipped for want of programs of the system: {named}"
        if reporter is not None:
            reporter.write_line(line)
        else:
            print(line)  # noqa: T201 - with -p no:terminal there is no reporter to write to
