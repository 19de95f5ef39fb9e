"""A host's Alembic project in a folder, with an ``env.py`` as Alembic's own templates write it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
from alembic import command
from alembic.config import Config

from .hosts import url

ENV = """
import asyncio

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from escalation_adapters.alembic import include_object

config = context.config
url = config.get_main_option("sqlalchemy.url")
options = config.attributes.get("options", {})


def migrate(connection):
    chosen = include_object(connection, schema=config.get_main_option("host_schema"))
    context.configure(connection=connection, include_object=chosen, **options)
    with context.begin_transaction():
        context.run_migrations()


async def online():
    async with create_async_engine(url, poolclass=NullPool).connect() as connection:
        await connection.run_sync(migrate)


if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
elif config.get_main_option("asynchronous") == "True":
    asyncio.run(online())
else:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        migrate(connection)
"""
REVISION = """
import sqlalchemy as sa
from alembic import op

from escalation_adapters.alembic import AttachEscalation, DetachEscalation
from tests.hosts.alembic import hosts

revision = "{number:04}"
down_revision = {before!r}


def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
"""
INI = """
[alembic]
script_location = %(here)s
path_separator = os
sqlalchemy.url = {url}
asynchronous = {asynchronous}
host_schema = {schema}
"""
ROOT = Path(__file__).parents[3]


@attrs.define
class Project:
    """Revisions of a host, and the commands that run them."""

    folder: Path
    dsn: str
    driver: str = "psycopg"
    asynchronous: bool = False
    schema: str = "public"
    options: dict[str, Any] = attrs.field(factory=dict)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        """Write the files of the project."""
        (self.folder / "versions").mkdir(parents=True)
        (self.folder / "env.py").write_text(ENV, encoding="utf-8")
        where = url(self.dsn, self.driver).render_as_string(hide_password=False).replace("%", "%%")
        text = INI.format(url=where, asynchronous=self.asynchronous, schema=self.schema)
        self.ini.write_text(text, encoding="utf-8")

    @property
    def ini(self) -> Path:
        """The configuration file."""
        return self.folder / "alembic.ini"

    def revision(self, upgrade: str, downgrade: str = "pass") -> None:
        """Write the next revision."""
        before, self._count = (f"{self._count:04}" if self._count else None), self._count + 1
        text = REVISION.format(number=self._count, before=before, upgrade=upgrade, downgrade=downgrade)
        (self.folder / "versions" / f"{self._count:04}_host.py").write_text(text, encoding="utf-8")

    def upgrade(self, to: str = "head", *, sql: bool = False) -> str:
        """Run revisions, or print them; return what was printed."""
        return self._run(command.upgrade, to, sql=sql)

    def downgrade(self, to: str = "base", *, sql: bool = False) -> str:
        """Undo revisions, or print how; return what was printed."""
        return self._run(command.downgrade, to, sql=sql)

    def check(self, metadata: Any) -> None:
        """Raise if autogenerate finds anything to do."""
        self.options["target_metadata"] = metadata
        self._run(command.check)

    @contextmanager
    def beside(self, *words: str) -> "Iterator[subprocess.Popen[str]]":
        """Run the command line in a process of its own beside the block."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        with subprocess.Popen(
            [sys.executable, "-m", "alembic", "-c", str(self.ini), *words],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def _run(self, run: Any, *args: Any, **how: Any) -> str:
        printed = StringIO()
        config = Config(self.ini, stdout=StringIO(), output_buffer=printed)
        config.attributes["options"] = self.options
        run(config, *args, **how)
        return printed.getvalue()
