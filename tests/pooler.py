"""pgbouncer in transaction mode, started with the configuration that the documentation gives."""

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
"""What a user without a password logs in with: a pooler in front of a trusting server still asks for one."""
ADMIN = "pooler_admin"
NOBODY = "nobody"
"""Who runs it when we are root, as which it refuses to run."""
PATIENCE = 10.0
FEW = {"default_pool_size": "8", "server_round_robin": "1"}
"""So few sessions, each lent to another client after every transaction: what rests on a session breaks at once."""


def documented() -> ConfigParser:
    """Return the configuration that the documentation gives."""
    [block] = re.findall(r"```ini\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    config = ConfigParser(interpolation=None)
    config.read_string(block)
    return config


@attrs.define
class Pgbouncer:
    """One pgbouncer before one server, for all of its databases. Made with ``start``."""

    behind: Mapping[str, Any]
    """The host and port that it stands before."""
    settings: Mapping[str, str]
    """What it is told beside the documented configuration."""
    folder: Path
    port: int
    _users: dict[str, str] = attrs.field(factory=dict, repr=False)
    _process: "subprocess.Popen[bytes] | None" = None
    _watcher: Watcher = attrs.field(
        default=attrs.Factory(lambda pooler: Watcher(pooler.folder), takes_self=True), repr=False
    )

    @classmethod
    def start(cls, dsn: str, **settings: str) -> "Pgbouncer":
        """Start one before the server of a DSN."""
        parts = conninfo_to_dict(dsn)
        behind = {"host": parts.get("hostaddr") or parts["host"], "port": parts.get("port") or 5432}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        pooler = cls(behind, settings, Path(tempfile.mkdtemp(prefix="escalation-pooler-")), port)
        pooler._users[ADMIN] = PASSWORD
        try:
            pooler.restart()
        except BaseException:
            pooler.stop()
            raise
        return pooler

    def dsn(self, dsn: str) -> str:
        """Return the way through it to where a DSN leads; its user may log in from now on."""
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
        """Say something to its console; return what it answers."""
        where = f"host=127.0.0.1 port={self.port} user={ADMIN} password={PASSWORD} dbname=pgbouncer"
        with psycopg.connect(where, autocommit=True) as console:
            cursor = console.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def pid(self) -> int | None:
        """Its process, None while it is down."""
        return None if self._process is None else self._process.pid

    @property
    def died(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def stall(self) -> None:
        """Let it stand still, until ``flow``."""
        self._signal(signal.SIGSTOP)

    def flow(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, with all connections that lead through it; ``restart`` brings it back."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it, on the port that it had."""
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
        end = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)  # pgbouncer does not report that it listens: only a connection shows it
        raise RuntimeError(f"pgbouncer did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Stop it, and remove its folder."""
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
                **FEW, **self.settings, "listen_addr": "127.0.0.1", "listen_port": str(self.port),
                "auth_file": str(users), "unix_socket_dir": "", "admin_users": ADMIN, "logfile": str(self._log),
            }
        )  # fmt: skip
        text = StringIO()
        config.write(text)
        users.write_text("".join(f'"{user}" "{password}"\n' for user, password in self._users.items()))
        (self.folder / "pgbouncer.ini").write_text(text.getvalue())
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, NOBODY)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, how: signal.Signals) -> None:
        self._signal(how)
        process, self._process = self._process, None
        if process is not None:
            process.wait(PATIENCE)
            self._watcher.forget(process.pid)


@attrs.define
class Poolers:
    """A pgbouncer before each server that is asked for, started by the first who asks."""

    _started: dict[tuple[str, str], Pgbouncer] = attrs.field(factory=dict)

    def dsn(self, dsn: str) -> str:
        """Return the way through a pooler to where a DSN leads."""
        parts = conninfo_to_dict(dsn)
        where = str(parts.get("hostaddr") or parts["host"]), str(parts.get("port") or 5432)
        if where not in self._started:
            self._started[where] = Pgbouncer.start(dsn)
        return self._started[where].dsn(dsn)

    def stop(self) -> None:
        """Stop them all."""
        for pooler in self._started.values():
            pooler.stop()


def _identity() -> dict[str, Any]:
    """Return how to run it."""
    if os.geteuid() != 0:
        return {}
    # By number: the name of nobody's group differs from system to system.
    return {"user": NOBODY, "group": pwd.getpwnam(NOBODY).pw_gid, "extra_groups": []}
