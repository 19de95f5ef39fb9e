"""SQLiteStore refuses a file that was replaced, removed or never there, a second loop, and a forked process."""

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

ELSEWHERE = pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no file that is open")


def replace(path: Path) -> None:
    """Replace the file with a copy."""
    Path(shutil.copy(path, f"{path}.copy")).replace(path)


def lose_log(path: Path) -> None:
    """Remove the file's write-ahead log, as an operator who deletes stray files does."""
    Path(f"{path}-wal").unlink()


def lose_memory(path: Path) -> None:
    """Remove the shared-memory file, in which the processes keep their locks."""
    Path(f"{path}-shm").unlink()


def move(path: Path, to: Path) -> None:
    """Move the file."""
    path.rename(to)


@ELSEWHERE
@pytest.mark.parametrize("lose_files", [replace, Path.unlink, lose_log, lose_memory])
async def test_a_file_that_is_another_one_is_refused(
    lose_files: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each call on the store names the fault, and a worker logs it as critical. A newly opened store works."""
    path = tmp_path / "e.db"
    stop = asyncio.Event()
    async with Engine(await SQLiteStore.connect(path), notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k")
        worker = asyncio.create_task(run(engine, stop=stop, signals=False))
        await until(lambda: engine.observed_lag() is not None)
        lose_files(path)
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
    """A store refuses calls while its file is moved away. Once the file is back, the store works again."""
    path = tmp_path / "e.db"
    async with Engine(await SQLiteStore.connect(path)) as engine:
        move(path, tmp_path / "away")
        with pytest.raises(StoreNotReady):
            await engine.open("k")
        move(tmp_path / "away", path)
        assert 1 == (await engine.open("k")).episode


def test_a_relative_path_outlives_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with a relative path keeps its file when the process changes its folder."""
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
    """With ``create=False`` a missing file is refused with its path and not created. An existing file is opened."""
    path = tmp_path / "typo.db"
    with pytest.raises(StoreNotReady, match=r"typo\.db is not there; check the path"):
        await SQLiteStore.connect(path, create=False)
    assert not await asyncio.to_thread(path.exists)
    await (await SQLiteStore.connect(path)).aclose()
    await (await SQLiteStore.connect(path, create=False)).aclose()


async def test_a_second_loop_is_refused(tmp_path: Path) -> None:
    """The store refuses a second event loop and names the remedy. After a close another loop may open the store."""
    store = await SQLiteStore.connect(tmp_path / "e.db")

    def elsewhere() -> None:
        asyncio.run(store.check())

    with pytest.raises(EscalationError, match="in another event loop before; open one for each loop"):
        await asyncio.to_thread(elsewhere)
    await store.aclose()
    await asyncio.to_thread(elsewhere)
    await asyncio.to_thread(lambda: asyncio.run(store.aclose()))


async def test_a_closed_store_serves_tasks_of_another_loop(tmp_path: Path) -> None:
    """After a close, concurrent tasks of one loop leave nothing that hinders the tasks of the next loop."""
    store = SQLiteStore(tmp_path / "e.db")

    async def work() -> None:
        await asyncio.gather(*(store.check() for _ in range(3)))
        await store.aclose()

    for _ in range(2):
        await asyncio.to_thread(lambda: asyncio.run(work()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_is_refused(tmp_path: Path) -> None:
    """A forked process cannot use the store, and its close does not disturb the parent's store."""
    out = heard(f"sqlite:///{tmp_path / 'e.db'}")
    assert out.startswith(HEARD)
    assert out.endswith("the parent goes on\n")
