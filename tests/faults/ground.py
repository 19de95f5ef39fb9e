"""The ground that runs stand on: a PostgreSQL of their own, and a server that forks worker processes."""

import asyncio
import multiprocessing
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.postgres import migrate

from . import trail

PASSWORD = "pa55word-that-nobody-may-see"
"""The server asks for none; it is there to be told by mistake."""
TEMPLATE = "faults_template"
WORKER = "escalation_worker"
"""The role of workers: no superuser, so that limits hold for it."""
RIGHTS = f"""
CREATE ROLE {WORKER} LOGIN;
GRANT USAGE ON SCHEMA public, faults TO {WORKER};
GRANT ALL ON ALL TABLES IN SCHEMA public, faults TO {WORKER};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public, faults TO {WORKER};
"""


@attrs.define
class Ground:
    """A server with a migrated database to copy, and the fork server."""

    server: EmbeddedPostgres
    forks: ForkServerContext

    @classmethod
    @contextmanager
    def laid(cls) -> "Iterator[Ground]":
        """Start everything; stop it afterwards."""
        forks = multiprocessing.get_context("forkserver")
        forks.set_forkserver_preload(["pytest", "tests.faults.worker", "tests.faults.walks"])
        with EmbeddedPostgres.start() as server:
            ground = cls(server, forks)
            ground.create(TEMPLATE, "template0")
            asyncio.run(migrate.up(ground.dsn(TEMPLATE)))
            trail.lay(ground.dsn(TEMPLATE))
            with psycopg.connect(ground.dsn(TEMPLATE), autocommit=True) as connection:
                connection.execute(RIGHTS.encode())
            yield ground

    def dsn(self, database: str, *, name: str = "harness", port: int | None = None, user: str = "postgres") -> str:
        """Return a DSN, through a proxy's port if one is given."""
        return make_conninfo(
            self.server.dsn(database),
            port=port or self.server.port,
            user=user,
            password=PASSWORD,
            application_name=name,
            sslmode="disable",
            gssencmode="disable",
            connect_timeout=2,
        )

    def create(self, name: str, template: str) -> None:
        """Make a database."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """Yield the name of a fresh database; drop it afterwards."""
        name = f"run_{secrets.token_hex(4)}"
        self.create(name, template)
        try:
            if template == TEMPLATE:
                with psycopg.connect(self.dsn(name)) as connection:
                    # Health counts from the migration on, and this copy is made now.
                    connection.execute("UPDATE escalation_migrations SET applied_at = now()")
                    connection.execute(f'GRANT CREATE ON DATABASE "{name}" TO {WORKER}'.encode())
            yield name
        finally:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
