"""Three PostgreSQL nodes under Patroni, and their etcd, all on loopback and in one temporary folder."""

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic
from typing import Any

import attrs
import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict

from escalation_adapters.watcher import Watcher

from ..harness.servers import PASSWORD
from .node import CONFIG, Gates, Node, identity, own

PAGE = CONFIG.parents[1] / "high-availability.md"
"""The page that explains how to connect. Workers and hosts connect in the same way here."""
START_TIMEOUT = 90.0
"""Seconds within which a cluster has started, or is complete again."""
FOLLOWS = ("running", "streaming")
"""Patroni's words for the state of a standby that follows. Older versions say ``running``."""


@attrs.define
class Cluster:
    """The nodes. A test can kill a node, or cut it off from the other nodes and from etcd, but not from its clients."""

    folder: Path
    nodes: Sequence[Node]
    gates: Gates
    synchronous: bool

    @classmethod
    @asynccontextmanager
    async def started(cls, *, synchronous: bool) -> "AsyncIterator[Cluster]":
        """Start the cluster, wait until it is complete, and stop it afterwards."""
        folder = _open_folder()
        ports, watcher = _free_ports(8), Watcher(folder)
        with Gates() as gates:
            nodes = [
                Node(
                    name := f"db{1 + number}", folder / name, port, rest, watcher,
                    peers=gates.before(port), api=gates.before(rest), etcd=gates.before(ports[0]),
                )
                for number, (port, rest) in enumerate(zip(ports[2:5], ports[5:], strict=True))
            ]  # fmt: skip
            cluster = cls(folder, nodes, gates, synchronous)
            etcd = _start_etcd(folder, *ports[:2])
            watcher.watch(etcd.pid, signal.SIGKILL)
            try:
                await cluster._start(ports[0])
                yield cluster
            finally:
                for node in nodes:
                    await asyncio.to_thread(node.stop)
                etcd.kill()
                etcd.wait()
                watcher.forget(etcd.pid)
                shutil.rmtree(folder, ignore_errors=True)
                watcher.end()

    async def _start(self, etcd: int) -> None:
        for node in self.nodes:
            node.folder.mkdir()
            own(node.folder)
            node.write(synchronous=self.synchronous)
        await self._until("etcd", lambda: asyncio.to_thread(_ready, etcd))
        self.nodes[0].start()
        await self.leader()
        for node in self.nodes[1:]:
            node.start()
        await self.whole()

    @property
    def ports(self) -> Sequence[int]:
        """The ports of PostgreSQL, in the order of a DSN."""
        return [node.port for node in self.nodes]

    async def leader(self) -> Node:
        """Wait until a node accepts writes, and return it."""
        found: list[Node] = []

        async def leads() -> bool:
            for node in self.nodes:
                if [(False,)] == await self.ask(node, "SELECT pg_is_in_recovery()"):
                    found.append(node)
                    return True
            return False

        await self._until("leader", leads)
        return found[0]

    async def whole(self) -> None:
        """Wait until one node leads and two follow; in a synchronous cluster one of them follows synchronously."""

        async def whole() -> bool:
            known = await asyncio.to_thread(_get, (await self.leader()).rest, "/cluster")
            members = known.get("members", [])
            roles = Counter(member["role"] for member in members if member["state"] in FOLLOWS)
            lines = {member.get("timeline") for member in members}
            return roles == self._roles and len(lines) == 1 and all(not member.get("lag") for member in members)

        await self._until("complete cluster", whole)

    @property
    def _roles(self) -> Counter[str]:
        synchronous = {"sync_standby": 1} if self.synchronous else {}
        return Counter({"leader": 1, "replica": 2 - len(synchronous), **synchronous})

    async def demoted(self, old: Node) -> None:
        """Wait until the old leader accepts no more writes."""

        async def refuses() -> bool:
            return await self.ask(old, "SELECT pg_is_in_recovery()") != [(False,)]

        await self._until("end of the old leader", refuses, 0.05)

    async def succeeded(self, old: Node, statement: str, database: str) -> Node:
        """Wait until another node than the old leader accepts a write, and return that node."""
        found: list[Node] = []

        async def writes() -> bool:
            for node in self.nodes:
                if node is not old and await self.ask(node, statement, database) is not None:
                    found.append(node)
                    return True
            return False

        await self._until("successor", writes, 0.05)
        return found[0]

    async def ask(self, node: Node, statement: str, database: str = "postgres") -> list[Any] | None:
        """Run a statement on one node, and return its rows; None if the node does not answer, or refuses."""
        dsn = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{node.port}/{database}?connect_timeout=2"
        try:
            async with asyncio.timeout(2), await AsyncConnection.connect(dsn, autocommit=True) as connection:
                cursor = await connection.execute(statement.encode())
                return await cursor.fetchall() if cursor.description else []
        except (psycopg.Error, TimeoutError):
            return None

    async def switch_over(self, old: Node) -> None:
        """Switch over to another node with patronictl, as an operator does."""
        command = ["patronictl", "-c", str(old.config), "switchover", "--leader", old.name, "--force"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
        assert "Successfully switched over" in done.stdout, done.stdout + done.stderr

    async def _until(self, name: str, condition: Callable[[], Awaitable[bool]], pause: float = 0.2) -> None:
        end = monotonic() + START_TIMEOUT
        while not await condition():
            if monotonic() > end:
                logs = "\n\n".join(f"{node.name}:\n{node.log[-3000:]}" for node in self.nodes)
                raise RuntimeError(f"there is no {name} within {START_TIMEOUT:.0f} s\n{logs}")
            await asyncio.sleep(pause)


def _start_etcd(folder: Path, port: int, peers: int) -> "subprocess.Popen[bytes]":
    """Start etcd as a single server: the test does not cause faults in etcd."""
    data = folder / "etcd"
    data.mkdir(mode=0o700)
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    command = [
        "etcd", "--data-dir", str(data), "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    ]  # fmt: skip
    own(data)
    with (folder / "etcd.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **identity()
        )


def options() -> dict[str, str]:
    """Return the parameters of the page's DSN other than host, port, user and database."""
    [url] = re.findall(r"ESC_DATABASE_URL='(.*)'", PAGE.read_text(encoding="utf-8"))
    parts = conninfo_to_dict(url)
    return {name: str(value) for name, value in parts.items() if name not in ("host", "port", "user", "dbname")}


def _ready(port: int) -> bool:
    """Return whether etcd reports its cluster version. Before that Patroni would end with an error."""
    return str(_get(port, "/version").get("etcdcluster", "not_decided")) != "not_decided"


def _get(port: int, path: str) -> dict[str, Any]:
    """Return the JSON answer of a local server; an empty dict without a valid answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()


def _open_folder() -> Path:
    """Create a folder that every user may enter, because the servers may run as another user."""
    folder = Path(tempfile.mkdtemp(prefix="escalation-cluster-"))
    folder.chmod(0o755)
    return folder


def _free_ports(count: int) -> list[int]:
    """Return this many ports on which no process listens."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
