"""The Django project: from an empty database to a page, and back to nothing; on PostgreSQL and on SQLite."""

import json
import sqlite3
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .hosting import Programs, Receiver

HEAD = """
import json
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.db import DatabaseError, transaction
from django.test import Client
from django.utils import timezone
from escalation_adapters.django import engine, verbs
from escalation_adapters.django.models import AuditEntry, Escalation, Page, Incident as Seen
from incidents.models import Incident, Report
"""
OPEN = """
given = {"severity": "critical", "title": "Checkout fails", "reporter": "monitoring"}
answer = Client().post("/incidents/", given)
assert 201 == answer.status_code, answer.content
print(json.dumps(answer.json()["id"]))
"""
ACKNOWLEDGE = """
assert {"changed": 1} == Client().post("/incidents/KEY/acknowledge/").json()
assert "acknowledged" == Seen.objects.get(pk="KEY").state
assert ["delivered"] == [page.state for page in Page.objects.filter(incident_key="KEY")]
"""
ADMIN = """
users = get_user_model().objects
users.create_superuser("root", password="x")
client = Client(raise_request_exception=True)
client.force_login(users.get())
for model, row, key in (
    ("incident", "KEY", "KEY"),
    ("escalation", Escalation.objects.get().pk, "KEY"),
    ("page", Page.objects.get().pk, "webhook"),
    ("auditentry", AuditEntry.objects.order_by("id").first().pk, "open"),
):
    place = f"/admin/escalation_core/{model}/"
    times = ("2020-01-01 00:00:00%2B00:00", "2100-01-01 00:00:00%2B00:00")
    dates = [f"?{field}__gte={times[0]}&{field}__lt={times[1]}" for field in ("created_at", "at")]
    for query in ("", "?q=KEY", "?level=1", "?o=1", "?state=open", "?state__exact=delivered", "?action=open", *dates):
        answer = client.get(place + query, follow=True)
        assert 200 == answer.status_code, (place, query)
    assert key in client.get(place).content.decode(), place
    for query in ("?q=KEY", dates[model == "auditentry"] if model != "incident" else ""):
        assert "KEY" in client.get(place + query).content.decode(), (place, query)
    assert "KEY" in client.get(place + "?q=KEY").content.decode(), place
    assert f'{place}add/' not in client.get(place).content.decode()
    shown = client.get(f"{place}{row}/change/").content.decode()
    assert key in shown, shown
    assert 'name="_save"' not in shown
    assert 200 == client.get(f"{place}{row}/history/").status_code
    assert 403 == client.get(place + "add/").status_code
    assert 403 == client.post(place + "add/", {"incident_key": "x"}).status_code
    assert 403 == client.post(f"{place}{row}/change/", {"incident_key": "x"}).status_code
    assert 403 == client.post(f"{place}{row}/delete/", {"post": "yes"}).status_code
    deletion = {"action": "delete_selected", "_selected_action": [row], "post": "yes"}
    client.post(place, deletion)
    for missing in ("999999", "no-such-key", "%00", "0000", "9" * 30):
        assert 302 == client.get(f"{place}{missing}/change/").status_code, (place, missing)
assert 1 == Seen.objects.filter(pk="KEY").count() == Escalation.objects.count() == Page.objects.count()
users.create_user("staff", password="x", is_staff=True)
client.force_login(users.get(username="staff"))
assert 403 == client.get("/admin/escalation_core/page/").status_code
"""
DETACHED = """
client = Client()
client.force_login(get_user_model().objects.get(username="root"))
answer = client.get("/admin/escalation_core/page/", follow=True)
assert [("/admin/", 302)] == answer.redirect_chain
assert "run: manage.py check --database default" in answer.content.decode()
assert 200 == client.get("/admin/").status_code
"""
TOGETHER = """
incident = Incident.objects.create(severity="critical", title="slow")
key = str(incident.pk)
try:
    with transaction.atomic():
        Report.objects.create(incident=incident, reporter="ada")
        verbs().acknowledge(key, by="ada")
        Report.objects.create(incident=incident, reporter="a" * 51)
except DatabaseError:
    pass
incident.refresh_from_db()
assert (None, 0) == (incident.acknowledged_at, incident.report_set.count())
assert not AuditEntry.objects.filter(incident_key=key, action="acknowledge").exists()

before = Incident.objects.count(), Report.objects.count()
try:
    Client().post("/incidents/", {"severity": "\\x00", "title": "x", "reporter": "ada"})
except (DatabaseError, ValueError):
    assert before == (Incident.objects.count(), Report.objects.count())
else:
    raise AssertionError("a verb took a severity that is not text")
"""


@pytest.fixture
def app(run: Programs, tmp_path: Path, receiver: Receiver) -> Programs:
    """The example's programs, on SQLite files of the test's own; warnings are errors."""
    return run.of("django", DATA_FOLDER=str(tmp_path), PAGE_URL=receiver.url, PYTHONWARNINGS="error")


@pytest.fixture
def on_postgres(app: Programs, database: str) -> Programs:
    """The example's programs, on PostgreSQL."""
    return app.of("django", DATABASE_URL=database)


def script(app: Programs, text: str, key: str = "") -> Any:
    """Run a program in the project, where KEY is the key; return its last line of output as JSON."""
    done = app("manage.py", "shell", "-v0", "-c", HEAD + textwrap.dedent(text).replace("KEY", key))
    return json.loads(done.out.splitlines()[-1]) if done.out else None


def page_one(app: Programs, receiver: Receiver, make_due: str) -> str:
    """Open an incident through the view; let a worker page about it; return its key."""
    key: str = script(app, OPEN)
    script(app, make_due, key)
    with app.beside("manage.py", "escalation_worker") as worker:
        [page] = receiver.wait_for(1)
        done = worker.stop()
    assert 0 == done.code, done.out
    assert {"incident": key, "title": "Checkout fails", "level": 1} == page.body
    assert page.headers["X-Dedup-Key"]
    assert "delivered=1" in done.out
    return key


def test_on_postgres(
    on_postgres: Programs, database: str, receiver: Receiver, catalogue: Callable[[str], frozenset[str]]
) -> None:
    """Migrate, open, page, acknowledge through the ORM, look at the admin, and migrate back to nothing."""
    app = on_postgres
    for label in ("admin", "auth", "sessions"):
        app("manage.py", "migrate", label, "-v0")
    before = catalogue(database)

    app("manage.py", "migrate", "-v0")
    assert "No changes detected" in app("manage.py", "makemigrations", "--check", "--dry-run").out
    assert "no issues" in app("manage.py", "check", "--database", "default", "--fail-level", "WARNING").out
    app("manage.py", "migrate", "-v0")

    earlier = "Incident.objects.filter(pk='KEY').update(created_at=timezone.now() - timedelta(minutes=10))"
    key = page_one(app, receiver, earlier)
    script(app, ADMIN, key)
    script(app, ACKNOWLEDGE, key)
    script(app, TOGETHER)
    report = app("manage.py", "escalation_worker", "--once").json
    assert (0, 0) == (report["escalations"], report["delivery"]["sent"])
    assert 1 == len(receiver.requests)

    refused = app("manage.py", "migrate", "incidents", "zero", code=1)
    assert "stop the workers" in refused.err
    app("manage.py", "check", "--database", "default", "--fail-level", "WARNING")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE escalation_workers SET ticked_at = ticked_at - interval '10 minutes'")
    app("manage.py", "migrate", "incidents", "0001", "-v0")
    warned = app("manage.py", "check", "--database", "default", "--fail-level", "WARNING", code=1)
    assert "is not attached" in warned.err
    script(app, DETACHED)
    app("manage.py", "migrate", "incidents", "zero", "-v0")
    assert before == catalogue(database)
    app("manage.py", "migrate", "-v0")


def tables(path: Path) -> set[str]:
    """Return the statements that made what is in an SQLite file."""
    with sqlite3.connect(path) as connection:
        found = {str(sql) for (sql,) in connection.execute("SELECT sql FROM sqlite_schema")}
    connection.close()
    return found


def test_on_sqlite(app: Programs, tmp_path: Path, receiver: Receiver) -> None:
    """The same on SQLite: the engine keeps a file of its own, and the verbs have transactions of their own."""
    for label in ("admin", "auth", "sessions"):
        app("manage.py", "migrate", label, "-v0")
    before = tables(tmp_path / "db.sqlite3")

    app("manage.py", "migrate", "-v0")
    assert "No changes detected" in app("manage.py", "makemigrations", "--check", "--dry-run").out
    check = ("check", "--database", "default", "--database", "escalation", "--fail-level", "WARNING")
    assert "no issues" in app("manage.py", *check).out

    earlier = """
    with engine() as escalation:
        escalation.resolve("KEY")
        escalation.open("KEY", first_seen=timezone.now() - timedelta(minutes=10))
    """
    key = page_one(app, receiver, earlier)
    script(app, ADMIN, key)
    script(app, ACKNOWLEDGE, key)
    assert 0 == app("manage.py", "escalation_worker", "--once").json["delivery"]["sent"]
    assert "no issues" in app("manage.py", *check).out
    assert 1 == len(receiver.requests)

    app("manage.py", "migrate", "incidents", "zero", "-v0")
    assert before == tables(tmp_path / "db.sqlite3")
