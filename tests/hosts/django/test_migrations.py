"""``AttachEscalation`` and ``UpdateEscalation``: twice, in parallel, interrupted, reversed, printed and squashed."""

from pathlib import Path

import psycopg
import pytest

from ...examples.hosting import catalogue
from ...postgres import Server
from .project import ATTACH, COLUMNS, Project, postgres

pytestmark = pytest.mark.direct("Django connects by itself, and not through the pooler")
ESCALATION = {"table": "shop_incident", "columns": COLUMNS}
KEYS = {"incident_key": "id", "first_seen": "created_at"}
FAILS = "migrations.RunPython(lambda apps, editor: 1 / 0, migrations.RunPython.noop)"
CANNOT_GO_BACK = "migrations.RunPython(migrations.RunPython.noop, lambda apps, editor: 1 / 0)"
OPEN = "INSERT INTO shop_incident (severity, title, created_at) VALUES ('critical', '', now() - interval '1 hour')"
EVERY_STATE = """
ALTER TABLE shop_incident DISABLE TRIGGER USER, ALTER title DROP NOT NULL;
INSERT INTO shop_incident (severity, title, created_at, acknowledged_at, resolved_at)
SELECT 'critical', word, now() - interval '1 hour', acknowledged, resolved
FROM unnest(ARRAY['new', 'seen', 'done', 'strange', NULL]) word,
    unnest(ARRAY[NULL, now()]) acknowledged, unnest(ARRAY[NULL, now()]) resolved;
"""
TICKED = "INSERT INTO escalation_workers (worker, ticked_at, version) VALUES ('node-1', now(), '1')"
LOCK = """
SELECT pg_advisory_xact_lock(('x' || substr(encode(sha256('escalation-core public'), 'hex'), 1, 16))::bit(64)::bigint)
"""


def make(folder: Path, dsn: str, *operations: str) -> Project:
    return Project.make(folder, {"default": postgres(dsn)}, ESCALATION, *operations)


def applied(project: Project) -> str:
    """Return which migrations of the app are applied: ``XX_`` are two of three."""
    shown = project.manage("showmigrations", "shop").out
    return "".join("X" if "[X]" in line else "_" for line in shown.splitlines()[1:])


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_there_and_back(pg_dsn: str, tmp_path: Path) -> None:
    """Forwards twice and backwards twice: the database is as it was, and the models have no changes."""
    project = make(tmp_path, pg_dsn, ATTACH)
    project.manage("migrate", "shop", "m1", "-v0")
    before = catalogue(pg_dsn)
    for _ in range(2):
        project.manage("migrate", "-v0")
        attached = catalogue(pg_dsn)
        project.manage("migrate", "-v0")
        assert attached == catalogue(pg_dsn)
        assert "No changes" in project.manage("makemigrations", "--check", "--dry-run").out
        for _ in range(2):
            project.manage("migrate", "shop", "m1", "-v0")
            assert before == catalogue(pg_dsn)
    assert "Attach escalation-core to the table shop_incident" in project.manage("migrate", "--plan").out


STATUS = {"column": "title", "open": ["new"], "acknowledged": "seen", "resolved": ["done"]}
WITH_STATUS = (
    f"AttachEscalation('shop_incident', columns={KEYS!r}, status={STATUS!r}, existing='page', drop_tables=True)"
)


@pytest.mark.parametrize(
    ("operation", "atomic"),
    [(ATTACH.replace("drop_tables", "existing='page', drop_tables"), True), (WITH_STATUS, False)],
)
def test_printed_sql_does_the_same(
    pg_dsn: str, postgres_server: Server, tmp_path: Path, operation: str, atomic: bool
) -> None:
    """``sqlmigrate`` prints what ``migrate`` does, there and back, as a script for psql."""
    project = make(tmp_path, pg_dsn)
    project.migration(2, operation, atomic=atomic)
    project.manage("migrate", "shop", "m1", "-v0")
    before = catalogue(pg_dsn)
    there = project.manage("sqlmigrate", "shop", "m2").out
    project.configure({"default": postgres(pg_dsn)}, ESCALATION | {"ESC_TICK_MS": 77_000})
    back = project.manage("sqlmigrate", "shop", "m2", "--backwards").out
    assert "secs => 154" in back  # two tick intervals
    project.manage("migrate", "-v0")
    with postgres_server.fresh() as other:
        project.configure({"default": postgres(other)}, ESCALATION)
        project.manage("migrate", "shop", "m1", "-v0")
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute(there.encode())
            assert catalogue(pg_dsn) == catalogue(other)
            project.manage("migrate", "shop", "m2", "--fake", "-v0")
            assert "W008" not in project.manage("check", "--database", "default").err
            connection.execute(back.encode())
        assert before == catalogue(other)


def test_a_status_of_the_project(pg_dsn: str, tmp_path: Path) -> None:
    """The project's own status decides the state, for the engine and in the admin's models."""
    project = make(tmp_path, pg_dsn, WITH_STATUS)
    project.manage("migrate", "-v0")
    assert "W011" in project.manage("check", "--database", "default").err
    project.configure({"default": postgres(pg_dsn)}, {"table": "shop_incident", "columns": KEYS, "status": STATUS})
    assert "no issues" in project.manage("check", "--database", "default").out
    project.script(
        """
        from django.db import transaction
        from escalation_adapters.django import verbs
        from escalation_adapters.django.models import Incident as Seen
        from shop.models import Incident
        for word in ("new", "seen", "done", "strange"):
            Incident.objects.create(title=word)
        states = list(Seen.objects.order_by("first_seen").values_list("status", "state"))
        assert [("new", "open"), ("seen", "acknowledged"), ("done", "resolved"), ("strange", "open")] == states
        with transaction.atomic():
            verbs().acknowledge(str(Incident.objects.get(title="new").pk))
        assert 2 == Seen.objects.filter(state="acknowledged").count() == Incident.objects.filter(title="seen").count()
        """
    )


@pytest.mark.parametrize("left_out", ["", "acknowledged", "status"])
def test_the_models_have_the_engine_s_states(pg_dsn: str, tmp_path: Path, left_out: str) -> None:
    """For every mix of instants and words, the admin's state is the one in the engine's history."""
    status = None if left_out == "status" else {name: words for name, words in STATUS.items() if name != left_out}
    given = {"columns": KEYS, "status": status}
    operation = f"AttachEscalation('shop_incident', **{given!r}), migrations.RunSQL({EVERY_STATE!r})"
    project = Project.make(tmp_path, {"default": postgres(pg_dsn)}, {"table": "shop_incident"} | given, operation)
    project.manage("migrate", "-v0")
    project.script(
        """
        from escalation_adapters.django import engine
        from escalation_adapters.django.models import Incident
        with engine() as escalation:
            states = {row.pk: escalation.history(str(row.pk)).incident.state.value for row in Incident.objects.all()}
        assert 20 == len(states)
        assert {"open", "acknowledged", "resolved"} == {*states.values()}
        assert states == dict(Incident.objects.values_list("pk", "state"))
        assert all(state == Incident.objects.filter(state=state).get(pk=key).state for key, state in states.items())
        """
    )


def test_open_incidents_need_a_choice(pg_dsn: str, tmp_path: Path) -> None:
    """Where incidents would page at once, the operation changes nothing until the migration chooses."""
    project = make(tmp_path, pg_dsn, ATTACH)
    project.manage("migrate", "shop", "m1", "-v0")
    execute(pg_dsn, OPEN)
    before = catalogue(pg_dsn)
    refused = project.manage("migrate", code=1).err
    assert "existing: is not set; 1 incidents are open, and 1 of them would page now; write existing='page'" in refused
    assert before == catalogue(pg_dsn)
    assert "X_" == applied(project)
    refused = project.manage("sqlmigrate", "shop", "m2", code=1).err
    assert "existing: is not set; the SQL cannot count the open incidents; write existing='page'" in refused
    project.migration(2, ATTACH.replace("drop_tables", "existing='skip', drop_tables"))
    project.manage("migrate", "-v0")
    project.migration(3, "AttachEscalation('alerts', create=True)")
    assert 'CREATE TABLE "public"."alerts"' in project.manage("sqlmigrate", "shop", "m3").out


def test_a_table_that_does_not_fit(pg_dsn: str, tmp_path: Path) -> None:
    """All faults are reported at once, and nothing is changed."""
    project = make(tmp_path, pg_dsn, "AttachEscalation('shop_incident', columns={'incident_key': 'title'})")
    project.manage("migrate", "shop", "m1", "-v0")
    before = catalogue(pg_dsn)
    refused = project.manage("migrate", code=1).err
    assert "it has no column 'first_seen'" in refused
    assert "'title' has no unique index" in refused
    assert before == catalogue(pg_dsn)
    project.migration(2, "AttachEscalation('shop_incident', status={'column': 'title'})")
    assert "status: is not a valid status mapping; write {'column'" in project.manage("migrate", code=1).err
    project.migration(2, "AttachEscalation('nowhere')")
    assert "there is no such table" in project.manage("migrate", code=1).err


def test_what_follows_fails(pg_dsn: str, tmp_path: Path) -> None:
    """An atomic migration that fails after the attach undoes it. In another one, the attach is whole and repeatable."""
    project = make(tmp_path, pg_dsn, f"{ATTACH}, {FAILS}")
    project.manage("migrate", "shop", "m1", "-v0")
    before = catalogue(pg_dsn)
    assert "ZeroDivisionError" in project.manage("migrate", code=1).err
    assert before == catalogue(pg_dsn)
    project.migration(2, f"{ATTACH}, {FAILS}", atomic=False)
    for _ in range(2):
        assert "ZeroDivisionError" in project.manage("migrate", code=1).err
        project.manage("check", "--database", "default", "--fail-level", "WARNING")
    assert "X_" == applied(project)
    project.migration(2, ATTACH, atomic=False)
    project.manage("migrate", "-v0")
    project.manage("migrate", "shop", "m1", "-v0")
    assert before == catalogue(pg_dsn)


def test_backwards_half_way(pg_dsn: str, tmp_path: Path) -> None:
    """A migration that cannot be reversed, or a worker that runs, stops the way back; what is attached stays whole."""
    project = make(tmp_path, pg_dsn, ATTACH, CANNOT_GO_BACK)
    project.manage("migrate", "-v0")
    attached = catalogue(pg_dsn)
    assert "ZeroDivisionError" in project.manage("migrate", "shop", "zero", code=1).err
    assert ("XXX", attached) == (applied(project), catalogue(pg_dsn))
    project.migration(3, "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)")
    execute(pg_dsn, TICKED)
    stopped = project.manage("migrate", "shop", "zero", code=1).err
    assert "worker 'node-1' completed a tick" in stopped
    assert "stop the workers" in stopped
    assert ("XX_", attached) == (applied(project), catalogue(pg_dsn))
    project.manage("check", "--database", "default", "--fail-level", "WARNING")
    project.manage("migrate", "-v0")
    execute(pg_dsn, "DELETE FROM escalation_workers")
    project.manage("migrate", "shop", "zero", "-v0")
    assert "___" == applied(project)


def test_reversed_without_drop_tables(pg_dsn: str, tmp_path: Path) -> None:
    """Without ``drop_tables`` the history stays, and a later attach continues it."""
    project = make(tmp_path, pg_dsn, ATTACH.replace("True", "False"))
    project.manage("migrate", "-v0")
    execute(pg_dsn, OPEN, "UPDATE shop_incident SET escalation_level = 2")
    project.manage("migrate", "shop", "m1", "-v0")
    assert any("relation public.escalation_events" in line for line in catalogue(pg_dsn))
    project.migration(2, ATTACH.replace("drop_tables", "existing='skip', drop_tables"))
    project.manage("migrate", "-v0")
    with psycopg.connect(pg_dsn) as connection:
        assert (2,) == connection.execute("SELECT escalation_level FROM shop_incident").fetchone()


def test_detached_by_hand(pg_dsn: str, tmp_path: Path) -> None:
    """Where nothing is attached any more, the way back says so, and what to do."""
    project = make(tmp_path, pg_dsn, ATTACH)
    project.manage("migrate", "shop", "m1", "-v0")
    project.manage("migrate", "shop", "m2", "--fake", "-v0")
    stopped = project.manage("migrate", "shop", "m1", code=1).err
    assert (
        "schema 'public' is not attached to a table; if there is nothing to detach, record that: manage.py" in stopped
    )


def test_in_parallel(pg_dsn: str, tmp_path: Path) -> None:
    """Of processes that migrate at once, each succeeds or says that another one is at work; the attach is whole."""
    project = make(tmp_path, pg_dsn, ATTACH)
    project.manage("migrate", "shop", "m1", "-v0")
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(LOCK.encode())
        assert "another process migrates the schema 'public'" in project.manage("migrate", code=1).err
    running = [project.beside("migrate") for _ in range(3)]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in running]
    assert 0 in [code for _, code in ends], ends
    assert all(code == 0 or "another process migrates" in err for err, code in ends), ends
    project.manage("migrate", "-v0")
    project.manage("check", "--database", "default", "--fail-level", "WARNING")


def test_the_table_is_locked(pg_dsn: str, tmp_path: Path) -> None:
    """A transaction that keeps the table's lock stops the migration after a short wait, and nothing is changed."""
    project = make(tmp_path, pg_dsn, ATTACH)
    project.manage("migrate", "shop", "m1", "-v0")
    before = catalogue(pg_dsn)
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(OPEN.encode())
        assert "lock" in project.manage("migrate", code=1).err
    assert before == catalogue(pg_dsn)


def test_another_alias(pg_dsn: str, postgres_server: Server, tmp_path: Path) -> None:
    """The operation works on ESCALATION's alias alone."""
    with postgres_server.fresh() as other:
        databases = {"default": postgres(pg_dsn), "other": postgres(other)}
        project = Project.make(tmp_path, databases, ESCALATION | {"database": "other"}, ATTACH)
        project.manage("migrate", "-v0")
        assert not any("escalation" in line for line in catalogue(pg_dsn))
        assert "no-op" in project.manage("sqlmigrate", "shop", "m2").out
        assert "is not attached" in project.manage("check", "--database", "other").err
        assert "no issues" in project.manage("check", "--database", "default").out
        project.manage("migrate", "--database", "other", "-v0")
        assert any("escalation" in line for line in catalogue(other))
        assert "no issues" in project.manage("check", "--database", "other").out


def test_update(pg_dsn: str, tmp_path: Path) -> None:
    """``UpdateEscalation`` applies what a release adds, and changes the mapping; reversed, it maps as before."""
    project = make(tmp_path, pg_dsn, ATTACH)
    project.manage("migrate", "-v0")
    execute(
        pg_dsn,
        "DELETE FROM escalation_migrations WHERE version = 8",
        "ALTER TABLE shop_incident ADD COLUMN opened_at timestamptz NOT NULL DEFAULT now()",
        OPEN,
    )
    warned = project.manage("check", "--database", "default").err
    assert "Migrations of escalation-core are pending: 0008_delivery_indexes" in warned
    assert "UpdateEscalation" in warned
    before, after = "{'first_seen': 'created_at'}", "{'first_seen': 'opened_at'}"
    project.migration(3, f"UpdateEscalation(columns={after}, columns_before={before})")
    project.manage("migrate", "-v0")
    warned = project.manage("check", "--database", "default").err
    assert "(escalation_core.W011) The engine is attached with 'opened_at' as first_seen, and ESCALATION does" in warned
    changed = {"table": "incident", "columns": COLUMNS | {"first_seen": "opened_at"}}
    project.configure({"default": postgres(pg_dsn)}, changed)
    warned = project.manage("check", "--database", "default").err
    assert "The engine is attached to the table public.shop_incident, and ESCALATION names 'incident'" in warned
    project.configure({"default": postgres(pg_dsn)}, changed | {"table": "shop_incident"})
    assert "no issues" in project.manage("check", "--database", "default").out
    assert ("opened_at",) == first_seen(pg_dsn)
    assert "run manage.py migrate" in project.manage("sqlmigrate", "shop", "m3").out
    project.manage("migrate", "shop", "m2", "-v0")
    assert ("created_at",) == first_seen(pg_dsn)
    project.migration(3, "UpdateEscalation()")
    project.manage("migrate", "-v0")
    project.manage("migrate", "shop", "m2", "-v0")
    project.manage("migrate", "shop", "zero", "-v0")
    project.manage("migrate", "-v0")


def first_seen(dsn: str) -> tuple[object, ...] | None:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT value->'columns'->>'first_seen' FROM escalation_meta WHERE name = 'incidents'"
        ).fetchone()


def test_squashed(pg_dsn: str, tmp_path: Path) -> None:
    """A squashed migration keeps the operation with its arguments, in its place."""
    field = "migrations.AddField('Incident', 'note', models.TextField(default=''))"
    project = make(tmp_path, pg_dsn, ATTACH, field)
    project.write("shop/models.py", (tmp_path / "shop/models.py").read_text().replace("    title", NOTE))
    project.manage("squashmigrations", "shop", "m3", "--noinput", "-v0")
    [squashed] = (tmp_path / "shop/migrations").glob("*squashed*")
    text = squashed.read_text()
    assert text.index("CreateModel") < text.index("AttachEscalation(") < text.index("AddField")
    project.manage("migrate", "-v0")
    project.manage("check", "--database", "default", "--fail-level", "WARNING")
    project.manage("migrate", "shop", "zero", "-v0")
    assert not any("escalation" in line for line in catalogue(pg_dsn))


NOTE = "    note = models.TextField(default='')\n    title"
