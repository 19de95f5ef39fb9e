"""A Django project in a folder of the test's own: its settings, one app with one model, and its programs."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
from psycopg.conninfo import conninfo_to_dict

from ...examples import hosting
from .starter import Starter

TIMEOUT = 60.0
COLUMNS = {"incident_key": "id", "first_seen": "created_at", "summary": "title"}
SETTINGS = """
SECRET_KEY = "secret of a test"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["escalation_adapters.django", "shop"]
DATABASES = {databases!r}
ESCALATION = {escalation!r}
"""
MODELS = """
from django.db import models
from django.utils import timezone

class Incident(models.Model):
    severity = models.CharField(max_length=20, default="critical")
    title = models.CharField(max_length=100, default="")
    created_at = models.DateTimeField(default=timezone.now)
    acknowledged_at = models.DateTimeField(null=True)

class Report(models.Model):
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE)
    text = models.CharField(max_length=20)
"""
FIRST = """
import django.utils.timezone
from django.db import migrations, models

class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel("Incident", [
            ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
            ("severity", models.CharField(max_length=20, default="critical")),
            ("title", models.CharField(max_length=100, default="")),
            ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ("acknowledged_at", models.DateTimeField(null=True)),
        ]),
        migrations.CreateModel("Report", [
            ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
            ("text", models.CharField(max_length=20)),
            ("incident", models.ForeignKey("shop.Incident", on_delete=models.CASCADE)),
        ]),
    ]
"""
MIGRATION = """
from django.db import migrations, models
from escalation_adapters.django.operations import AttachEscalation, UpdateEscalation

class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("shop", {after!r})]
    operations = [{operations}]
"""
ATTACH = f"AttachEscalation('shop_incident', columns={COLUMNS!r}, drop_tables=True)"
SCRIPT = "import django\ndjango.setup()\n"


class Finished(hosting.Finished):
    """What a program printed, and its exit code. Its script may print more than the JSON."""

    @property
    def json(self) -> Any:
        """The last line of the output, as JSON."""
        return json.loads(self.out.splitlines()[-1])


@attrs.frozen
class Project:
    """A project in a folder. With ``forks`` its programs begin with what the starter has imported."""

    starter: ClassVar[Starter | None] = None
    folder: Path
    forks: bool = True

    @classmethod
    def make(cls, folder: Path, databases: Mapping[str, Any], escalation: Any, *operations: str) -> "Project":
        """Write a project; each text of operations is a migration after the first, which creates the model."""
        project = cls(folder)
        project.configure(databases, escalation)
        project.write("shop/__init__.py", "")
        project.write("shop/models.py", MODELS)
        project.write("shop/migrations/__init__.py", "")
        project.write("shop/migrations/m1.py", FIRST)
        for number, text in enumerate(operations, 2):
            project.migration(number, text)
        return project

    def configure(self, databases: Mapping[str, Any], escalation: Any) -> None:
        """Write the settings."""
        self.write("settings.py", SETTINGS.format(databases=dict(databases), escalation=escalation))

    def migration(self, number: int, operations: str, *, atomic: bool = True) -> None:
        """Write a migration, after the one before."""
        text = MIGRATION.format(atomic=atomic, after=f"m{number - 1}", operations=operations)
        self.write(f"shop/migrations/m{number}.py", text)

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def manage(self, *args: str, code: int | None = 0) -> Finished:
        """Run a command of Django to its end; fail unless it ends with ``code`` (None: any code)."""
        return self._run(("-m", "django", *args), code)

    def script(self, text: str, *, head: str = "", code: int | None = 0) -> Finished:
        """Run a program in the project; ``django.setup`` was called."""
        self.write("script.py", SCRIPT + head + textwrap.dedent(text))
        return self._run(("script.py",), code)

    def beside(self, *args: str) -> "subprocess.Popen[str]":
        """Start a command of Django."""
        return self._start("-m", "django", *args)

    def _run(self, args: tuple[str, ...], code: int | None) -> Finished:
        if self.starter is not None and self.forks:
            done = Finished(*self.starter.run(args, self.folder, TIMEOUT))
        else:
            with self._start(*args) as process:
                try:
                    out, err = process.communicate(timeout=TIMEOUT)
                finally:
                    process.kill()
            done = Finished(process.returncode, out, err)
        if code is not None and done.code != code:
            raise AssertionError(f"{' '.join(args)} ended with {done.code}, not {code}\n{done.out}\n{done.err}")
        return done

    def _start(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-B", *args],
            cwd=self.folder,
            env=environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def environment(*folders: Path) -> dict[str, str]:
    """Return the environment of a program that imports from these folders as well."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
    path = os.pathsep.join([*map(str, folders), kept.get("PYTHONPATH", "")])
    return kept | {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": path}


def postgres(dsn: str) -> dict[str, Any]:
    """Return the entry of DATABASES for a DSN."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": parts.pop("dbname"), "OPTIONS": parts}


def sqlite(path: Path) -> dict[str, Any]:
    """Return the entry of DATABASES for an SQLite file."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
