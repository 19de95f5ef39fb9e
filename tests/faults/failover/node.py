"""One PostgreSQL node under Patroni on loopback, configured as on the how-to page. A test can kill or isolate it."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any, Self

import attrs

from escalation_adapters.watcher import Watcher

from ..harness.proxy import Direction, Proxy
from ..harness.servers import PASSWORD

CONFIG = Path(__file__).parents[3] / "docs/how-to/patroni/db1.yml"
"""The configuration on the page. A node's configuration differs from it in addresses, folders and secrets only."""
STOP_TIMEOUT = 30.0
UNPRIVILEGED_UID = 65534
"""The user that runs the programs if the test runs as root, because PostgreSQL refuses to run as root."""


class Gate(Proxy):
    """A proxy that forwards any protocol."""

    async def _pump(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: "asyncio.Task[None]",
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


@attrs.define
class Gates:
    """All gates of a cluster, in a thread with its own event loop, because the test's loop blocks at times."""

    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop)
    gates: list[Gate] = attrs.field(factory=list)

    def __enter__(self) -> Self:
        """Start the event loop."""
        Thread(target=self.loop.run_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop all gates and the event loop."""
        for gate in self.gates:
            self._do(gate.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        while self.loop.is_running():
            sleep(0.01)
        self.loop.close()

    def before(self, port: int) -> Gate:
        """Open a gate before a port."""
        gate = Gate(port)
        self._do(gate.start())
        self.gates.append(gate)
        return gate

    def stall(self, gates: Sequence[Gate]) -> None:
        """Forward nothing through these gates until ``flow``. Their connections stay open."""
        for gate in gates:
            self.loop.call_soon_threadsafe(gate.stall)

    def flow(self, gates: Sequence[Gate]) -> None:
        """Forward everything through these gates again."""
        for gate in gates:
            self.loop.call_soon_threadsafe(gate.flow)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(STOP_TIMEOUT)


def binaries() -> Path:
    """Return the programs of the newest installed PostgreSQL: a standby needs some that the Python package lacks."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_rewind"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise RuntimeError("PostgreSQL is not installed; tests/faults/system-packages lists the packages to install")
    return found[-1].parent


def identity() -> dict[str, Any]:
    """Return the arguments of Popen that choose the user of a program."""
    if os.geteuid():
        return {}
    return {"user": UNPRIVILEGED_UID, "group": pwd.getpwuid(UNPRIVILEGED_UID).pw_gid, "extra_groups": []}


def own(folder: Path) -> None:
    """Make the user of the programs the owner of a folder."""
    if not os.geteuid():
        shutil.chown(folder, UNPRIVILEGED_UID)


@attrs.define
class Node:
    """A node with its ports, and with gates to it from the other nodes, and from it to etcd."""

    name: str
    folder: Path
    port: int
    """The port of PostgreSQL, which workers and hosts use without a gate."""
    rest: int
    watcher: Watcher
    """The process that ends the node if the test process is killed."""
    peers: Gate
    """The gate from the other nodes to PostgreSQL on this node."""
    api: Gate
    """The gate from the other nodes to Patroni on this node."""
    etcd: Gate
    """The gate from this node to etcd."""
    _patroni: "subprocess.Popen[bytes] | None" = None

    @property
    def gates(self) -> Sequence[Gate]:
        """All gates of the node. If they stall, only workers and hosts reach the node."""
        return (self.peers, self.api, self.etcd)

    @property
    def config(self) -> Path:
        """The file that Patroni reads."""
        return self.folder / "patroni.yml"

    @property
    def log(self) -> str:
        """The log of Patroni and PostgreSQL."""
        log = self.folder / "log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def write(self, *, synchronous: bool) -> None:
        """Write the node's configuration: the page's configuration with the addresses of this run."""
        text = CONFIG.read_text(encoding="utf-8")
        changes = {
            "name: db1": f"name: {self.name}",
            "listen: 10.0.0.1:8008": f"listen: 127.0.0.1:{self.rest}",
            "connect_address: 10.0.0.1:8008": f"connect_address: 127.0.0.1:{self.api.port}",
            # Without use_proxies Patroni would ask etcd for the addresses of all members, and bypass the gate.
            "  hosts: 10.0.0.11:2379,10.0.0.12:2379,10.0.0.13:2379": (
                f"  use_proxies: true\n  hosts: 127.0.0.1:{self.etcd.port}"
            ),
            "listen: 10.0.0.1:5432": f"listen: 127.0.0.1:{self.port}",
            "connect_address: 10.0.0.1:5432": f"connect_address: 127.0.0.1:{self.peers.port}",
            "/var/lib/postgresql/15/incidents": str(self.folder / "data"),
            "/usr/lib/postgresql/15/bin": str(binaries()),
            "/var/lib/postgresql/pgpass": str(self.folder / "pgpass"),
            "/var/run/postgresql": str(self.folder),
            "superuser-secret": PASSWORD,
            "10.0.0.0/24": "127.0.0.1/32",
        }
        if not synchronous:
            changes |= {"_mode: true": "_mode: false", "_strict: true": "_strict: false"}
        for shown, here in changes.items():
            assert shown in text, f"{CONFIG.name} does not contain {shown}"
            text = text.replace(shown, here)
        assert "10.0.0" not in text, f"{CONFIG.name} has an address that this run does not replace"
        self.config.write_text(text, encoding="utf-8")

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"}
        with (self.folder / "log").open("ab") as log:
            self._patroni = subprocess.Popen(
                ["patroni", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment,
                start_new_session=True, **identity(),
            )  # fmt: skip
        # At SIGTERM Patroni stops PostgreSQL first. A PostgreSQL that still runs ends within a minute after its folder
        # was deleted.
        self.watcher.watch(self._patroni.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill all processes of the node at once, as at a loss of power."""
        heads = [pid for pid in (self._postmaster(), self._patroni and self._patroni.pid) if pid]
        for head in heads:
            _send(head, signal.SIGSTOP)  # so that no process starts another one meanwhile
        for pid in [*heads, *(child for head in heads for child in _descendants(head))]:
            _send(pid, signal.SIGKILL)
        if self._patroni is not None:
            self._patroni.wait(STOP_TIMEOUT)
            self.watcher.forget(self._patroni.pid)

    def stop(self) -> None:
        """Kill Patroni, and let PostgreSQL end by itself, so that it releases its shared memory."""
        if self._patroni is not None:
            self._patroni.kill()
            self._patroni.wait(STOP_TIMEOUT)
            self.watcher.forget(self._patroni.pid)
        end = monotonic() + STOP_TIMEOUT
        postmaster = self._postmaster()
        if postmaster is not None:
            _send(postmaster, signal.SIGQUIT)
        while postmaster is not None and postmaster == self._postmaster() and monotonic() < end:
            sleep(0.05)

    def _postmaster(self) -> int | None:
        """Return the process id of PostgreSQL, if it runs on this node's data."""
        with suppress(OSError, ValueError, IndexError):
            pid = int((self.folder / "data" / "postmaster.pid").read_text().split("\n")[0])
            if str(self.folder / "data").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    """Return the process ids of all descendants of a process."""
    with suppress(OSError):
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return children + [young for child in children for young in _descendants(child)]
    return []
