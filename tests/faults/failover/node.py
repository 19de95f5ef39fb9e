"""One PostgreSQL under Patroni, as the how-to page configures it, on loopback; and what befalls it."""

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

from ..harness.proxy import Proxy, Way
from ..harness.servers import PASSWORD

CONFIG = Path(__file__).parents[3] / "docs/how-to/patroni/db1.yml"
"""The configuration that is shown to users. What a node gets here differs from it in addresses, folders and secrets."""
STOP_TIMEOUT = 30.0
USER = "nobody"
"""Who runs it all when we are root, as which PostgreSQL refuses to run."""


class Gate(Proxy):
    """Passes whatever is spoken through it."""

    async def _pump(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: "asyncio.Task[None]"
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


@attrs.define
class Gates:
    """All gates of a cluster, in a loop of their own: a test's loop stands still now and then."""

    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop)
    gates: list[Gate] = attrs.field(factory=list)

    def __enter__(self) -> Self:
        """Begin to run."""
        Thread(target=self.loop.run_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """End all of them."""
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
        """Let nothing through them any more, without a word."""
        for gate in gates:
            self.loop.call_soon_threadsafe(gate.stall)

    def flow(self, gates: Sequence[Gate]) -> None:
        """Let everything through them again."""
        for gate in gates:
            self.loop.call_soon_threadsafe(gate.flow)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(STOP_TIMEOUT)


def binaries() -> Path:
    """Return the folder of the newest PostgreSQL of the system: a standby needs more programs than a wheel brings."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_rewind"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise RuntimeError("there is no PostgreSQL; tests/faults/system-packages lists what failover needs")
    return found[-1].parent


def identity() -> dict[str, Any]:
    """Return as whom to run a program."""
    if os.geteuid():
        return {}
    return {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []}


def own(folder: Path) -> None:
    """Give a folder to whom the programs run as."""
    if not os.geteuid():
        shutil.chown(folder, USER)


@attrs.define
class Node:
    """A node: its own ports, and the gates through which the others reach it and it reaches etcd."""

    name: str
    folder: Path
    port: int
    """PostgreSQL's own, which workers and hosts use."""
    rest: int
    watcher: Watcher
    """Ends it if this process is killed."""
    peers: Gate
    """The way of the other nodes to its PostgreSQL."""
    api: Gate
    """The way of the other nodes to its Patroni."""
    etcd: Gate
    """Its own way to etcd."""
    _patroni: "subprocess.Popen[bytes] | None" = None

    @property
    def gates(self) -> Sequence[Gate]:
        """All its ways: when they stall, it is alone with those who work on it."""
        return (self.peers, self.api, self.etcd)

    @property
    def config(self) -> Path:
        """The file that Patroni reads."""
        return self.folder / "patroni.yml"

    @property
    def log(self) -> str:
        """What Patroni and PostgreSQL have said."""
        log = self.folder / "log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def write(self, *, synchronous: bool) -> None:
        """Write its configuration: the page's, with the addresses of this run."""
        text = CONFIG.read_text(encoding="utf-8")
        changes = {
            "name: db1": f"name: {self.name}",
            "listen: 10.0.0.1:8008": f"listen: 127.0.0.1:{self.rest}",
            "connect_address: 10.0.0.1:8008": f"connect_address: 127.0.0.1:{self.api.port}",
            # Each node has a way of its own to one etcd; it would ask that for others and go round its gate.
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
            assert shown in text, f"{CONFIG.name} does not say {shown}"
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
        # Told so, it ends PostgreSQL first. One that it leaves behind misses its folder, and ends within a minute.
        self.watcher.watch(self._patroni.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill everything of it at once, as a machine dies that loses its power."""
        heads = [pid for pid in (self._postmaster(), self._patroni and self._patroni.pid) if pid]
        for head in heads:
            _send(head, signal.SIGSTOP)  # so that none of them starts another one meanwhile
        for pid in [*heads, *(child for head in heads for child in _family(head))]:
            _send(pid, signal.SIGKILL)
        if self._patroni is not None:
            self._patroni.wait(STOP_TIMEOUT)
            self.watcher.forget(self._patroni.pid)

    def stop(self) -> None:
        """End it; PostgreSQL by itself, so that it leaves no shared memory behind."""
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
        """Return PostgreSQL's process, if it runs on this node's data."""
        with suppress(OSError, ValueError, IndexError):
            pid = int((self.folder / "data" / "postmaster.pid").read_text().split("\n")[0])
            if str(self.folder / "data").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _family(pid: int) -> list[int]:
    """Return a process's children, and theirs."""
    with suppress(OSError):
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return children + [young for child in children for young in _family(child)]
    return []
