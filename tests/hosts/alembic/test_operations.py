"""An attach and a detach as operations of a revision: within its transaction, on each kind of ``env.py``."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import sqlalchemy as sa

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine
from escalation_core.testing import RecordingNotifier

from ...examples.hosting import catalogue
from .hosts import execute, tables
from .project import Project

pytestmark = pytest.mark.direct("a migration connects directly")
ATTACH = (
    'op.attach_escalation("alerts", columns=hosts.COLUMNS, status=hosts.STATUS, existing="page", types=hosts.TYPES)'
)
DETACH = "op.detach_escalation(drop_tables=True)"
CREATE = "hosts.tables().create_all(op.get_bind())"
DROP = "hosts.tables().drop_all(op.get_bind())"


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[False, True], ids=["one transaction", "each its own"])
def project(pg_dsn: str, tmp_path: Path, request: pytest.FixtureRequest, asynchronous: bool) -> Project:
    """A host with two revisions: its tables, and the attach."""
    made = Project(tmp_path / "host", pg_dsn, asynchronous=asynchronous)
    made.options["transaction_per_migration"] = request.param
    made.revision(CREATE, DROP)
    made.revision(ATTACH, DETACH)
    return made


def test_up_and_down_twice(project: Project) -> None:
    """Upgrades commit, autogenerate finds nothing to do, and a downgrade leaves nothing of the library; again, too."""
    project.upgrade("0001")
    before = catalogue(project.dsn)
    seen = []
    for _ in range(2):
        project.upgrade()
        project.check(tables())
        seen.append(catalogue(project.dsn))
        project.downgrade("0001")
        assert before == catalogue(project.dsn)
    assert seen[0] == seen[1]
    assert "relation public.escalation_pages, kind r" in seen[0]
    project.downgrade()
    project.upgrade()
    assert seen[0] == catalogue(project.dsn)


async def test_attached_incident_pages(pg_dsn: str, tmp_path: Path) -> None:
    """A revision chooses the incidents that are there already, and the engine pages about one."""
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(CREATE, DROP)
    project.revision(ATTACH, DETACH)
    project.upgrade("0001")
    late = datetime.now(UTC) - timedelta(minutes=6)
    execute(pg_dsn, f"INSERT INTO alerts VALUES (gen_random_uuid(), 'critical', 'open', 'disk full', '{late}')")
    project.upgrade()
    assert [] == list(await migrate.check(pg_dsn))
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        await engine.tick()
    assert ["disk full"] == [page.incident.summary for page in notifier.pages]


def test_operations_by_their_classes(pg_dsn: str, tmp_path: Path) -> None:
    """``op.invoke`` takes the operations by their classes, which type checkers know."""
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(f"{CREATE}; op.invoke(AttachEscalation('alerts', columns=hosts.COLUMNS, trigger=False))", DROP)
    project.revision("op.invoke(DetachEscalation())")
    project.upgrade("0001")
    attached = catalogue(pg_dsn)
    assert any("next_due_at" in line for line in attached)
    assert not any("TRIGGER" in line for line in attached)
    project.upgrade()
    detached = catalogue(pg_dsn)
    assert not any("next_due_at" in line for line in detached - {*attached})
    assert "relation public.escalation_detached, kind r" in detached


def test_other_schema(pg_dsn: str, tmp_path: Path) -> None:
    """A schema whose name needs quotes; nothing is made in another one."""
    project = Project(tmp_path / "host", pg_dsn, schema="My App")
    where = 'schema="My App"'
    project.options["include_schemas"] = True
    project.revision("op.execute('CREATE SCHEMA \"My App\"'); hosts.tables('My App').create_all(op.get_bind())")
    before = project.upgrade("0001"), catalogue(pg_dsn)
    project.revision(ATTACH.replace("columns", f"{where}, columns"), DETACH.replace("drop", f"{where}, drop"))
    project.upgrade()
    project.check(tables("My App"))
    assert not any(" public.escalation" in line for line in catalogue(pg_dsn))
    project.downgrade("0001")
    assert before[1] == catalogue(pg_dsn)


async def test_later_migrations(pg_dsn: str, tmp_path: Path) -> None:
    """On an attached schema of an earlier version the operation applies the missing migrations; the mapping stays."""
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(f"{CREATE}; {ATTACH}")
    project.upgrade()
    attached = catalogue(pg_dsn)
    with psycopg.connect(pg_dsn) as connection:
        connection.execute("DELETE FROM escalation_migrations WHERE version = 6")
        connection.execute("DROP INDEX escalation_events_default")
    project.revision('op.attach_escalation(existing="page")')
    project.upgrade()
    assert attached == catalogue(pg_dsn)
    assert all(migration.applied_at for migration in await migrate.status(pg_dsn))


# --- nothing half done


@pytest.mark.parametrize("after", ["SELECT 1/0", "INSERT INTO notes VALUES (NULL)"])
def test_later_error_undoes_the_attach(project: Project, after: str) -> None:
    """An error in a later operation of the revision undoes the attach; a corrected revision is applied."""
    project.upgrade("0001")
    before = catalogue(project.dsn)
    revision = project.folder / "versions/0002_host.py"
    text = revision.read_text()
    revision.write_text(text.replace(ATTACH, f'{ATTACH}; op.execute("{after}")'))
    with pytest.raises(sa.exc.DBAPIError, match=r"division by zero|null value"):
        project.upgrade()
    assert before == catalogue(project.dsn)
    revision.write_text(text)
    project.upgrade()
    project.check(tables())


def test_later_error_undoes_the_detach(project: Project) -> None:
    """An error after a detach leaves the table attached, with its triggers and the engine's tables."""
    revision = project.folder / "versions/0002_host.py"
    revision.write_text(revision.read_text().replace(DETACH, f'{DETACH}; op.execute("SELECT 1/0")'))
    project.upgrade()
    before = catalogue(project.dsn)
    with pytest.raises(sa.exc.DBAPIError, match="division by zero"):
        project.downgrade()
    assert before == catalogue(project.dsn)


def test_error_leaves_the_transaction_usable(pg_dsn: str, tmp_path: Path) -> None:
    """A revision may catch a refusal, and go on: the attach has changed nothing."""
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(
        f"""{CREATE}
    op.execute("INSERT INTO alerts VALUES (gen_random_uuid(), 'critical', 'open', 'old', now())")
    try:
        op.attach_escalation("alerts", columns=hosts.COLUMNS, status=hosts.STATUS)
    except Exception as error:
        print(type(error).__name__)
    op.execute("INSERT INTO notes VALUES ('went on')")"""
    )
    project.upgrade()
    with psycopg.connect(pg_dsn) as connection:
        assert [("went on",)] == connection.execute("SELECT note FROM notes").fetchall()
    assert not any("escalation" in line for line in catalogue(pg_dsn))


WAITING: LiteralString = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def wait_for(gate: "psycopg.Connection[Any]", count: int, *processes: "subprocess.Popen[str]") -> None:
    """Wait until so many sessions wait for a lock, or a process has ended."""
    while gate.execute(WAITING).fetchone() != (count,):
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]


@pytest.mark.parametrize("first", [False, True], ids=["tables there", "empty database"])
def test_two_processes_at_once(pg_dsn: str, tmp_path: Path, asynchronous: bool, first: bool) -> None:
    """Of two upgrades at once one is committed; the other fails, names the reason, and changes nothing."""
    project = Project(tmp_path / "host", pg_dsn, asynchronous=asynchronous)
    project.revision(CREATE, DROP)
    if not first:
        project.upgrade()
    project.revision(f'{ATTACH}; op.execute("SELECT pg_advisory_xact_lock(1)")', DETACH)
    with psycopg.connect(pg_dsn, autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(1)")
        with project.beside("upgrade", "head") as one:
            wait_for(gate, 1, one)
            with project.beside("upgrade", "head") as two:
                if first:
                    # It waits for the first one's table of versions.
                    wait_for(gate, 2, one, two)
                else:
                    said, _ = two.communicate(timeout=30)
                    assert "another process" in said, said
                gate.execute("SELECT pg_advisory_unlock(1)")
                assert ("", 0) == (one.communicate(timeout=30)[0], one.returncode)
                two.wait(30)
                assert 0 != two.returncode
    project.check(tables())
    with psycopg.connect(pg_dsn) as connection:
        assert [("0002",)] == connection.execute("SELECT version_num FROM alembic_version").fetchall()


def test_killed_process(pg_dsn: str, tmp_path: Path) -> None:
    """Of an upgrade whose process is killed nothing is left, and the next upgrade does all of it."""
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(CREATE, DROP)
    project.upgrade()
    before = catalogue(pg_dsn)
    project.revision(f'{ATTACH}; op.execute("SELECT pg_advisory_xact_lock(1)")', DETACH)
    with psycopg.connect(pg_dsn, autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(1)")
        with project.beside("upgrade", "head") as killed:
            wait_for(gate, 1, killed)
            killed.kill()
        gate.execute("SELECT pg_advisory_unlock(1)")
        gate.execute("SELECT pg_advisory_lock(1)")  # the server has ended the session that waited
        gate.execute("SELECT pg_advisory_unlock(1)")
    assert before == catalogue(pg_dsn)
    project.upgrade()
    project.check(tables())


# --- what is refused


@pytest.mark.parametrize(("driver", "on_asyncio"), [("psycopg2", False), ("asyncpg", True)])
def test_other_driver(pg_dsn: str, tmp_path: Path, driver: str, on_asyncio: bool) -> None:
    """With another driver both operations are refused, with the line that helps; the SQL can be printed."""
    project = Project(tmp_path / "host", pg_dsn, driver=driver, asynchronous=on_asyncio)
    project.revision(CREATE, DROP)
    project.revision(ATTACH, DETACH)
    with pytest.raises(ValueError, match=rf"postgresql\+{driver}, .*drivername='postgresql\+psycopg'.* --sql"):
        project.upgrade()
    assert not any("relation" in line for line in catalogue(pg_dsn))
    assert "escalation_pages" in project.upgrade(sql=True)


def test_other_database(pg_dsn: str, tmp_path: Path) -> None:
    """Another database than PostgreSQL is refused as well."""
    project = Project(tmp_path / "host", pg_dsn)
    project.ini.write_text(f"{project.ini.read_text()}\n")
    text = project.ini.read_text()
    start, _, rest = text.partition("sqlalchemy.url = ")
    project.ini.write_text(f"{start}sqlalchemy.url = sqlite://\n{rest.partition(chr(10))[2]}")
    project.revision(ATTACH)
    with pytest.raises(ValueError, match=r"sqlite\+pysqlite, and not of postgresql\+psycopg"):
        project.upgrade()


def test_autocommit(pg_dsn: str, tmp_path: Path, asynchronous: bool) -> None:
    """In Alembic's autocommit block there is no transaction to join."""
    project = Project(tmp_path / "host", pg_dsn, asynchronous=asynchronous)
    project.options["transaction_per_migration"] = True
    project.revision(CREATE)
    project.revision(f"with op.get_context().autocommit_block():\n        {ATTACH}")
    with pytest.raises(ValueError, match="autocommit"):
        project.upgrade()
    assert not any("escalation" in line for line in catalogue(pg_dsn))


REFUSED = {
    "open incidents": (ATTACH.replace(', existing="page"', ""), "holds 1 open incidents"),
    "no such table": ('op.attach_escalation("alarms")', "there is no such table"),
    "no such column": ('op.attach_escalation("alerts", existing="skip")', "incident_key"),
    "unknown name": ('op.attach_escalation("alerts", columns={"key": "id"})', "the engine has no column 'key'"),
    "other table": (f"{ATTACH}; op.attach_escalation('notes')", "is attached to the table 'alerts'"),
    "not attached": ("op.detach_escalation()", "is not attached to a table"),
    "unknown option": ('op.attach_escalation("alerts", colums={})', "colums"),
}
"""Operations, and why they are refused."""


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused(pg_dsn: str, tmp_path: Path, case: str) -> None:
    """An operation that is refused says why, and the upgrade changes nothing."""
    operation, reason = REFUSED[case]
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(
        f"{CREATE}; op.execute(\"INSERT INTO alerts VALUES (gen_random_uuid(), 'critical', 'open', 'old', now())\")"
    )
    project.upgrade()
    before = catalogue(pg_dsn)
    project.revision(operation)
    with pytest.raises(Exception, match=reason):
        project.upgrade()
    assert before == catalogue(pg_dsn)


async def test_downgrade_while_a_worker_ticks(pg_dsn: str, tmp_path: Path) -> None:
    """A detach is refused while a worker ticks, and the table stays attached; it names how long to wait."""
    project = Project(tmp_path / "host", pg_dsn)
    project.revision(CREATE, DROP)
    project.revision(ATTACH, DETACH)
    project.upgrade()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick()
        before = catalogue(pg_dsn)
        with pytest.raises(Exception, match=r"stop the workers, and run the command again after 120 s"):
            project.downgrade()
        assert before == catalogue(pg_dsn)
    execute(pg_dsn, "UPDATE escalation_workers SET ticked_at = ticked_at - interval '3 minutes'")
    project.downgrade()
    assert not any("escalation" in line for line in catalogue(pg_dsn))
