"""The PostgreSQL servers that runs use, and the server that forks worker processes."""

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

PASSWORD = "pa55word-which-is-secret"
"""A secret in every DSN. The server does not check it, but a worker may leak it by mistake."""
LABEL = "%m|%d|%a|%e|"
"""The prefix of each line of the server's log: time, database, application name, SQLSTATE."""
TEMPLATE = "faults_template"
WORKER = "escalation_worker"
"""The role of workers. It is not a superuser, so limits and policies apply to it."""
RIGHTS = f"""
CREATE ROLE {WORKER} LOGIN PASSWORD '{PASSWORD}';
GRANT USAGE ON SCHEMA public, faults TO {WORKER};
GRANT ALL ON ALL TABLES IN SCHEMA public, faults TO {WORKER};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public, faults TO {WORKER};
"""


def forkserver() -> ForkServerContext:
    """Return the context of a fork server that has imported everything a worker needs."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["pytest", "tests.faults.harness.worker", "tests.faults.kill_points.walks"])
    return forks


@attrs.define
class Servers:
    """One server, or the servers of a cluster, with a migrated template database; and the fork server."""

    ports: Sequence[int]
    forks: ForkServerContext
    alone: EmbeddedPostgres | None = None
    """The server, if it is not a cluster."""
    options: Mapping[str, str] = attrs.field(factory=dict)
    """Further parameters of a DSN."""

    @classmethod
    @contextmanager
    def started(cls) -> "Iterator[Servers]":
        """Start one server, and stop it afterwards."""
        with EmbeddedPostgres.start() as server:
            servers = cls((server.port,), forkserver(), server)
            servers.label_log()
            servers.prepare()
            yield servers

    @property
    def server(self) -> EmbeddedPostgres:
        """The only server. A cluster has none."""
        assert self.alone is not None
        return self.alone

    @property
    def version(self) -> str:
        """The server's version."""
        with psycopg.connect(self.dsn("postgres")) as connection:
            return str(connection.info.parameter_status("server_version")).partition(" ")[0]

    def label_log(self) -> None:
        """Configure the prefix of the server's log, which ``errors`` reads."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET log_line_prefix = '{LABEL}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def errors(self, database: str, state: str) -> Counter[str]:
        """Return how often each client of a database got the error of an SQLSTATE, from the server's log."""
        lines = (self.server.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        errors = (line.split("|", 4) for line in lines if "|ERROR: " in line)
        return Counter(name for _, where, name, sqlstate, _ in errors if (where, sqlstate) == (database, state))

    def prepare(self) -> None:
        """Create the template of the runs' databases."""
        self.create(TEMPLATE, "template0")
        asyncio.run(migrate.up(self.dsn(TEMPLATE), create=True))
        page_changes.install(self.dsn(TEMPLATE))
        with psycopg.connect(self.dsn(TEMPLATE), autocommit=True) as connection:
            connection.execute(RIGHTS.encode())

    def dsn(self, database: str, *, name: str = "harness", user: str = "postgres") -> str:
        """Return the DSN of a database. ``name`` is the application name."""
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
        """Create a database."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """Yield the name of a new database, and drop the database afterwards."""
        name = f"run_{secrets.token_hex(4)}"
        self.create(name, template)
        try:
            if template == TEMPLATE:
                with psycopg.connect(self.dsn(name)) as connection:
                    # Health measures the lag from the migration on, which would be older than this copy.
                    connection.execute("UPDATE escalation_migrations SET applied_at = now()")
                    connection.execute(f'GRANT CREATE ON DATABASE "{name}" TO {WORKER}'.encode())
            yield name
        finally:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
