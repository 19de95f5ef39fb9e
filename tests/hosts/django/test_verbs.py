"""``verbs()``: in Django's transaction, with the project's own rows; and what it refuses."""

from collections.abc import Iterator

import pytest

from ...postgres import Server
from .project import ATTACH, COLUMNS, Project, postgres, sqlite

pytestmark = pytest.mark.direct("Django connects by itself, and not through the pooler")
ESCALATION = {"table": "shop_incident", "columns": COLUMNS, "schema": "public"}
HEAD = """
import json
from datetime import timedelta
from django.db import connection, transaction
from django.db.utils import DatabaseError
from django.utils import timezone
from escalation_adapters.django import verbs
from escalation_core import EscalationError, InvalidValue, StoreRefused, TransitionRefused
from shop.models import Incident, Report

def refused(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError("nothing was refused")

def actions(incident):
    with connection.cursor() as cursor:
        cursor.execute("SELECT action FROM escalation_audit WHERE incident_key = %s ORDER BY id", [str(incident.pk)])
        return [action for action, in cursor.fetchall()]

incident = Incident.objects.create(severity="critical", title="disk full")
key = str(incident.pk)
"""


@pytest.fixture(scope="module")
def project(postgres_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose table the engine is attached to."""
    with postgres_server.fresh() as dsn:
        made = Project.make(tmp_path_factory.mktemp("project"), {"default": postgres(dsn)}, ESCALATION, ATTACH)
        made.manage("migrate", "-v0")
        yield made


def test_a_verb_and_rows_are_committed_together(project: Project) -> None:
    """A verb finds the row that the ORM has just written, and is committed with it."""
    project.script(
        """
        with transaction.atomic():
            opened = Incident.objects.create(severity="warning", title="slow")
            Report.objects.create(incident=opened, text="x")
            assert "open" == verbs().open(str(opened.pk), summary="slow", by="ada").state
            verbs().acknowledge(str(opened.pk), by="ada", reason="on it")
        opened.refresh_from_db()
        assert opened.acknowledged_at is not None
        assert "acknowledge" in actions(opened)
        """,
        head=HEAD,
    )


def test_a_verb_opens_an_incident(project: Project) -> None:
    """A verb also inserts: the key that the sequence gave is the key of the row."""
    project.script(
        """
        with transaction.atomic():
            verbs().open("4711", severity="critical", summary="from a verb")
            Report.objects.create(incident_id=4711, text="x")
        assert "from a verb" == Incident.objects.get(pk=4711).title
        """,
        head=HEAD,
    )


def test_verbs_know_the_policies(project: Project) -> None:
    """Verbs take policies from ``ESCALATION``; with a faulty file an incident is still answered, and none is named."""
    project.script(
        """
        from django.conf import settings
        from django.test import override_settings
        from escalation_core import Policies
        file = Policies.from_mapping({"policies": {"ops": {"levels": [{"after": "0m"}]}}})
        with override_settings(ESCALATION=settings.ESCALATION | {"policies": file}), transaction.atomic():
            opened = verbs().open(key, policy="ops")
            assert ("ops", True) == (opened.policy, opened.policy_pin.startswith("ops@")), opened
            assert opened.level == verbs().rebind(key, restart=True).level
        gone = settings.ESCALATION | {"ESC_POLICIES": "/nowhere.yaml"}
        with override_settings(ESCALATION=gone), transaction.atomic():
            assert verbs().acknowledge(key).acknowledged_at
            refused(InvalidValue, "is not known without a policies file", lambda: verbs().open(key, policy="ops"))
        assert "rebind" in actions(incident)
        """,
        head=HEAD,
    )


def test_a_verb_and_rows_are_rolled_back_together(project: Project) -> None:
    """What fails after a verb takes the verb with it: in the block, and in a savepoint alone."""
    project.script(
        """
        try:
            with transaction.atomic():
                Report.objects.create(incident=incident, text="x")
                verbs().acknowledge(key)
                Report.objects.create(incident=incident, text="x" * 21)
        except DatabaseError:
            pass
        incident.refresh_from_db()
        assert (None, 0, []) == (incident.acknowledged_at, incident.report_set.count(), actions(incident))

        with transaction.atomic():
            mine = verbs()
            try:
                with transaction.atomic():
                    mine.acknowledge(key)
                    raise KeyError
            except KeyError:
                pass
            with transaction.atomic():
                mine.snooze(key, timedelta(hours=2))
            Report.objects.create(incident=incident, text="x")
        incident.refresh_from_db()
        assert (None, 1, ["snooze"]) == (incident.acknowledged_at, incident.report_set.count(), actions(incident))
        """,
        head=HEAD,
    )


def test_a_refused_verb_leaves_the_transaction_usable(project: Project) -> None:
    """A host may catch the refusal, and go on: only the verb is undone."""
    project.script(
        """
        with transaction.atomic():
            Report.objects.create(incident=incident, text="x")
            refused(TransitionRefused, "unknown", lambda: verbs().acknowledge("999999"))
            refused(InvalidValue, "severity", lambda: verbs().change_severity(key, "a\\x00b"))
            refused(StoreRefused, "too long", lambda: verbs().change_severity(key, "s" * 21))
            refused(TransitionRefused, "unknown", lambda: verbs().acknowledge("not a number"))
            verbs().resolve(key)
        assert (1, ["resolve"]) == (incident.report_set.count(), actions(incident))
        """,
        head=HEAD,
    )


def test_where_verbs_refuse(project: Project) -> None:
    """Outside of a transaction, in a failed one, in a read-only one, and after the one in which they began."""
    project.script(
        """
        refused(InvalidValue, "not in a transaction; write: with transaction.atomic(using='default')", verbs)

        with transaction.atomic():
            mine = verbs()
            mine.snooze(key, timedelta(hours=2))
        refused(InvalidValue, "connection", lambda: mine.acknowledge(key))
        with transaction.atomic():
            refused(InvalidValue, "has ended the transaction", lambda: mine.acknowledge(key))

        with transaction.atomic():
            mine = verbs()
            try:
                Report.objects.create(incident=incident, text="x" * 21)
            except DatabaseError:
                refused(InvalidValue, "failed", verbs)
                refused(InvalidValue, "is in a failed transaction", lambda: mine.acknowledge(key))
            transaction.set_rollback(True)

        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
            refused(InvalidValue, "read-only", lambda: verbs().acknowledge(key))

        with transaction.atomic():
            connection.connection.close()
            refused(InvalidValue, "connection", lambda: verbs().acknowledge(key))
            transaction.set_rollback(True)
        connection.close()
        incident.refresh_from_db()
        assert (None, ["snooze"]) == (incident.acknowledged_at, actions(incident))
        """,
        head=HEAD,
    )


def test_orm_writes_reach_the_engine(project: Project) -> None:
    """Writes of the ORM need no verb: triggers plan the row, and cancel its pages."""
    project.script(
        """
        from escalation_adapters.django.models import Incident as Seen
        seen = Seen.objects.get(pk=incident.pk)
        assert ("open", 0, 1) == (seen.state, seen.level, seen.next_due_at.timestamp() // 1 + 1)
        Incident.objects.filter(pk=incident.pk).update(acknowledged_at=timezone.now())
        assert "acknowledged" == Seen.objects.get(pk=incident.pk).state
        """,
        head=HEAD,
    )


def test_tests_of_a_project_roll_verbs_back(project: Project) -> None:
    """A ``TestCase`` of the project runs in a transaction, so verbs work in it, and leave nothing behind."""
    project.write(
        "shop/tests.py",
        """
from django.test import TestCase
from escalation_adapters.django import verbs
from shop.models import Incident

class Verbs(TestCase):
    def test_acknowledge(self):
        incident = Incident.objects.create()
        verbs().acknowledge(str(incident.pk))
        incident.refresh_from_db()
        self.assertIsNotNone(incident.acknowledged_at)

    def test_nothing_is_left(self):
        self.assertFalse(Incident.objects.exists())
""",
    )
    assert "OK" in project.manage("test", "--noinput").err


def test_a_file_of_sqlite_takes_no_part(pg_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """On SQLite the verbs are those of an engine of its own; it works from any thread."""
    folder = tmp_path_factory.mktemp("project")
    databases = {"default": sqlite(folder / "db.sqlite3"), "escalation": sqlite(folder / "escalation.db")}
    project = Project.make(folder, databases, {"database": "escalation"}, ATTACH)
    project.script(
        """
        from concurrent.futures import ThreadPoolExecutor
        from django.db import transaction
        from escalation_adapters.django import engine, verbs
        from escalation_adapters.django.models import AuditEntry, Incident
        from escalation_core import InvalidValue

        try:
            with transaction.atomic():
                verbs()
        except InvalidValue as error:
            assert "engine()" in error.remedy
        with engine() as escalation, ThreadPoolExecutor() as threads:
            list(threads.map(lambda n: escalation.open(f"db-{n}", severity="critical"), range(5)))
            escalation.acknowledge("db-1", by="ada")
        assert 5 == Incident.objects.count()
        seen = Incident.objects.get(pk="db-1")
        assert ("acknowledged", "ada") == (seen.state, seen.acknowledged_by)
        assert seen.first_seen <= seen.acknowledged_at
        assert ["acknowledge"] == [e.action for e in AuditEntry.objects.filter(at__gte=seen.acknowledged_at)]
        """
    )
