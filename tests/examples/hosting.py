"""What tests of the examples share: a receiver of pages, programs of an example, and the objects of a database."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import quote, urlencode

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT = 30.0
"""Seconds after which a program or a page that does not come has failed."""
Environment = Mapping[str, str]
KEPT = ("LANG", "PYTHONPATH", "SYSTEMROOT")
"""The variables of this process that programs get as well."""


def url(dsn: str) -> str:
    """Return a DSN as a URL, which SQLAlchemy and the command line take."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    login = ":".join(quote(parts.pop(name), safe="") for name in ("user", "password") if name in parts)
    server = "" if "/" in parts.get("host", "") else ":".join(parts.pop(n) for n in ("host", "port") if n in parts)
    where = f"postgresql://{login}{'@' if login else ''}{server}/{quote(parts.pop('dbname'), safe='')}"
    return where + (f"?{urlencode(parts, quote_via=quote)}" if parts else "")


@attrs.frozen
class Request:
    """A request that a receiver got; ``body`` is its JSON, None if it is not JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: datetime


@attrs.define
class Receiver:
    """An HTTP server on this machine, which records each request and answers 200 with ``reply``."""

    url: str
    reply: bytes = b"ok"
    requests: list[Request] = attrs.field(factory=list)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, repr=False)

    def wait_for(self, count: int, *, timeout: float = TIMEOUT) -> Sequence[Request]:
        """Wait until there are that many requests, and return all of them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout):
                raise AssertionError(f"{len(self.requests)} of {count} pages came within {timeout} s: {self.requests}")
            return tuple(self.requests)

    def record(self, request: Request) -> None:
        """Record a request."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve a receiver in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                body = json.loads(content)
            except ValueError:
                body = None
            receiver.record(Request(self.command, self.path, dict(self.headers), body, datetime.now(UTC)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(receiver.reply)))
            self.end_headers()
            self.wfile.write(receiver.reply)

        do_POST = do_PUT = do_GET  # noqa: N815 - the names are http.server's

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/page")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@attrs.frozen
class Finished:
    """What a program printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.out)


@attrs.define
class Program:
    """A program that runs beside a test. A thread reads what it prints, on both streams."""

    process: "subprocess.Popen[str]"
    text: str = ""
    _ended: bool = False
    _changed: threading.Condition = attrs.field(factory=threading.Condition, repr=False)

    def wait_for(self, pattern: str, *, timeout: float = TIMEOUT) -> "re.Match[str]":
        """Wait until the program has printed a pattern, and return the match."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or re.search(pattern, self.text), timeout)
            found = re.search(pattern, self.text)
        if found is None:
            raise AssertionError(f"no {pattern!r} from {self.process.args!r}, code {self.process.poll()}:\n{self.text}")
        return found

    def stop(self) -> Finished:
        """End the program as a service manager does, and return what it printed."""
        self.process.terminate()
        code = self.process.wait(TIMEOUT)
        with self._changed:
            self._changed.wait_for(lambda: self._ended, TIMEOUT)
        return Finished(code, self.text, "")

    def read(self) -> None:
        """Read what the program prints, until it ends."""
        for line in self.process.stdout or ():
            with self._changed:
                self.text += line
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@attrs.frozen
class Programs:
    """Runs programs of an example, in its folder, with the variables of the test alone.

    A name that ends with ``.py`` is a file of the folder; any other is a program of this Python, such as ``alembic``.
    """

    home: Path
    folder: Path = ROOT
    env: Environment = attrs.field(factory=dict)

    def of(self, example: str, **env: str) -> "Programs":
        """Return the programs of one example, with these variables."""
        return attrs.evolve(self, folder=EXAMPLES / example, env={**self.env, **env})

    def __call__(
        self, program: str, *args: str, env: Environment | None = None, code: int | None = 0, timeout: float = TIMEOUT
    ) -> Finished:
        """Run a program to its end; fail unless it ends with ``code`` (None: any code)."""
        done = subprocess.run(
            [*self._command(program), *args], cwd=self.folder, env=self._env(env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        finished = Finished(done.returncode, done.stdout, done.stderr)
        if code is not None and code != finished.code:
            raise AssertionError(
                f"{' '.join([program, *args])} ended with {finished.code}, not {code}\n{finished.out}\n{finished.err}"
            )
        return finished

    @contextmanager
    def beside(self, program: str, *args: str, env: Environment | None = None) -> Iterator[Program]:
        """Run a program beside the block; kill it afterwards if it has not ended."""
        with subprocess.Popen(
            [*self._command(program), *args], cwd=self.folder, env=self._env(env), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            made = Program(process)
            reader = threading.Thread(target=made.read)
            reader.start()
            try:
                yield made
            finally:
                process.kill()
                reader.join()

    def _command(self, program: str) -> list[str]:
        if program.endswith(".py"):
            return [sys.executable, program]
        return [str(Path(sys.executable).parent / program)]

    def _env(self, env: Environment | None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        fixed = {"PATH": path, "HOME": str(self.home), "PYTHONUNBUFFERED": "1"}
        return {**kept, **fixed, **self.env, **(env or {})}


CATALOGUE: LiteralString = """
WITH own AS (
    SELECT oid, nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
)
SELECT format('schema %s', nspname) FROM own
UNION ALL
SELECT format('relation %s.%s, kind %s', nspname, relname, relkind)
FROM pg_class JOIN own ON own.oid = relnamespace
UNION ALL
SELECT format('column %s.%s.%s %s%s default %s, comment %s', nspname, relname, attname,
    format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' not null' END, pg_get_expr(adbin, adrelid),
    col_description(attrelid, attnum))
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN own ON own.oid = relnamespace
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT 'index ' || pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN own ON own.oid = relnamespace
UNION ALL
SELECT format('constraint %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(pg_constraint.oid))
FROM pg_constraint JOIN own ON own.oid = connamespace
UNION ALL
SELECT format('%s, enabled %s', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT format('function %s.%s(%s): %s', nspname, proname, pg_get_function_identity_arguments(pg_proc.oid), prosrc)
FROM pg_proc JOIN own ON own.oid = pronamespace
UNION ALL
SELECT format('type %s.%s: %s', nspname, typname, (
    SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid
))
FROM pg_type JOIN own ON own.oid = typnamespace WHERE typtype IN ('e', 'd')
"""


def catalogue(dsn: str) -> frozenset[str]:
    """Return the schemas, relations, columns, indexes, constraints, triggers, functions and types of a database."""
    with psycopg.connect(dsn) as connection:
        return frozenset(line for (line,) in connection.execute(CATALOGUE))
