"""Alembic's offline mode: the SQL that it prints does the same as the operations."""

from pathlib import Path

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine
from escalation_core.testing import RecordingNotifier

from ...examples.hosting import catalogue
from .hosts import execute, tables
from .project import Project
from .test_operations import CREATE, DROP

pytestmark = pytest.mark.direct("a migration connects directly")
OPEN = "INSERT INTO alerts VALUES (gen_random_uuid(), 'critical', 'open', 'disk full', now() - interval '6 minutes')"
COLUMNS = "columns={**hosts.COLUMNS, 'severity': 'severity'}"
ATTACH = f'op.attach_escalation("alerts", {COLUMNS}, status=hosts.STATUS, existing="page", types=hosts.TYPES)'
DETACH = f'op.detach_escalation(table="alerts", {COLUMNS}, status=hosts.STATUS, drop_tables=True)'


def host(dsn: str, folder: Path, attach: str = ATTACH, detach: str = DETACH) -> Project:
    """Return a host's project of two revisions."""
    project = Project(folder, dsn)
    project.revision(CREATE, DROP)
    project.revision(attach, detach)
    return project


@pytest.fixture
def project(pg_dsn: str, tmp_path: Path) -> Project:
    """A host whose tables are there, with one incident that is late."""
    made = host(pg_dsn, tmp_path / "host")
    made.upgrade("0001")
    execute(pg_dsn, OPEN)
    return made


async def test_printed_sql_attaches(project: Project) -> None:
    """The printed SQL attaches as the operation does: the same objects, no drift, and the engine pages."""
    before = catalogue(project.dsn)
    project.upgrade()
    online = catalogue(project.dsn)
    project.downgrade("0001")
    execute(project.dsn, project.upgrade("0001:head", sql=True))
    assert online == catalogue(project.dsn)
    project.check(tables())
    assert [] == list(await migrate.check(project.dsn))
    assert [] == list(await migrate.up(project.dsn))

    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(project.dsn), notifiers=[notifier]) as engine:
        await engine.tick()
    assert ["disk full"] == [page.incident.summary for page in notifier.pages]
    execute(project.dsn, "UPDATE escalation_workers SET ticked_at = ticked_at - interval '3 minutes'")
    execute(project.dsn, project.downgrade("0002:0001", sql=True))
    assert before == catalogue(project.dsn)


def test_operation_continues_after_printed_sql(project: Project) -> None:
    """What was attached by printed SQL is detached by the operation."""
    before = catalogue(project.dsn)
    execute(project.dsn, project.upgrade("0001:head", sql=True))
    project.downgrade("0001")
    assert before == catalogue(project.dsn)


def test_printed_sql_is_one_transaction(project: Project) -> None:
    """An error behind the printed SQL undoes all of it; applied twice, it is refused."""
    before = catalogue(project.dsn)
    text = project.upgrade("0001:head", sql=True)
    assert text.startswith("BEGIN;")
    assert text.rstrip().endswith("COMMIT;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        execute(project.dsn, text.replace("COMMIT;", "SELECT 1/0; COMMIT;"))
    assert before == catalogue(project.dsn)
    execute(project.dsn, text)
    after = catalogue(project.dsn)
    with pytest.raises(psycopg.Error):
        execute(project.dsn, text)
    assert after == catalogue(project.dsn)


async def test_table_that_the_attach_creates(pg_dsn: str, tmp_path: Path) -> None:
    """The SQL creates the table; a detach leaves it, and the rest is gone."""
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(
        "op.attach_escalation(create=True, trigger=False)", "op.detach_escalation(create=True, drop_tables=True)"
    )
    execute(pg_dsn, project.upgrade(sql=True))
    assert [] == list(await migrate.check(pg_dsn))
    assert not any("TRIGGER" in line for line in catalogue(pg_dsn))
    execute(pg_dsn, project.downgrade("0001:base", sql=True))
    left = {line for line in catalogue(pg_dsn) if line.startswith("relation") and line.endswith("kind r")}
    assert {"relation public.incidents, kind r"} == left - {"relation public.alembic_version, kind r"}


def test_worker_that_ticks(project: Project) -> None:
    """The printed detach refuses while a worker ticks, as the operation does."""
    execute(project.dsn, project.upgrade("0001:head", sql=True))
    execute(
        project.dsn,
        "INSERT INTO escalation_workers VALUES ('w', now(), '1')",
    )
    before = catalogue(project.dsn)
    with pytest.raises(psycopg.Error, match="a worker completed a tick"):
        execute(project.dsn, project.downgrade("0002:0001", sql=True))
    assert before == catalogue(project.dsn)


def test_without_a_choice(pg_dsn: str, tmp_path: Path) -> None:
    """Offline nothing can count open incidents: the revision must choose."""
    project = host(pg_dsn, tmp_path / "host", ATTACH.replace('existing="page", ', ""))
    with pytest.raises(ValueError, match="existing: is missing; choose page or skip"):
        project.upgrade("0001:head", sql=True)
