"""Databases that the engine cannot use, the state that the system checks report, and the worker's connection."""

import json
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .project import ATTACH, COLUMNS, Project, postgres, sqlite

pytestmark = pytest.mark.direct("Django connects by itself, and not through the pooler")
ESCALATION = {"table": "shop_incident", "columns": COLUMNS}
MYSQL = {"ENGINE": "django.db.backends.mysql", "NAME": "shop", "HOST": "127.0.0.1", "PORT": "1"}
ORACLE = {"ENGINE": "django.db.backends.oracle", "NAME": "shop"}
REASON = "the engine has stores for PostgreSQL and SQLite alone: its tables need partial indexes"
NO_PSYCOPG = "\nimport sys\nsys.modules['psycopg'] = None\n"


@pytest.mark.parametrize(("entry", "name"), [(MYSQL, "MySQL"), (ORACLE, "Oracle")])
def test_other_databases_are_refused(tmp_path: Path, entry: dict[str, Any], name: str) -> None:
    """A system check refuses the alias with the reason; so do verbs and the worker. No driver or server is needed."""
    databases = {"default": sqlite(tmp_path / "db.sqlite3"), "other": entry}
    project = Project.make(tmp_path, databases, {"database": "other"}, ATTACH)
    checked = project.manage("check", "--database", "default", code=1).err  # later Djangos load all drivers without it
    assert f"(escalation_core.E002) The database 'other' is {name}, and {REASON}" in checked
    assert "HINT: Use PostgreSQL, or add an alias with an SQLite file" in checked
    project.manage("migrate", "--skip-checks", "-v0")  # the operation leaves other aliases alone
    assert f"'other': is {name}, and {REASON}" in project.manage("escalation_worker", "--skip-checks", code=1).err
    project.script(
        f"""
        from escalation_adapters.django import engine, verbs
        from escalation_adapters.django.database import NotSupported
        for call in (engine, verbs):
            try:
                call()
            except NotSupported as error:
                assert "is {name}" in str(error)
            else:
                raise AssertionError("not refused")
        """
    )


def test_the_operation_refuses_mysql(tmp_path: Path) -> None:
    """Django's own backend for MySQL: the operation refuses with the reason, before it sends a statement."""
    databases = {"default": sqlite(tmp_path / "db.sqlite3"), "other": MYSQL}
    project = Project.make(tmp_path, databases, {"database": "other"}, ATTACH)
    project.script(
        f"""
        import pymysql
        pymysql.install_as_MySQLdb()
        from django.db import NotSupportedError, connections
        from django.db.migrations.state import ProjectState
        from escalation_adapters.django.operations import AttachEscalation, UpdateEscalation
        for operation in (AttachEscalation("shop_incident"), UpdateEscalation()):
            for work in (operation.database_forwards, operation.database_backwards):
                try:
                    with connections["other"].schema_editor() as editor:
                        work("shop", editor, ProjectState(), ProjectState())
                except NotSupportedError as error:
                    assert {REASON!r} in str(error), error
                else:
                    assert isinstance(operation, UpdateEscalation) and "backwards" in work.__name__
        """
    )


def test_psycopg2_is_refused(pg_dsn: str, tmp_path: Path) -> None:
    """Without psycopg 3 Django falls back to psycopg2: the check names the extra, and the operation refuses."""
    given = ESCALATION | {"status": {"words": "cannot be checked without psycopg"}}
    Project.make(tmp_path, {"default": postgres(pg_dsn)}, given, ATTACH)
    project = Project(tmp_path, forks=False)  # a fork has imported psycopg already
    project.write("settings.py", (tmp_path / "settings.py").read_text() + NO_PSYCOPG)
    checked = project.manage("check", code=1).err
    assert "(escalation_core.E002) The database 'default' is reached through psycopg2" in checked
    assert "pip install 'escalation-core[django,postgres]'" in checked
    refused = project.manage("migrate", "--skip-checks", code=1).err
    assert "NotSupportedError" in refused
    assert "psycopg2" in refused
    project.script(
        """
        from escalation_adapters.django import verbs
        from escalation_adapters.django.database import NotSupported
        from django.db import connection, transaction
        assert "psycopg2" in str(connection.Database)
        try:
            with transaction.atomic():
                verbs()
        except NotSupported as error:
            assert "psycopg2" in str(error)
        """
    )


def test_sqlite_needs_a_file_of_its_own(tmp_path: Path) -> None:
    """The project's own SQLite file, a second name for it, and a database in memory are refused."""
    own = sqlite(tmp_path / "db.sqlite3")
    project = Project.make(tmp_path, {"default": own}, {}, ATTACH)
    assert "(escalation_core.E002)" in project.manage("check", code=1).err
    project.manage("migrate", "--skip-checks", "-v0")
    project.configure({"default": own, "same": own}, {"database": "same"})
    assert "an SQLite file with tables of Django's" in project.manage("check", code=1).err
    project.configure({"default": own, "memory": sqlite(Path(":memory:"))}, {"database": "memory"})
    warned = project.manage("check").err
    assert "(escalation_core.W002) The database 'memory' is an SQLite database in memory" in warned
    assert "in memory" in project.manage("escalation_worker", "--once", code=1).err
    project.configure(
        {"default": own, "escalation": sqlite(tmp_path / "e.db")}, {"database": "escalation"} | ESCALATION
    )
    assert "(escalation_core.W004)" in project.manage("check").err
    project.manage("migrate", "--database", "escalation", "-v0")
    warned = project.manage("check", "--database", "escalation").err
    assert "(escalation_core.W009) The file" in warned
    assert "has tables of another program" in warned
    project.configure({}, {})
    assert "(escalation_core.E002)" in project.manage("check", code=1).err


def test_drift_is_reported(pg_dsn: str, tmp_path: Path) -> None:
    """What changed in the table since the attach is a warning, with the command that helps."""
    project = Project.make(tmp_path, {"default": postgres(pg_dsn)}, ESCALATION, ATTACH)
    project.manage("migrate", "-v0")
    with psycopg.connect(pg_dsn) as connection:
        connection.execute("DROP TRIGGER zz_escalation_host_update ON shop_incident")
        connection.execute("UPDATE escalation_migrations SET checksum = 'x' WHERE version = 1")
    warned = project.manage("check", "--database", "default").err
    assert "(escalation_core.W008) Trigger zz_escalation_host_update on public.shop_incident is missing" in warned
    assert "HINT: Run: escalation migrate up." in warned
    assert "(escalation_core.W007) The migration 0001_tables of escalation-core is not the file" in warned
    assert "no issues" in project.manage("check").out


NOT_READY = """
from django.db import transaction
from escalation_adapters.django import engine, verbs
from escalation_core import StoreNotReady

def use_engine():
    with engine() as escalation:
        escalation.acknowledge("1")

def use_verbs():
    with transaction.atomic():
        verbs().acknowledge("1")

for use in (use_engine, use_verbs):
    try:
        use()
    except StoreNotReady as error:
        print(error)
"""
MIGRATE = "; run: manage.py migrate; if no migration has the operation, add one: AttachEscalation for the first time"


@pytest.mark.parametrize(
    ("states", "statement", "fault"),
    [
        (["m1"], "SELECT", f"schema 'public' is not migrated{MIGRATE}"),
        (["m2", "m1"], "SELECT", f"schema 'public' is not attached to a table{MIGRATE}"),
        (
            ["m2"],
            "DELETE FROM escalation_migrations WHERE version > 3",
            f"schema 'public' is at version 3 and 9 is needed{MIGRATE}",
        ),
    ],
)
def test_a_schema_that_is_not_ready(pg_dsn: str, tmp_path: Path, states: list[str], statement: str, fault: str) -> None:
    """The worker, an engine and the verbs name a command of Django's, and none of the library's."""
    project = Project.make(tmp_path, {"default": postgres(pg_dsn)}, ESCALATION, ATTACH.replace("True", "False"))
    for state in states:
        project.manage("migrate", "shop", state, "-v0")
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(statement.encode())
    for args in (("escalation_worker",), ("escalation_worker", "--once")):
        assert f"CommandError: {fault}" in project.manage(*args, code=1).err
    assert 2 == project.script(NOT_READY).out.count(fault)


def test_a_column_that_is_gone(pg_dsn: str, tmp_path: Path) -> None:
    """Verbs name the system check, which reports what changed in the table."""
    project = Project.make(tmp_path, {"default": postgres(pg_dsn)}, ESCALATION, ATTACH)
    project.manage("migrate", "-v0")
    with psycopg.connect(pg_dsn) as connection:
        connection.execute("ALTER TABLE shop_incident DROP COLUMN snoozed_until")
    refused = project.script(NOT_READY).out.splitlines()[-1]
    assert refused.startswith("the database is not as this version and its mapping need it")
    assert refused.endswith("; run: manage.py check --database default")
    checked = project.manage("check", "--database", "default").err
    assert (
        "(escalation_core.W008) Column 'snoozed_until' of public.shop_incident is gone: host writes are found"
        in checked
    )
    assert "HINT: If it was renamed, run: escalation migrate attach --column snoozed_until=NEW." in checked


def test_a_server_that_is_down(tmp_path: Path) -> None:
    """The check warns, the worker ends with the reason, and neither shows the password."""
    entry = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": "app",
        "PASSWORD": "s3cret/@:?#",
        "PORT": 1,
    }
    project = Project.make(tmp_path, {"default": entry | {"HOST": "127.0.0.1"}}, ESCALATION, ATTACH)
    shown = [project.manage("check", "--database", "default"), project.manage("escalation_worker", code=1)]
    assert (
        "(escalation_core.W010) The database 'default' cannot be checked: PostgreSQL is not available" in shown[0].err
    )
    assert "PostgreSQL is not available" in shown[1].err
    assert "s3cret" not in "".join(each.out + each.err for each in shown)


def test_a_worker_connects_as_django_does(pg_dsn: str, tmp_path: Path) -> None:
    """Another schema, an assumed role with an odd name and a pooler: the worker, the verbs and the models follow."""
    role, schema = f'Role "x" {tmp_path.name}', "Ops desk"
    quoted = '"' + role.replace('"', '""') + '"'
    with psycopg.connect(pg_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {quoted}; GRANT {quoted} TO CURRENT_USER".encode())
        connection.execute(f'CREATE SCHEMA "{schema}" AUTHORIZATION {quoted}'.encode())
    entry = postgres(pg_dsn)
    entry["OPTIONS"] |= {"options": '-c search_path="Ops\\ desk"', "assume_role": role}
    entry["DISABLE_SERVER_SIDE_CURSORS"] = True
    project = Project.make(tmp_path, {"default": entry}, ESCALATION | {"schema": schema}, ATTACH)
    try:
        project.manage("migrate", "-v0")
        project.script(
            """
            from datetime import timedelta
            from django.db import connection, transaction
            from django.utils import timezone
            from escalation_adapters.django import verbs
            from shop.models import Incident
            with transaction.atomic():
                incident = Incident.objects.create(created_at=timezone.now() - timedelta(hours=1))
                verbs().change_severity(str(incident.pk), "warning")
            """
        )
        report = project.manage("escalation_worker", "--once").json
        assert (1, 1) == (report["escalations"], report["delivery"]["delivered"])
        project.script(
            """
            from escalation_adapters.django import database
            from escalation_adapters.django.models import AuditEntry, Incident, Page
            assert [("open", 1)] == list(Incident.objects.values_list("state", "level"))
            assert ["delivered"] == list(Page.objects.values_list("state", flat=True))
            assert "change_severity" in AuditEntry.objects.values_list("action", flat=True)
            assert database.pooled("default")
            """
        )
        assert "no issues" in project.manage("check", "--database", "default").out
    finally:
        with psycopg.connect(pg_dsn, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {quoted} CASCADE; DROP ROLE {quoted}".encode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_on_a_signal(pg_dsn: str, tmp_path: Path, number: signal.Signals) -> None:
    """The worker finishes what it has begun, and exits with 0."""
    project = Project.make(tmp_path, {"default": postgres(pg_dsn)}, ESCALATION, ATTACH)
    project.manage("migrate", "-v0")
    with project.beside("escalation_worker") as worker:
        assert worker.stderr is not None
        for line in worker.stderr:
            if '"tick ' in line or "tick mode" in line:
                break
        worker.send_signal(number)
        assert 0 == worker.wait(30), worker.stderr.read()


def test_the_projects_logging_stays(pg_dsn: str, tmp_path: Path) -> None:
    """A project with LOGGING of its own gets the worker's records there."""
    Project.make(tmp_path, {"default": postgres(pg_dsn)}, ESCALATION, ATTACH)
    project = Project(tmp_path, forks=False)  # LOGGING disables the loggers that a fork has imported already
    logging = {
        "version": 1,
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(tmp_path / "log"), "encoding": "utf-8"}},
        "root": {"handlers": ["file"], "level": "INFO"},
    }
    project.write("settings.py", (tmp_path / "settings.py").read_text() + f"\nLOGGING = {logging!r}\n")
    project.manage("migrate", "-v0")
    done = project.manage("escalation_worker", "--once")
    assert "" == done.err
    assert "open" == json.loads(done.out)["mode"]
    assert "tick" in (tmp_path / "log").read_text()


def test_an_engine_in_a_test_of_django(pg_dsn: str, tmp_path: Path) -> None:
    """In Django's tests the engine of a thread of its own works on the test's database, not on the project's."""
    project = Project.make(tmp_path, {"default": postgres(pg_dsn)}, ESCALATION, ATTACH)
    project.write(
        "shop/tests.py",
        """
from django.db import connection
from django.test import TransactionTestCase
from escalation_adapters.django import engine
from shop.models import Incident

class Engines(TransactionTestCase):
    def test_engine(self):
        incident = Incident.objects.create()
        with engine() as escalation:
            escalation.acknowledge(str(incident.pk))
        incident.refresh_from_db()
        self.assertIsNotNone(incident.acknowledged_at)
        self.assertTrue(connection.settings_dict["NAME"].startswith("test_"))
""",
    )
    assert "OK" in project.manage("test", "--noinput").err
