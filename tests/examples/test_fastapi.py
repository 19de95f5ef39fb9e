"""The FastAPI service, from an empty database to a page, and back to nothing of the library."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import attrs
import psycopg
import pytest

from .hosting import EXAMPLES, TIMEOUT, Program, Programs, Receiver

README = (EXAMPLES / "fastapi/README.md").read_text(encoding="utf-8")
REPORT = json.loads(re.findall(r"^curl .*/reports --json '(.*)'$", README, re.MULTILINE)[0])
LATE = timedelta(minutes=6)
"""The age of a report whose alert is due at once: a critical one must be acknowledged in five minutes."""
Catalogue = Callable[[str], frozenset[str]]


@attrs.frozen
class Service:
    """The running service."""

    program: Program
    port: str

    def ask(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """Return the status and the document of an answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if document is None else json.dumps(document).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - the test's own server, on loopback
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def report(self, reference: str, *, age: timedelta = timedelta()) -> tuple[int, Any]:
        """Post a report of a critical fault."""
        seen_at = (datetime.now(UTC) - age).isoformat()
        return self.ask("POST", "/reports", {**REPORT, "reference": reference, "seen_at": seen_at})


@pytest.fixture
def programs(run: Programs, database: str, receiver: Receiver) -> Programs:
    """The example's programs."""
    return run.of("fastapi", DATABASE_URL=database, WEBHOOK_URL=receiver.url, ESC_TICK_MS="1000")


@pytest.fixture
def service(programs: Programs) -> Iterator[Service]:
    """The service, on a migrated database."""
    programs("alembic", "upgrade", "head")
    with serving(programs) as served:
        yield served


@contextmanager
def serving(programs: Programs) -> Iterator[Service]:
    """Run the service beside the block, and end it as a service manager does."""
    with programs.beside("uvicorn", "app:app", "--port", "0") as program:
        yield Service(program, program.wait_for(r"running on http://127.0.0.1:(\d+)")[1])
        said = program.stop().out
        assert "Application shutdown complete" in said, said
        assert "ERROR" not in said, said


def rows(dsn: str, query: LiteralString) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def wait_for(dsn: str, query: LiteralString) -> None:
    """Wait until a query answers true."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        end = time.monotonic() + TIMEOUT
        while connection.execute(query).fetchone() != (True,):
            assert time.monotonic() < end, query


def test_page_comes_until_acknowledged(service: Service, receiver: Receiver, database: str) -> None:
    """A late alert is paged once; after an acknowledgement by the ORM its next page does not come."""
    status, alert = service.report("r-1", age=LATE)
    assert (201, "open") == (status, alert["status"])
    [page] = receiver.wait_for(1)
    assert {"alert": alert["id"], "title": REPORT["title"], "severity": "critical", "level": 1} == page.body
    assert page.headers["Idempotency-Key"]

    path = f"/alerts/{alert['id']}"
    assert (200, {**alert, "level": 1}) == service.ask("GET", path)
    assert 200 == service.ask("POST", f"{path}/acknowledge?by=primary")[0]
    shown = {**alert, "status": "acknowledged", "acknowledged_by": "primary", "level": 1}
    assert (200, shown) == service.ask("GET", path)
    [(acknowledged_at, next_due_at)] = rows(database, "SELECT acknowledged_at, next_due_at FROM alerts")
    assert acknowledged_at is not None
    # A trigger of the engine asked for a new plan; whether a tick has made it by now or not, no page is due.
    assert next_due_at is None or next_due_at.year == 1970
    assert 409 == service.ask("POST", f"{path}/acknowledge?by=secondary")[0]


def test_unsent_page_is_cancelled(programs: Programs, database: str) -> None:
    """An acknowledgement by the ORM cancels a page whose receiver was not there yet."""
    programs("alembic", "upgrade", "head")
    with serving(programs.of("fastapi", WEBHOOK_URL="http://127.0.0.1:9/page")) as service:
        _, alert = service.report("r-1", age=LATE)
        wait_for(database, "SELECT count(*) = 1 FROM escalation_pages WHERE state = 'pending' AND attempts > 0")
        service.ask("POST", f"/alerts/{alert['id']}/acknowledge?by=primary")
        wait_for(database, "SELECT count(*) = 1 FROM escalation_pages WHERE state = 'cancelled'")


def test_verb_and_report_are_rolled_back_together(service: Service, database: str) -> None:
    """A report that came before opens nothing: its alert, which a verb opened, is rolled back with its row."""
    assert 201 == service.report("r-1")[0]
    assert (409, {"detail": "the report r-1 came before"}) == service.report("r-1")
    assert [(1, 1)] == rows(database, "SELECT (SELECT count(*) FROM alerts), (SELECT count(*) FROM reports)")
    assert [(1,)] == rows(database, "SELECT count(*) FROM escalation_audit WHERE action = 'open'")


def test_autogenerate_finds_nothing_to_do(programs: Programs, service: Service) -> None:
    """Neither on an attached table, nor once incidents were opened, has autogenerate anything to do."""
    service.report("r-1", age=LATE)
    assert "No new upgrade operations detected." in programs("alembic", "check").out


def test_down_to_nothing(programs: Programs, database: str, catalogue: Catalogue) -> None:
    """A downgrade of the attach leaves what was there before; one to the base leaves Alembic's own table."""
    empty = catalogue(database)
    programs("alembic", "upgrade", "0001")
    before = catalogue(database)
    programs("alembic", "upgrade", "head")
    assert before < catalogue(database)
    programs("alembic", "downgrade", "0001")
    assert before == catalogue(database)
    programs("alembic", "downgrade", "base")
    assert all("alembic_version" in line for line in catalogue(database) - empty)


def test_down_after_work(programs: Programs, service: Service, receiver: Receiver, database: str) -> None:
    """A downgrade is refused while the service runs; after its end, the alerts are left and nothing of the library."""
    _, alert = service.report("r-1", age=LATE)
    receiver.wait_for(1)
    refused = programs("alembic", "downgrade", "0001", code=None)
    assert 0 != refused.code
    assert "stop the workers" in refused.err
    service.program.stop()
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE escalation_workers SET ticked_at = ticked_at - interval '3 minutes'")
    programs("alembic", "downgrade", "0001")
    assert [(alert["id"],)] == rows(database, "SELECT id::text FROM alerts")
    assert [] == rows(database, "SELECT relname FROM pg_class WHERE relname LIKE 'escalation%'")


def test_printed_sql(programs: Programs, database: str, catalogue: Catalogue) -> None:
    """The SQL of ``alembic upgrade --sql`` makes the same objects, and that of the downgrade removes them."""
    programs("alembic", "upgrade", "head")
    online = catalogue(database)
    programs("alembic", "downgrade", "base")
    offline = (
        programs("alembic", "upgrade", "0001", "--sql").out,
        programs("alembic", "upgrade", "0001:head", "--sql").out,
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE alembic_version")
        for text in offline:
            connection.execute(text.encode())
    assert online == catalogue(database)
    assert "No new upgrade operations detected." in programs("alembic", "check").out
