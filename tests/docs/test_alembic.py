"""The files that the page about Alembic shows, as a project of their own."""

import shutil
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from click.testing import CliRunner

from escalation_adapters.cli.root import cli

from .pages import DOCS, ROOT, command_lines
from .test_examples import url

PAGE = (DOCS / "how-to/alembic.md").read_text(encoding="utf-8")
TABLES = """
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.execute("CREATE TYPE alert_status AS ENUM ('open', 'acknowledged', 'resolved')")
    op.execute(
        "CREATE TABLE alerts (id uuid PRIMARY KEY, severity text, status alert_status, title text,"
        " acknowledged_by text, opened_at timestamptz)"
    )


def downgrade():
    op.execute("DROP TABLE alerts")
    op.execute("DROP TYPE alert_status")
"""
"""The revision before those of the page."""


@pytest.fixture
def folder(tmp_path: Path, pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the page's ``env.py``, on an empty database."""
    monkeypatch.setenv("DATABASE_URL", url(pg_dsn))
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions/0001_tables.py").write_text(TABLES, encoding="utf-8")
    shutil.copy(DOCS / "examples/alembic_env.py", tmp_path / "env.py")
    return tmp_path


def config(folder: Path, printed: StringIO | None = None) -> Config:
    made = Config(stdout=StringIO(), output_buffer=printed or StringIO())
    made.set_main_option("script_location", str(folder))
    made.set_main_option("path_separator", "os")
    return made


def print_upgrade(folder: Path, to: str) -> bytes:
    """Return what ``alembic upgrade --sql`` prints."""
    printed = StringIO()
    command.upgrade(config(folder, printed), to, sql=True)
    return printed.getvalue().encode()


def ours(dsn: str) -> set[str]:
    """Return the names of the objects that the library has in the database."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT relname::text FROM pg_class WHERE relname LIKE 'escalation%'").fetchall()
    return {name for (name,) in found}


def test_operation(folder: Path, pg_dsn: str) -> None:
    """The page's revision attaches, in the page's ``env.py``, online and printed; a downgrade removes everything."""
    shutil.copy(ROOT / "examples/fastapi/migrations/versions/0002_attach.py", folder / "versions")
    command.upgrade(config(folder), "head")
    assert {"escalation_due", "escalation_pages"} < ours(pg_dsn)
    command.downgrade(config(folder), "base")
    with psycopg.connect(pg_dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE alembic_version")
        connection.execute(print_upgrade(folder, "head"))
    assert {"escalation_due", "escalation_pages"} < ours(pg_dsn)
    command.downgrade(config(folder), "base")
    assert set() == ours(pg_dsn)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_printed_revision(folder: Path, pg_dsn: str, driver: str) -> None:
    """SQL that the page's commands print is a revision, with drivers that the operation refuses, and offline."""
    env = folder / "env.py"
    env.write_text(env.read_text(encoding="utf-8").replace("postgresql+psycopg", f"postgresql+{driver}"))
    shutil.copy(DOCS / "examples/alembic_printed.py", folder / "versions/0002_attach.py")
    for words in command_lines(PAGE):
        if words[:2] == ["migrate", "print"]:
            done = CliRunner().invoke(cli, words, catch_exceptions=False)
            assert 0 == done.exit_code, done.output
            name = "detach.sql" if "--detach" in words else "attach.sql"
            (folder / "versions" / name).write_text(done.output, encoding="utf-8")
    command.upgrade(config(folder), "head")
    assert {"escalation_due", "escalation_pages"} < ours(pg_dsn)
    command.downgrade(config(folder), "0001")
    assert set() == ours(pg_dsn)

    with psycopg.connect(pg_dsn, autocommit=True) as connection:
        connection.execute(print_upgrade(folder, "0001:head"))
    assert {"escalation_due", "escalation_pages"} < ours(pg_dsn)
