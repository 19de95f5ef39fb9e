"""The PostgreSQL server of a test run, from the first available of four sources. Tests always need a server."""

import gc
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import attrs
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from escalation_adapters import embedded
from escalation_adapters.embedded import EmbeddedPostgres

NO_POSTGRES = (
    "these tests need a real PostgreSQL: set ESCALATION_TEST_DSN to a database whose user may create databases; or set"
    " ESCALATION_TEST_POSTGRES to a folder of PostgreSQL's programs; or start Docker; or install the extra: pip install"
    " 'escalation-core[embedded]'"
)
CHOSEN = os.environ.get("ESCALATION_TEST_POSTGRES")
"""The folder of the PostgreSQL programs that tests are to use; if unset, Docker or the wheel."""
if CHOSEN:
    # Tests that start and kill their own servers use the same version.
    embedded.packaged_binaries = lambda: Path(CHOSEN or "")

own_server = pytest.mark.skipif(
    embedded.packaged_binaries() is None,
    reason="it stops or kills a server of its own, and there are no binaries of the embedded extra to start one",
)
"""For tests that stop or kill their server, which must be neither the shared server nor a user's own."""


class Stoppable(Protocol):
    def stop(self) -> None: ...


@attrs.define
class Server:
    """A running server. ``how`` names the source that it came from."""

    dsn: str
    how: str
    backend: Stoppable | None = None
    durable: bool = True
    """Whether the server waits for the disk."""

    def version(self) -> str:
        with psycopg.connect(self.dsn) as connection:
            return f"PostgreSQL {connection.info.server_version // 10000}, {self.how}"

    def database(self, name: str) -> str:
        return make_conninfo(self.dsn, dbname=name)

    @contextmanager
    def fresh(self, template: str | None = None) -> Iterator[str]:
        """Yield the DSN of a new database, a copy of a template if one is named; drop it afterwards."""
        name = f"test_{secrets.token_hex(6)}"
        try:
            yield self.create(name, template)
        finally:
            self.drop(name)

    def create(self, name: str, template: str | None = None) -> str:
        """Make a database, a copy of a template if one is named; return its DSN."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(
                sql.Identifier(name),
                sql.Identifier(template or "template0"),
                # It leaves no pages to write for the drop, which takes a third of the time. 14 knows no other strategy.
                sql.SQL("STRATEGY file_copy" if not self.durable and connection.info.server_version >= 150_000 else ""),
            )
            connection.execute(create)
        return self.database(name)

    def drop(self, name: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def start() -> Server:
    """Find or start a server; raise with the list of sources if there is none."""
    dsn = os.environ.get("ESCALATION_TEST_DSN")
    if dsn:
        return Server(dsn, "from ESCALATION_TEST_DSN")
    server = None if CHOSEN else _container()
    if server is not None:
        return server
    if embedded.packaged_binaries() is None:
        raise RuntimeError(NO_POSTGRES)
    own = EmbeddedPostgres.start()
    how = f"from {CHOSEN}" if CHOSEN else "from the binaries of the embedded extra"
    return Server(own.dsn(), how, own, durable=False)


def _container() -> Server | None:
    """Start a container if an engine answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = _engine_answers()
        # Without an engine docker-py leaks a socket; the collection here keeps its warning from failing a later test.
        # The error that holds the socket must be gone by then, hence the function.
        gc.collect()
        if not answers:
            return None
        from testcontainers.community.postgres import PostgresContainer

        image = os.environ.get("ESCALATION_TEST_POSTGRES_IMAGE", "postgres:18")
        container = PostgresContainer(image, driver=None).start()
        return Server(container.get_connection_url(), f"from Docker, {image}", container)


def _engine_answers() -> bool:
    try:
        import docker

        client = docker.from_env(timeout=5)
        try:
            client.ping()
        finally:
            client.close()
    except Exception:  # noqa: BLE001 - for any error there is no engine, and the next source is tried
        return False
    return True
