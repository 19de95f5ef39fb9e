"""The store of ``docs/how-to/write-a-store.md`` works as the page says."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from check_json_store import JsonHarness, JsonHost
from escalation_core import Engine
from escalation_core.errors import StoreNotReady, StoreRefused, StoreUnavailable
from escalation_core.model import AuditEntry, Deferral, Escalation, Incident, PageState, RecalcState
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, RecordingNotifier
from escalation_core.testing.conformance import OPERATING_CHECKS, PAGING_CHECKS, StoreHarness
from escalation_core.testing.conformance.harness import START
from json_store import JsonStore

from .pages import DOCS

Check = Callable[[StoreHarness], Awaitable[None]]
STORE = DOCS / "examples/json_store.py"
CHECKS = DOCS / "examples/check_json_store.py"


@pytest.mark.parametrize("check", PAGING_CHECKS, ids=lambda check: check.__name__)
async def test_first_tier(check: Check, tmp_path: Path) -> None:
    """The store passes the checks for ticks, delivery and the verbs on incidents."""
    await check(JsonHarness(tmp_path))


@pytest.mark.parametrize("check", OPERATING_CHECKS, ids=lambda check: check.__name__)
async def test_second_tier_is_refused(check: Check, tmp_path: Path) -> None:
    """The store refuses each operation that it does not support with ``this store cannot``."""
    with pytest.raises(StoreRefused, match=r"^this store cannot "):
        await check(JsonHarness(tmp_path))


def test_checks_run_as_a_program(tmp_path: Path) -> None:
    """The second file runs as a program, as the page shows it."""
    done = subprocess.run([sys.executable, CHECKS], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.endswith(f"{len(PAGING_CHECKS)} checks passed\n")


async def test_engine_goes_on_after_a_restart(tmp_path: Path) -> None:
    """After a restart an engine finds the level and the page of the first process, and sends no second page."""
    clock, notifier, path = ManualClock(START), RecordingNotifier("ops"), tmp_path / "store.json"
    async with Engine(JsonStore(path, clock), notifiers=[notifier]) as engine:
        await engine.open("db-7/disk", severity="critical", labels={"$kind": "disk"})
        due = (await engine.store.next_due(canary=engine.settings.canary)).due_at
        assert due is not None
        clock.set(due)
        await engine.tick()
    assert ["db-7/disk"] == [page.incident.incident_key for page in notifier.pages]

    reopened = JsonStore(path, clock)
    async with Engine(reopened, notifiers=[notifier]) as engine:
        await engine.tick()

    incident = await reopened.read(lambda tx: tx.incidents.load("db-7/disk", lock=False))
    assert incident is not None
    assert 1 == incident.level
    assert due == incident.last_escalated_at
    assert {"$kind": "disk"} == incident.labels
    pages = await reopened.read(lambda tx: tx.outbox.pages(limit=9))
    assert [(PageState.DELIVERED, 1)] == [(page.state, page.attempts) for page in pages]
    assert 1 == len(notifier.pages)


async def test_every_table_comes_back(tmp_path: Path) -> None:
    """A second store on the file holds the first store's tables to the microsecond, with a host's odd rows."""
    clock, path = ManualClock(START), tmp_path / "store.json"
    store, now = JsonStore(path, clock), clock() + timedelta(microseconds=1)
    bad = Deferral(incident_key="bad", fault="refused", attempts=1, until=now)

    async def work(tx: Transaction) -> None:
        await tx.incidents.insert(Incident(incident_key="a", first_seen=now))
        await tx.incidents.pass_over([bad], now)
        await tx.ledger.record([Escalation(incident_key="a", episode=1, level=1, created_at=now)])
        await tx.outbox.throttle_target("t", now)
        await tx.journal.note([AuditEntry(at=now, action="exhausted")])
        await tx.journal.record_heartbeat("w", "1", tolerance=timedelta())
        await tx.journal.save_recalc(RecalcState(requested_at=now))

    async with Engine(store, notifiers=[RecordingNotifier("t")]) as engine:
        await engine.open("b", severity="critical")
        clock.advance(timedelta(hours=1))
        await engine.tick()
    await JsonHost(store).insert("odd", first_seen="infinity", level=None)
    await store.transact(work)

    first, second = [await each.read(tables) for each in (store, JsonStore(path, clock))]
    assert first == second
    assert all(first[name] for name in first)


async def tables(tx: Any) -> dict[str, Any]:
    return attrs.asdict(tx.tables, recurse=False)


async def test_commit_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk refuses a commit, the store and the file stay unchanged, and the store still works."""
    clock, path = ManualClock(START), tmp_path / "store.json"
    store = JsonStore(path, clock)

    async def insert(tx: Transaction) -> bool:
        return await tx.incidents.insert(Incident(incident_key="a", first_seen=clock()))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            await store.transact(insert)
    assert not path.exists()

    assert await store.transact(insert)
    assert path.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"pages": 1}', '{"other": {}}', '{"made_at": {"$kind": ["other", 1]}}'])
def test_file_that_is_not_a_store_is_refused(text: str, tmp_path: Path) -> None:
    """A file that is not a valid store is refused when the store opens it."""
    path = tmp_path / "store.json"
    path.write_text(text)

    with pytest.raises(StoreNotReady, match="is not a valid store"):
        JsonStore(path)


def test_store_is_small() -> None:
    """The store has fewer than 480 lines without blank ones, as the page says, and uses no part of MemoryStore."""
    lines = [line for line in STORE.read_text(encoding="utf-8").splitlines() if line.strip()]

    assert len(lines) < 480
    assert not [line for line in lines if "MemoryStore" in line or "testing.memory" in line]


def test_page_shows_both_files() -> None:
    """The page includes both files as a whole."""
    page = (DOCS / "how-to/write-a-store.md").read_text(encoding="utf-8")

    for file in (STORE, CHECKS):
        assert f"```{{literalinclude}} ../examples/{file.name}\n:language: python\n```" in page
