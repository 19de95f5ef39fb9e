"""The ground that runs stand on: a PostgreSQL of their own, and a server that forks worker processes."""

import asyncio
import multiprocessing
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.postgres import migrate

from ..record import page_changes

PASSWORD = "pa55word-that-nobody-may-see"
"""The server asks for none; it is there to be told by mistake."""
LABEL = "%m|%d|%a|%e|"
"""What each line of the server's log begins with: when, in which database, by whom, and what."""
TEMPLATE = "faults_template"
WORKER = "escalation_worker"
"""The role of workers: no superuser, so that limits hold for it."""
RIGHTS = f"""
CREATE ROLE {WORKER} LOGIN PASSWORD '{PASSWORD}';
GRANT USAGE ON SCHEMA public, faults TO {WORKER};
GRANT ALL ON ALL TABLES IN SCHEMA public, faults TO {WORKER};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public, faults TO {WORKER};
"""


def forkserver() -> ForkServerContext:
    """Return the fork server, with everything imported that a worker needs."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["pytest", "tests.faults.harness.worker", "tests.faults.kill_points.walks"])
    return forks


@attrs.define
class Servers:
    """A server, or the servers of a cluster, with a migrated database to copy; and the fork server."""

    ports: Sequence[int]
    forks: ForkServerContext
    alone: EmbeddedPostgres | None = None
    """The server, if it is one alone."""
    options: Mapping[str, str] = attrs.field(factory=dict)
    """What a DSN says beside where and who."""

    @classmethod
    @contextmanager
    def laid(cls) -> "Iterator[Servers]":
        """Start everything; stop it afterwards."""
        with EmbeddedPostgres.start() as server:
            servers = cls((server.port,), forkserver(), server)
            servers.label()
            servers.prepare()
            yield servers

    @property
    def server(self) -> EmbeddedPostgres:
        """The server of a ground that has one alone."""
        assert self.alone is not None
        return self.alone

    @property
    def version(self) -> str:
        """The server's version."""
        with psycopg.connect(self.dsn("postgres")) as connection:
            return str(connection.info.parameter_status("server_version")).partition(" ")[0]

    def label(self) -> None:
        """Let the server's log tell in each line what was met (the SQLSTATE), where, and by whom."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET log_line_prefix = '{LABEL}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def met(self, database: str, state: str) -> Counter[str]:
        """Return how often each client of a database has met an error, by the server's log."""
        lines = (self.server.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        told = (line.split("|", 4) for line in lines if "|ERROR: " in line)
        return Counter(who for _, where, who, met, _ in told if (where, met) == (database, state))

    def prepare(self) -> None:
        """Make the database that each run gets a copy of."""
        self.create(TEMPLATE, "template0")
        asyncio.run(migrate.up(self.dsn(TEMPLATE)))
        page_changes.lay(self.dsn(TEMPLATE))
        with psycopg.connect(self.dsn(TEMPLATE), autocommit=True) as connection:
            connection.execute(RIGHTS.encode())

    def dsn(self, database: str, *, name: str = "harness", user: str = "postgres") -> str:
        """Return a DSN."""
        return make_conninfo(
            dbname=database,
            host=",".join("127.0.0.1" for _ in self.ports),
            port=",".join(str(port) for port in self.ports),
            user=user,
            password=PASSWORD,
            application_name=name,
            **{"sslmode": "disable", "gssencmode": "disable", "connect_timeout": "2", **self.options},
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
