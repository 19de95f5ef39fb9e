"""A web server that takes every page at once: nginx."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

CONFIG = """
worker_processes 1;
worker_rlimit_nofile 40000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 20000; }}
http {{
    access_log {folder}/access.log;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "ok"; }}
    }}
}}
"""


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
    """Start nginx."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        raise SystemExit("this part of the bench needs nginx; run: apt-get install nginx")
    with tempfile.TemporaryDirectory(prefix="escalation-bench-") as name, socket.socket() as probe:
        folder = Path(name)
        folder.chmod(0o755)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=port), encoding="utf-8")
        server = subprocess.Popen([program, "-c", str(config), "-e", str(folder / "error.log")])
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                    break
                time.sleep(0.1)
            yield Sink(f"http://127.0.0.1:{port}/page", folder / "access.log")
        finally:
            server.terminate()
            server.wait(10)
