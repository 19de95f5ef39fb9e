"""pgbouncer in transaction mode, started with the configuration in the documentation."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from configparser import ConfigParser
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from escalation_adapters.watcher import Watcher

PAGE = Path(__file__).parents[1] / "docs/how-to/migrate-and-attach.md"
PASSWORD = "pooled-pa55word"
"""The password of users without one: a pooler in front of a trusting server still asks for a password."""
ADMIN_USER = "pooler_admin"
UNPRIVILEGED_USER = "nobody"
"""The user that runs pgbouncer if the test runs as root, since pgbouncer refuses to run as root."""
MAX_WAIT_SECONDS = 10.0
"""The longest time that a start or an end of pgbouncer may take."""
SMALL_POOL = {"default_pool_size": "8", "server_round_robin": "1"}
"""Few sessions, each lent to another client after every transaction: code that relies on a session fails at once."""


def documented() -> ConfigParser:
    """Return the configuration in the documentation."""
    [block] = re.findall(r"```ini\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    config = ConfigParser(interpolation=None)
    config.read_string(block)
    return config


@attrs.define
class Pgbouncer:
    """One pgbouncer before one server, for all of its databases. ``start`` makes it."""

    behind: Mapping[str, Any]
    """The host and port of the server."""
    settings: Mapping[str, str]
    """Settings beyond the documented configuration."""
    folder: Path
    port: int
    _users: dict[str, str] = attrs.field(factory=dict, repr=False)
    _process: "subprocess.Popen[bytes] | None" = None
    _watcher: Watcher = attrs.field(
        default=attrs.Factory(lambda pooler: Watcher(pooler.folder), takes_self=True), repr=False
    )

    @classmethod
    def start(cls, dsn: str, **settings: str) -> "Pgbouncer":
        """Start a pgbouncer before the server of a DSN."""
        parts = conninfo_to_dict(dsn)
        behind = {"host": parts.get("hostaddr") or parts["host"], "port": parts.get("port") or 5432}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        pooler = cls(behind, settings, Path(tempfile.mkdtemp(prefix="escalation-pooler-")), port)
        pooler._users[ADMIN_USER] = PASSWORD
        try:
            pooler.restart()
        except BaseException:
            pooler.stop()
            raise
        return pooler

    def dsn(self, dsn: str) -> str:
        """Return the DSN of the same database through pgbouncer, and let the DSN's user log in."""
        parts = conninfo_to_dict(dsn)
        user, password = str(parts["user"]), str(parts.get("password") or PASSWORD)
        if self._users.get(user) != password:
            self._users[user] = password
            self._configure()
            self.tell("RELOAD")
        return make_conninfo(
            dsn, host="127.0.0.1", hostaddr="127.0.0.1", port=self.port, user=user, password=password,
            sslmode="disable", gssencmode="disable",
        )  # fmt: skip

    def tell(self, command: str) -> list[Any]:
        """Run a command on pgbouncer's console; return the rows of its answer."""
        where = f"host=127.0.0.1 port={self.port} user={ADMIN_USER} password={PASSWORD} dbname=pgbouncer"
        with psycopg.connect(where, autocommit=True) as console:
            cursor = console.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def pid(self) -> int | None:
        """The process id of pgbouncer, None while it is down."""
        return None if self._process is None else self._process.pid

    @property
    def died(self) -> bool:
        """True if pgbouncer has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    @property
    def last_lines(self) -> str:
        """The end of pgbouncer's log."""
        return self._log.read_text(errors="replace")[-2000:]

    def stall(self) -> None:
        """Stop the process with SIGSTOP, until ``flow`` is called."""
        self._signal(signal.SIGSTOP)

    def flow(self) -> None:
        """Continue the process with SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill pgbouncer with all connections through it; ``restart`` starts it again."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start pgbouncer on the same port, and end a running one first."""
        self._end(signal.SIGTERM)
        self._configure()
        program = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
        if program is None:
            raise RuntimeError("pgbouncer is missing; .ci/system-packages lists what tests need")
        self._process = subprocess.Popen(
            [program, "-q", str(self.folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder,
            **_identity(),
        )  # fmt: skip
        self._watcher.watch(self._process.pid, signal.SIGTERM)
        end = time.monotonic() + MAX_WAIT_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)  # pgbouncer does not report that it listens: only a connection shows it
        raise RuntimeError(f"pgbouncer did not start:\n{self.last_lines}")

    def stop(self) -> None:
        """Stop pgbouncer, and remove its folder."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._watcher.end()

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _configure(self) -> None:
        config = documented()
        config["databases"] = {"*": " ".join(f"{name}={value}" for name, value in self.behind.items())}
        users = self.folder / "userlist.txt"
        config["pgbouncer"].update(
            {
                **SMALL_POOL, **self.settings, "listen_addr": "127.0.0.1", "listen_port": str(self.port),
                "auth_file": str(users), "unix_socket_dir": "", "admin_users": ADMIN_USER, "logfile": str(self._log),
            }
        )  # fmt: skip
        text = StringIO()
        config.write(text)
        users.write_text("".join(f'"{user}" "{password}"\n' for user, password in self._users.items()))
        (self.folder / "pgbouncer.ini").write_text(text.getvalue())
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, UNPRIVILEGED_USER)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, how: signal.Signals) -> None:
        self._signal(how)
        process, self._process = self._process, None
        if process is not None:
            process.wait(MAX_WAIT_SECONDS)
            self._watcher.forget(process.pid)


@attrs.define
class Poolers:
    """A pgbouncer before each server; it starts when its server is first asked for."""

    _started: dict[tuple[str, str], Pgbouncer] = attrs.field(factory=dict)

    def dsn(self, dsn: str) -> str:
        """Return the DSN of the same database through a pooler."""
        parts = conninfo_to_dict(dsn)
        where = str(parts.get("hostaddr") or parts["host"]), str(parts.get("port") or 5432)
        if where not in self._started:
            self._started[where] = Pgbouncer.start(dsn)
        return self._started[where].dsn(dsn)

    def restart_ended(self) -> list[str]:
        """Start again each pooler that has ended by itself; return the last lines of each log."""
        ended = [pooler for pooler in self._started.values() if pooler.died]
        last_lines = [pooler.last_lines for pooler in ended]
        for pooler in ended:
            pooler.restart()
        return last_lines

    def stop(self) -> None:
        """Stop all poolers."""
        for pooler in self._started.values():
            pooler.stop()


def _identity() -> dict[str, Any]:
    """Return the arguments with which Popen runs pgbouncer as another user, if this process is root."""
    if os.geteuid() != 0:
        return {}
    # By number: the name of this user's group differs from system to system.
    return {"user": UNPRIVILEGED_USER, "group": pwd.getpwnam(UNPRIVILEGED_USER).pw_gid, "extra_groups": []}
