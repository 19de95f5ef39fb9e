"""nginx as a web server for pages: one that takes every page at once, or one with answers of the caller's."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

_CONFIG = """
worker_processes 1;
worker_rlimit_nofile 40000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 20000; }}
http {{
    {http}
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""
_SECONDS = 10.0
"""How long nginx may take to start or to stop."""


@contextlib.contextmanager
def nginx(folder: Path, locations: str, *, http: str) -> Iterator[str]:
    """Start nginx with these locations and these lines of its block ``http``; yield its URL, without a path.

    The folder gets its files.

    Raises:
        SystemExit: nginx is not installed, or does not start.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        raise SystemExit("nginx is not installed; run: apt-get install nginx")
    folder.chmod(0o755)  # its workers run as another user
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config, errors = folder / "nginx.conf", folder / "error.log"
    config.write_text(_CONFIG.format(folder=folder, port=port, http=http, locations=locations), encoding="utf-8")
    server = subprocess.Popen([program, "-c", str(config), "-e", str(errors)])
    try:
        _wait_for(server, port, errors)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(_SECONDS)


def _wait_for(server: "subprocess.Popen[bytes]", port: int, errors: Path) -> None:
    """Wait until nginx accepts connections."""
    deadline = time.monotonic() + _SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
    raise SystemExit(f"nginx does not start: {errors.read_text(encoding='utf-8') if errors.exists() else 'no log'}")


@attrs.frozen
class Sink:
    """A web server that takes every page, and its log."""

    url: str
    log: Path

    def count(self) -> int:
        """Return the number of pages that the server took."""
        with self.log.open("rb") as lines:
            return sum(1 for _ in lines)


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """Start a web server that takes every page."""
    with tempfile.TemporaryDirectory(prefix="escalation-bench-") as name:
        log = Path(name) / "access.log"
        with nginx(Path(name), 'location / { return 200 "ok"; }', http=f"access_log {log};") as url:
            yield Sink(f"{url}/page", log)
