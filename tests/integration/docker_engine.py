"""An imitation of Docker's engine on a real unix socket. Its one container is a PostgreSQL server of this machine."""

import json
import re
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

from escalation_adapters.embedded import EmbeddedPostgres

ID = "0123456789ab" * 5 + "0123"
VERSION = {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "25.0.0"}


class Engine(socketserver.ThreadingUnixStreamServer):
    """The engine. ``images`` are the pulled images; ``container`` is the request that created the container."""

    daemon_threads = True

    def __init__(self, address: Path, server: EmbeddedPostgres) -> None:
        super().__init__(str(address), Answers)
        self.postgres = server
        self.images: list[str] = []
        self.container: Mapping[str, Any] | None = None
        self.commands: list[list[str]] = []
        self.removed = False

    @classmethod
    @contextmanager
    def serving(cls, address: Path) -> "Iterator[Engine]":
        """Serve on a socket at this path."""
        with EmbeddedPostgres.start() as server, cls(address, server) as engine:
            threading.Thread(target=engine.serve_forever, daemon=True).start()
            try:
                yield engine
            finally:
                engine.shutdown()

    def start(self) -> None:
        """Create the user and the database that the environment names, as the image's first program does."""
        assert self.container is not None
        named = dict(variable.split("=", 1) for variable in self.container["Env"])
        user, database = sql.Identifier(named["POSTGRES_USER"]), sql.Identifier(named["POSTGRES_DB"])
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            password = sql.Literal(named["POSTGRES_PASSWORD"])
            connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(user, password))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))

    def inspected(self) -> Mapping[str, Any]:
        """Return what the engine reports of the container."""
        binding = [{"HostIp": "127.0.0.1", "HostPort": str(self.postgres.port)}]
        return {
            "Id": ID,
            "Image": "sha256:1",
            "State": {"Status": "running", "Running": True},
            "Config": {"Image": self.images[-1], "Labels": {}},
            "NetworkSettings": {"Ports": {"5432/tcp": binding}, "Networks": {}},
        }


class Answers(BaseHTTPRequestHandler):
    """Answer the routes that testcontainers calls; answer any other route with 404."""

    server: Engine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self._path()
        if path == "/_ping":
            self._send(200, b"OK", "text/plain")
        elif path == "/version":
            self._json(200, VERSION)
        elif path == f"/containers/{ID}/json":
            self._json(200, self.server.inspected())
        elif path == "/networks":
            self._json(200, [])
        elif path == "/exec/1/json":
            self._json(200, {"ID": "1", "Running": False, "ExitCode": 0})
        elif image := re.fullmatch(r"/images/(.+)/json", path):
            pulled = image[1] in self.server.images
            self._json(*((200, {"Id": "sha256:1"}) if pulled else (404, {"message": f"No such image: {image[1]}"})))
        else:
            self._json(404, {"message": f"no such route: {path}"})

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if path == "/images/create":
            asked = parse_qs(urlsplit(self.path).query)
            self.server.images.append(f"{asked['fromImage'][0]}:{asked['tag'][0]}")
            self._json(200, {"status": "pulled"})
        elif path == "/containers/create":
            self.server.container = body
            self._json(201, {"Id": ID, "Warnings": []})
        elif path == f"/containers/{ID}/start":
            self.server.start()
            self._send(204, b"")
        elif path == f"/containers/{ID}/exec":
            self.server.commands.append(body["Cmd"])
            self._json(201, {"Id": "1"})
        elif path == "/exec/1/start":
            # From here the connection carries the command's output. It ends at once, as the command printed nothing.
            self._send(101, b"", "application/vnd.docker.raw-stream", Connection="Upgrade", Upgrade="tcp")
            self.close_connection = True
        else:
            self._json(404, {"message": f"no such route: {path}"})

    def do_DELETE(self) -> None:
        self.server.removed = self._path() == f"/containers/{ID}"
        self._send(204, b"")

    def _path(self) -> str:
        """Return the route without the version of the API before it."""
        return re.sub(r"^/v1\.\d+", "", urlsplit(self.path).path)

    def _body(self) -> Any:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return json.loads(raw) if raw else {}

    def _json(self, code: int, body: object) -> None:
        self._send(code, json.dumps(body).encode(), "application/json")

    def _send(self, code: int, body: bytes, kind: str = "text/plain", **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        if code not in (101, 204):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """Return a name for the log: a client of a unix socket has no address."""
        return "client"

    def log_message(self, *args: object) -> None:
        """Print nothing."""
