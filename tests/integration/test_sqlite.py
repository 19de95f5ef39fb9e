"""SQLiteStore keeps commits in a file that several processes can share. Faults of the file are errors."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from escalation_adapters.sqlite import SQLiteStore
from escalation_adapters.sqlite.codec import micros
from escalation_adapters.sqlite.file import APPLICATION_ID, _steps
from escalation_core import (
    AuditEntry,
    Engine,
    Escalation,
    Incident,
    Policies,
    Settings,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
)
from escalation_core.engine.audit import read_audit
from escalation_core.model import PageRecord
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, RecordingNotifier

NOW = datetime(2025, 1, 1, tzinfo=UTC)
WORKER = """
import asyncio, sys
from datetime import datetime, UTC
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Engine
from escalation_core.testing import ManualClock, RecordingNotifier

async def main():
    store = await SQLiteStore.connect(sys.argv[1], clock=ManualClock(datetime(2025, 1, 1, tzinfo=UTC)))
    engine = Engine(store, notifiers=[RecordingNotifier("t")], batch_size=25)
    print("ready", flush=True)
    sys.stdin.readline()
    escalated = 0
    for _ in range(3):
        escalated += (await engine.tick(deliver=False)).escalated
    print(escalated, flush=True)
    await store.aclose()

asyncio.run(main())
"""


async def fill(path: Path, count: int) -> None:
    async with Engine(SQLiteStore(path, clock=ManualClock(NOW))) as engine:
        for number in range(count):
            seen = NOW - timedelta(minutes=10)
            await engine.open(f"k{number}", severity="critical", first_seen=seen)


async def recorded(path: Path) -> list[tuple[str, int, int]]:
    store = await SQLiteStore.connect(path, clock=ManualClock(NOW))

    async def both(tx: Transaction) -> tuple[Sequence[tuple[int, Escalation]], Sequence[PageRecord]]:
        # Both reads use one snapshot, because other processes may write at the same time.
        return await tx.ledger.escalations(limit=100_000), await tx.outbox.pages(limit=100_000)

    found, pages = await store.read(both)
    await store.aclose()
    steps = sorted((e.incident_key, e.episode, e.level) for _, e in found)
    assert steps == sorted((page.incident_key, page.episode, page.level) for page in pages)
    return steps


async def test_commits_are_synced_and_readers_do_not_wait(tmp_path: Path) -> None:
    """The store opens the file in WAL mode and syncs each commit."""
    store = await SQLiteStore.connect(tmp_path / "a.db")

    async def pragmas(tx: Transaction) -> list[object]:
        session = tx.incidents.session  # type: ignore[attr-defined]
        return [(await session.row(f"PRAGMA {name}"))[0] for name in ("journal_mode", "synchronous")]

    assert ["wal", 2] == await store.read(pragmas)
    await store.aclose()
    await store.aclose()


async def test_a_reopened_file_holds_everything(tmp_path: Path) -> None:
    """A file that is opened again has everything that was committed before."""
    path = tmp_path / "a.db"
    await fill(path, 3)
    async with Engine(SQLiteStore(path, clock=ManualClock(NOW)), notifiers=[RecordingNotifier("t")]) as engine:
        assert 3 == (await engine.tick()).escalated
    assert [("k0", 1, 1), ("k1", 1, 1), ("k2", 1, 1)] == await recorded(path)


async def test_a_text_that_is_not_utf8_stops_no_escalation(tmp_path: Path) -> None:
    """Another program may write any bytes into an override. Its person is unknown, so the default target is paged."""
    path = tmp_path / "a.db"
    levels = [{"after": "0m", "to": ["oncall:primary"]}]
    rota = {"zone": "UTC", "start": "2020-01-06T09:00", "turn": "7d", "people": ["ann"]}
    file = Policies.from_mapping(
        {
            "policies": {"default": {"levels": levels}},
            "schedules": {"primary": {"rotation": rota}},
            "people": {"ann": "t"},
        }
    )
    notifier = RecordingNotifier("t", "instead")
    settings = Settings(default_target="instead")
    store = SQLiteStore(path, clock=ManualClock(NOW))
    async with Engine(store, settings=settings, notifiers=[notifier], policies=file) as engine:
        await engine.override("primary", "ann", until=timedelta(hours=1))
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE escalation_overrides SET person = CAST(x'ff' AS TEXT)")
        await engine.open("k")
        await engine.tick()
    assert ["instead"] == [page.target for page in notifier.pages]


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """Two processes that tick at the same time record each of 300 escalations exactly once."""
    path = tmp_path / "a.db"
    await fill(path, 300)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert "ready" == worker.stdout.readline().strip()
    escalated = 0
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        out, _ = worker.communicate(timeout=60)
        assert 0 == worker.returncode
        escalated += int(out)
    assert 300 == escalated
    assert 300 == len(await recorded(path))


async def test_a_killed_process_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """After a kill in the middle of a tick, the ledger and the outbox agree, and the next tick finishes the work."""
    path = tmp_path / "a.db"
    await fill(path, 400)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert "ready" == worker.stdout.readline().strip()
    worker.stdin.write("go\n")
    worker.stdin.flush()
    while not await recorded(path):
        assert worker.poll() is None
    worker.kill()
    worker.communicate(timeout=30)
    await recorded(path)
    async with Engine(SQLiteStore(path, clock=ManualClock(NOW)), notifiers=[RecordingNotifier("t")]) as engine:
        await engine.tick(deliver=False)
    assert 400 == len(await recorded(path))


async def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """On a full disk SQLite rolls back the transaction with its savepoints, and the store raises StoreUnavailable."""
    store = await SQLiteStore.connect(tmp_path / "escalation.db", clock=ManualClock(NOW))
    await store.transact(fill_up)

    async def work(tx: Transaction) -> None:
        await tx.journal.note([AuditEntry(at=NOW, action="first")])
        await tx.savepoint(lambda: tx.journal.note([AuditEntry(at=NOW, action="second", reason="x" * 1_000_000)]))

    with pytest.raises(StoreUnavailable, match="full"):
        await store.transact(work)
    assert [] == list(await store.read(lambda tx: read_audit(tx, since=NOW, limit=9)))
    await store.aclose()


async def fill_up(tx: Transaction) -> None:
    """Let the file grow by two pages at most."""
    session = tx.journal.session  # type: ignore[attr-defined]
    [pages] = await session.row("PRAGMA page_count")
    await session.row(f"PRAGMA max_page_count = {pages + 2}")


async def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """The store refuses another program's database, one of a newer version, a text and a folder, and says why."""
    foreign, newer, text = tmp_path / "foreign.db", tmp_path / "newer.db", tmp_path / "text.db"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
    await fill(newer, 0)
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 99")
    text.write_text("no database at all, but a longer text than its header" * 20)
    for path, error, word in (
        (foreign, StoreNotReady, "another program"),
        (newer, StoreNotReady, "version 99"),
        (text, StoreNotReady, "not a valid SQLite database"),
        (tmp_path, (StoreRefused, StoreUnavailable), "SQLite"),
    ):
        with pytest.raises(error, match=word):
            await SQLiteStore.connect(path)
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        assert [("theirs",)] == connection.execute("SELECT name FROM sqlite_schema").fetchall()


async def test_file_of_an_earlier_version_gets_the_columns_of_a_walk(tmp_path: Path) -> None:
    """A file without the columns of a walk gets them when it is opened; its rows and escalations keep their values."""
    path, now = tmp_path / "e.db", datetime(2025, 1, 1, tzinfo=UTC)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for step in _steps()[:3]:
            connection.executescript(step)
        connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 3")
        connection.execute("INSERT INTO escalation_meta VALUES ('made_at', 0)")
        row = "INSERT INTO incidents (incident_key, first_seen, canary_bucket) VALUES (?, ?, 7)"
        connection.execute(row, ["a", micros(now)])
        connection.execute("INSERT INTO escalation_workers VALUES ('w', 0, '1.0')")
        connection.execute("INSERT INTO escalation_events VALUES (1, 'a', 1, 'h', 0, 1)")
        connection.commit()
    store = await SQLiteStore.connect(path)
    one = await store.read(lambda tx: tx.incidents.load("a", lock=False))
    assert Incident(incident_key="a", first_seen=now) == one
    ((_, event),) = await store.read(lambda tx: tx.ledger.escalations(limit=9))
    assert (1, None, None) == (event.level, event.policy, event.position)
    await store.aclose()


async def test_a_cancelled_transaction_is_rolled_back(tmp_path: Path) -> None:
    """The store rolls back the transaction of a cancelled task, and works afterwards."""
    store = await SQLiteStore.connect(tmp_path / "a.db", clock=ManualClock(NOW))
    engine = Engine(store)
    inside = asyncio.Event()

    async def work(tx: Transaction) -> None:
        await tx.journal.record_heartbeat("w", "1", tolerance=timedelta())
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.transact(work))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert None is (await store.read(lambda tx: tx.journal.last_heartbeat(datetime.now(UTC)))).last
    await engine.open("a")
    await store.aclose()


async def test_a_file_that_is_locked_for_long_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program keeps the file locked, calls raise StoreUnavailable. Afterwards the store works again."""
    monkeypatch.setattr("escalation_adapters.sqlite.file.BUSY_TIMEOUT", 0.05)
    path = tmp_path / "a.db"
    store = await SQLiteStore.connect(path)
    engine = Engine(store)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await engine.open("a")
        other.execute("ROLLBACK")
    assert "a" == (await engine.open("a")).incident_key
    await store.aclose()


async def test_a_file_that_becomes_free_is_written_at_once(tmp_path: Path) -> None:
    """A process that waits for a locked file checks often. Of three waits, one ends within 50 ms of the unlock."""
    path = tmp_path / "a.db"
    loop, waits = asyncio.get_running_loop(), []
    async with Engine(await SQLiteStore.connect(path)) as engine:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:

            def let_go() -> None:
                waits.append(loop.time())
                other.execute("ROLLBACK")

            for number in range(3):
                other.execute("BEGIN IMMEDIATE")
                loop.call_later(0.34, let_go)  # SQLite's own wait checks after 328 ms, and then after 428 ms
                await engine.open(f"k{number}")
                waits[-1] = loop.time() - waits[-1]
    assert min(waits) < 0.05


@pytest.mark.parametrize("name", ["a\0b.db", "\ud800.db"])
async def test_a_path_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    """A path with a NUL, or one that cannot be encoded, raises StoreRefused like any path that cannot be opened."""
    with pytest.raises(StoreRefused, match="no file's name may hold"):
        await SQLiteStore.connect(f"{tmp_path}/{name}")


def test_no_thread_is_left(tmp_path: Path) -> None:
    """A closed store leaves no thread. If it is closed in between, a store serves one loop after another."""
    import threading

    store = SQLiteStore(tmp_path / os.fsdecode("a.db"))
    for _ in range(2):
        asyncio.run(store.check())
        asyncio.run(store.aclose())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("escalation-sqlite")]
