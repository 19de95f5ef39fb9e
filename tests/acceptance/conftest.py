"""Shared by acceptance tests: the command line, called in this process."""

import asyncio
from pathlib import Path

import pytest

from escalation_adapters.sqlite import SQLiteStore

from .console import Console, url_of


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    """The command line without any settings."""
    return Console(monkeypatch, capsys)


@pytest.fixture
def on_sqlite(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Console:
    """The command line on an existing SQLite file for this test only, since commands that only read make no file."""
    asyncio.run(_made(tmp_path / "escalation.db"))
    return Console(monkeypatch, capsys, ESC_DATABASE_URL=f"sqlite:///{tmp_path / 'escalation.db'}")


async def _made(path: Path) -> None:
    await (await SQLiteStore.connect(path)).aclose()


@pytest.fixture
def on_postgres(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], migrated_dsn: str) -> Console:
    """The command line on a migrated PostgreSQL database for this test only."""
    return Console(monkeypatch, capsys, ESC_DATABASE_URL=url_of(migrated_dsn))


@pytest.fixture(params=["sqlite", "postgres"])
def escalation(request: pytest.FixtureRequest) -> Console:
    """The command line on each database in turn."""
    console: Console = request.getfixturevalue(f"on_{request.param}")
    return console
