"""The option ``--pooler``, a plugin of pytest: every PostgresStore of the tests goes through pgbouncer."""

from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from escalation_adapters.postgres import PostgresStore

from .pooler import Poolers

ENDED = "pgbouncer ended by itself"
"""The name of the property of a test's report that holds the last lines of pgbouncer's log."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--pooler``, which puts pgbouncer before PostgreSQL."""
    parser.addoption("--pooler", action="store_true", help="every PostgresStore goes through pgbouncer")


class Endings:
    """Prints at the end of the run during which tests pgbouncer ended by itself, and the last lines of its log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test's last report says of pgbouncer."""
        said = dict(report.user_properties).get(ENDED)
        if said is not None and report.when == "teardown":
            self.lines.append(f"{ENDED} during {report.nodeid}, which ran again if it had failed:\n{said}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the lines."""
        for line in self.lines:
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """With ``--pooler``, report each end of pgbouncer that no test asked for."""
    if config.getoption("--pooler"):
        config.pluginmanager.register(Endings())


@pytest.fixture(scope="session")
def poolers() -> Iterator[Poolers]:
    """The poolers of the run; a pooler starts when a test first asks for its server."""
    made = Poolers()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def _pooled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With ``--pooler``, connect every store through pgbouncer; hosts and migrations still connect directly."""
    if not request.config.getoption("--pooler"):
        yield
        return
    poolers, connect = request.getfixturevalue("poolers"), PostgresStore.connect

    async def pooled(dsn: str, **how: Any) -> PostgresStore:
        return await connect(poolers.dsn(dsn), **how | {"pooler": "transaction"})

    monkeypatch.setattr(PostgresStore, "connect", pooled)
    monkeypatch.setenv("WORKER_POOLER", "transaction")
    yield
    for last_lines in poolers.restart_ended():
        request.node.user_properties.append((ENDED, last_lines))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test a second time if it failed and pgbouncer ended by itself during it. The summary names each such test.

    pgbouncer 1.18, which Debian 12 has, sometimes exits when a client cancels a query or goes: "bad client state",
    "server in bad state" (pgbouncer/pgbouncer#801, #822).
    """
    if not item.config.getoption("--pooler"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if ENDED in dict(item.user_properties) and any(report.failed for report in reports):
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--pooler``, deselect the tests that it would not affect, and require pgbouncer for the others."""
    if not config.getoption("--pooler"):
        return
    concerned = [item for item in items if _concerned(item) and not item.get_closest_marker("direct")]
    config.hook.pytest_deselected(items=[item for item in items if item not in concerned])
    for item in concerned:
        item.add_marker(pytest.mark.system("pgbouncer"))
    items[:] = concerned


def _concerned(item: pytest.Item) -> bool:
    fixtures = {"pg_dsn", "migrated_dsn", "postgres_server"} & set(getattr(item, "fixturenames", ()))
    server_of_its_own = hasattr(getattr(item, "module", None), "EmbeddedPostgres")
    return bool(fixtures) or server_of_its_own or "[postgres" in item.name
