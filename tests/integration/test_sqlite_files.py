"""The file beneath an SQLite store: replaced, removed, mistyped; and the process and loop that a store belongs to."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from escalation_adapters.sqlite import SQLiteStore
from escalation_adapters.worker.runner import run
from escalation_core import Engine, EscalationError, StoreNotReady
from escalation_core.testing import RecordingNotifier

from .forking import HEARD, heard
from .stage import until

ELSEWHERE = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody replace a file that is open")


def replace(path: Path) -> None:
    """Put a copy in its place."""
    Path(shutil.copy(path, f"{path}.copy")).replace(path)


def lose_log(path: Path) -> None:
    """Remove the log that commits go to, as an operator who tidies up does."""
    Path(f"{path}-wal").unlink()


def lose_memory(path: Path) -> None:
    """Remove what the processes on the file lock each other out with."""
    Path(f"{path}-shm").unlink()


def move(path: Path, to: Path) -> None:
    """Move it."""
    path.rename(to)


@ELSEWHERE
@pytest.mark.parametrize("befalls", [replace, Path.unlink, lose_log, lose_memory])
async def test_a_file_that_is_another_one_is_refused(
    befalls: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a store is asked then, it says so; a worker logs it as critical; a store that is opened anew works."""
    path = tmp_path / "e.db"
    stop = asyncio.Event()
    async with Engine(await SQLiteStore.connect(path), notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k")
        worker = asyncio.create_task(run(engine, stop=stop, signals=False))
        await until(lambda: engine.observed_lag() is not None)
        befalls(path)
        for call in (engine.health, engine.tick, engine.store.check, lambda: engine.acknowledge("k")):
            with pytest.raises(StoreNotReady, match=r"e\.db(-wal|-shm)? was replaced or removed while"):
                await call()
        engine._delivery.tasks.wake()
        await until(lambda: "stopped by an error" in caplog.text)
        stop.set()
        await worker
    async with Engine(await SQLiteStore.connect(path)) as other:
        assert (await other.health()).ok


@ELSEWHERE
async def test_a_file_that_comes_back_is_the_same(tmp_path: Path) -> None:
    """Moved away and back, as by an operator who noticed, nothing is lost."""
    path = tmp_path / "e.db"
    async with Engine(await SQLiteStore.connect(path)) as engine:
        move(path, tmp_path / "away")
        with pytest.raises(StoreNotReady):
            await engine.open("k")
        move(tmp_path / "away", path)
        assert 1 == (await engine.open("k")).episode


def test_a_relative_path_outlives_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that goes elsewhere keeps its file."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)

    async def work() -> None:
        async with Engine(await SQLiteStore.connect("e.db")) as engine:
            monkeypatch.chdir(elsewhere)
            assert 1 == (await engine.open("k")).episode

    asyncio.run(work())
    assert [] == list(elsewhere.iterdir())


async def test_a_missing_file_is_not_made_where_none_is_wanted(tmp_path: Path) -> None:
    """The message names the path."""
    path = tmp_path / "typo.db"
    with pytest.raises(StoreNotReady, match=r"typo\.db is not there; check the path"):
        await SQLiteStore.connect(path, create=False)
    assert not await asyncio.to_thread(path.exists)
    await (await SQLiteStore.connect(path)).aclose()
    await (await SQLiteStore.connect(path, create=False)).aclose()


async def test_a_second_loop_is_refused(tmp_path: Path) -> None:
    """It is told what to do; once the store is closed, it may be opened in another loop."""
    store = await SQLiteStore.connect(tmp_path / "e.db")

    def elsewhere() -> None:
        asyncio.run(store.check())

    with pytest.raises(EscalationError, match="in another event loop before; open one for each loop"):
        await asyncio.to_thread(elsewhere)
    await store.aclose()
    await asyncio.to_thread(elsewhere)
    await asyncio.to_thread(lambda: asyncio.run(store.aclose()))


async def test_a_closed_store_serves_tasks_of_another_loop(tmp_path: Path) -> None:
    """Tasks that wait for each other in one loop leave nothing that hinders those in the next one."""
    store = SQLiteStore(tmp_path / "e.db")

    async def work() -> None:
        await asyncio.gather(*(store.check() for _ in range(3)))
        await store.aclose()

    for _ in range(2):
        await asyncio.to_thread(lambda: asyncio.run(work()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_is_refused(tmp_path: Path) -> None:
    """It can neither use the store nor disturb its parent's by closing it."""
    out = heard(f"sqlite:///{tmp_path / 'e.db'}")
    assert out.startswith(HEARD)
    assert out.endswith("the parent goes on\n")
