"""``ESCALATION``: what it accepts, and one clear message for each wrong key or value."""

import json
from pathlib import Path
from typing import Any

import pytest

from escalation_adapters.postgres import mapping
from escalation_adapters.sqlite.codec import SQL_NAMES

from .project import Project, sqlite

BAD: dict[str, tuple[Any, str]] = {
    "a list": ([], "ESCALATION is list; Write a dict"),
    "an unknown key": ({"tables": "x"}, "ESCALATION['tables'] is not a known key; The nearest is 'table'"),
    "a variable of a wrong name": (
        {"ESC_TICKS_MS": 1},
        "ESCALATION['ESC_TICKS_MS'] is not a known key; The nearest is",
    ),
    "a number as key": ({7: 1}, "ESCALATION[7] is not a known key"),
    "the URL of a database": (
        {"ESC_DATABASE_URL": "x"},
        "ESCALATION['ESC_DATABASE_URL'] is not a key of ESCALATION; Leave",
    ),
    "an unknown alias": ({"database": "other"}, "is 'other', which DATABASES does not have; Name an alias"),
    "an alias that is a list": ({"database": []}, "ESCALATION['database'] is [], which DATABASES does not have"),
    "an empty schema": ({"schema": ""}, "ESCALATION['schema'] is ''; Write a name"),
    "a table that is a number": ({"table": 7}, "ESCALATION['table'] is 7; Write a name"),
    "columns as a list": (
        {"columns": ["id"]},
        "ESCALATION['columns'] is not a valid mapping of names; Write for example",
    ),
    "a column that the engine lacks": ({"columns": {"key": "id"}}, "the engine has no column 'key'; Use incident_key"),
    "a column that is mapped twice": ({"columns": {"summary": "a", "severity": "a"}}, "'a' is mapped twice"),
    "a status without words": (
        {"status": {"column": "s"}},
        "ESCALATION['status'] is not a valid status mapping; Write",
    ),
    "a status that is a text": ({"status": "state"}, "ESCALATION['status'] is not a valid status mapping"),
    "a word twice": ({"status": {"column": "s", "open": ["a"], "resolved": ["a"]}}, "the word 'a' stands twice"),
    "a path that is no path": ({"notifiers": "make"}, "ESCALATION['notifiers'] is 'make'; Write the dotted path"),
    "notifiers that are missing": ({"notifiers": "shop.none.make"}, "shop.none.make cannot be imported"),
    "notifiers that are text": ({"notifiers": "shop.models.__name__"}, "shop.models.__name__ is str; name a function"),
    "a wrong value": ({"ESC_TICK_MS": 5}, "ESCALATION['ESC_TICK_MS'] is 5; Give 1000 to 600000 milliseconds"),
    "a value of a wrong type": ({"ESC_TICK_MS": {1}}, "ESCALATION['ESC_TICK_MS'] is set; Write a text, a number"),
    "what JSON cannot hold": ({"ESC_ACK_MIN": {"high": {1}}}, "ESCALATION['ESC_ACK_MIN'] cannot be written as JSON"),
    "a settings object of a wrong type": ({"settings": {}}, "ESCALATION['settings'] is dict; Give a Settings"),
    "policies of a wrong type": ({"policies": {}}, "ESCALATION['policies'] is dict; Give Policies.from_mapping"),
    "a policies file that is missing": (
        {"ESC_POLICIES": "/nowhere/policies.yaml"},
        "The policies file cannot be used: the policies have 1 problem:\n  /nowhere/policies.yaml: cannot be read",
    ),
    "a secret of a wrong form": ({"ESC_TARGETS": {"a": "http://secret.example.org"}}, "ESCALATION['ESC_TARGETS']"),
}
READ = """
import json
from django.core import checks
from django.test import override_settings

for given in BAD.values():
    with override_settings(ESCALATION=given):
        found = checks.run_checks()
        print(json.dumps([f"{message.msg.removesuffix('.')}; {message.hint}" for message in found]))
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The messages of the system checks for each of the wrong settings."""
    folder = tmp_path_factory.mktemp("project")
    files = {"default": sqlite(folder / "db.sqlite3"), "escalation": sqlite(folder / "escalation.db")}
    project = Project.make(folder, files, {"database": "escalation"})
    with_alias = {
        name: {"database": "escalation"} | given if isinstance(given, dict) else given
        for name, (given, _) in BAD.items()
    }
    lines = project.script(f"BAD = {with_alias!r}\n{READ}").out.splitlines()
    return dict(zip(BAD, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_setting_is_one_clear_message(name: str, messages: dict[str, list[str]]) -> None:
    """Each fault is reported once, with its key and its remedy, and without a secret."""
    [message] = messages[name]
    assert BAD[name][1] in message
    assert "secret" not in message


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Several faults give several messages, and Django refuses to start a server."""
    wrong = {"database": "nowhere", "ESC_TICK_MS": 5, "tables": "x"}
    project = Project.make(tmp_path, {"default": sqlite(tmp_path / "db.sqlite3")}, wrong)
    done = project.manage("check", code=1)
    assert 3 == done.err.count("(escalation_core.E001)")


def test_values_are_python_s(tmp_path: Path) -> None:
    """Numbers, flags, dicts, lists and texts set variables; None leaves a variable out; a Settings is taken whole."""
    project = Project.make(tmp_path, {"default": sqlite(tmp_path / "db.sqlite3")}, {})
    project.script(
        """
        from datetime import timedelta
        from django.test import override_settings
        from escalation_adapters.django import conf
        from escalation_core import Route, Settings

        assert conf.read().settings == Settings(), conf.read()
        assert conf.read() is conf.read()
        given = {
            "ESC_CRIT_ACK_MIN": 3, "ESC_DRY_RUN": True, "ESC_ACK_MIN": {"high": 10}, "ESC_TZ": None,
            "ESC_TARGETS": {"ops": "https://hooks.example.org/x"}, "ESC_ROUTES": [{"targets": ["ops"]}],
            "MAX_ESC_LEVEL": "4",
        }
        with override_settings(ESCALATION=given):
            found = conf.read().settings
        assert timedelta(minutes=3) == found.critical_window
        assert (True, 4, "UTC") == (found.dry_run, found.max_level, found.tz)
        assert {"high": timedelta(minutes=10)} == found.windows
        assert (Route(targets=("ops",)),) == tuple(found.routes)
        assert "hooks" not in repr(conf.read())
        with override_settings(ESCALATION={"settings": Settings(max_level=2)}):
            assert 2 == conf.read().settings.max_level
        assert None is conf.read().settings.max_level
        """
    )


def test_notifiers_of_the_project(tmp_path: Path) -> None:
    """The worker calls the function of ``ESCALATION``, in its event loop, and pages through what it returns."""
    databases = {"default": sqlite(tmp_path / "db.sqlite3"), "escalation": sqlite(tmp_path / "escalation.db")}
    given = {"database": "escalation", "notifiers": "shop.pages.make", "ESC_DEFAULT_TARGET": "desk"}
    project = Project.make(tmp_path, databases, given)
    project.write(
        "shop/pages.py",
        """
import asyncio
from escalation_core.testing import RecordingNotifier

made = []

def make():
    asyncio.get_running_loop()
    made.append(RecordingNotifier("desk"))
    return made[-1:]
""",
    )
    project.script(
        """
        from datetime import timedelta
        from django.core.management import call_command
        from django.utils import timezone
        from escalation_adapters.django import engine
        from shop import pages
        with engine() as escalation:
            escalation.open("db-7", severity="critical", first_seen=timezone.now() - timedelta(hours=1))
        call_command("escalation_worker", "--once")
        assert ["db-7"] == [page.incident.incident_key for page in pages.made[-1].pages]
        """
    )
    project.configure(databases, given | {"notifiers": "django.utils.timezone.now"})
    project.manage("check")
    refused = project.manage("escalation_worker", "--once", code=1).err
    assert "ESCALATION['notifiers']: django.utils.timezone.now returns datetime; name a function" in refused


def test_policies_of_the_project(tmp_path: Path) -> None:
    """Policies come from an object or a file; the worker pages by them, and both at once are refused."""
    databases = {"default": sqlite(tmp_path / "db.sqlite3"), "escalation": sqlite(tmp_path / "escalation.db")}
    file = tmp_path / "policies.json"
    file.write_text('{"policies": {"ops": {"levels": [{"after": "0m"}]}}, "assign": [{"policy": "ops"}]}')
    project = Project.make(tmp_path, databases, {"database": "escalation", "ESC_POLICIES": str(file)})
    project.script(
        """
        import json
        from django.core import checks
        from django.core.management import call_command
        from django.test import override_settings
        from escalation_adapters.django import conf, engine
        from escalation_core import Policies

        with engine() as escalation:
            opened = escalation.open("by the file")
            assert opened.policy_pin.startswith("ops@"), opened
        call_command("escalation_worker", "--once")
        with engine() as escalation:
            assert 1 == escalation.history("by the file").incident.level
        own = Policies.from_mapping({"policies": {"own": {"levels": [{"after": "5m"}]}}})
        given = {"database": "escalation", "policies": own}
        with override_settings(ESCALATION=given), engine() as escalation:
            assert escalation.open("by the object", policy="own").policy_pin.startswith("own@")
        with override_settings(ESCALATION=given | {"ESC_POLICIES": "policies.json"}):
            [found] = [each for each in checks.run_checks() if each.id == "escalation_core.E001"]
            assert "is set beside ESC_POLICIES" in found.msg
        """
    )
    file.write_text("{}")
    assert "the policies have 1 problem" in project.manage("escalation_worker", code=1).err
    assert "escalation_core.W012" in project.manage("escalation_worker", "--once").err


def test_both_stores_have_the_same_default_names() -> None:
    """The models use the names of the SQLite store, which are also those of a mapping on PostgreSQL."""
    assert mapping.COLUMNS == SQL_NAMES
