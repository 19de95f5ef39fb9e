"""``open_engine`` with plug-ins, as a program of a service uses it."""

import logging
from pathlib import Path
from types import ModuleType

import pytest

from escalation_adapters.sqlite import SQLiteStore
from escalation_adapters.worker.app import open_engine, settings_from
from escalation_adapters.worker.plugins import load_plugins
from escalation_core import InvalidValue, Settings, SettingsError
from escalation_core.ports import Store
from escalation_core.testing import RecordingNotifier


@pytest.fixture
def environ(module: ModuleType, tmp_path: Path) -> dict[str, str]:
    """An environment with the plug-in ``pager:make`` and an SQLite file."""
    module.make = lambda _: RecordingNotifier("sms:ops")  # type: ignore[attr-defined]
    return {
        "ESC_DATABASE_URL": f"sqlite:///{tmp_path / 'escalation.db'}",
        "ESC_TARGETS": '{"slack:ops": "https://hooks.example.org/x"}',
        "ESC_PLUGINS": "pager:make",
        "ESC_DEFAULT_TARGET": "sms:ops",
    }


def made(folder: Path) -> bool:
    """Return whether a database was made."""
    return (folder / "escalation.db").exists()


async def test_with_plugins(environ: dict[str, str]) -> None:
    """An engine sends by the plug-ins that its program has loaded; their targets may be named in the settings."""
    settings = settings_from(environ, own_targets=None)
    async with await open_engine(settings, plugins=load_plugins(settings, environ)) as engine:
        assert ["log", "slack:ops", "sms:ops"] == [target for one in engine.notifiers for target in one.targets]
        assert ("sms:ops",) == engine.settings.own_targets


async def test_name_that_no_plugin_serves(environ: dict[str, str], tmp_path: Path) -> None:
    """A target that neither the settings nor a plug-in has is refused before the store is opened."""
    settings = settings_from(environ | {"ESC_DEFAULT_TARGET": "sms:typo"}, own_targets=None)
    plugins = load_plugins(settings, environ)
    with pytest.raises(SettingsError, match="ESC_DEFAULT_TARGET: names the target 'sms:typo'"):
        await open_engine(settings, plugins=plugins)
    assert not made(tmp_path)


async def test_without_plugins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A program that loads no plug-in, while the settings name one, gets a warning that says how."""
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'escalation.db'}", plugins=["pager:make"])
    with caplog.at_level(logging.WARNING):
        await (await open_engine(settings)).aclose()
    [warning] = [record.message for record in caplog.records if "ESC_PLUGINS" in record.message]
    assert "give open_engine(plugins=load_plugins(...))" in warning


async def test_engine_that_refuses_closes_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection stays open if the engine refuses a notifier of the program."""
    closed: list[Store] = []
    close = SQLiteStore.aclose

    async def note_and_close(store: SQLiteStore) -> None:
        closed.append(store)
        await close(store)

    monkeypatch.setattr(SQLiteStore, "aclose", note_and_close)
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'escalation.db'}")
    with pytest.raises(InvalidValue, match="ops"):
        await open_engine(settings, notifiers=[RecordingNotifier("ops"), RecordingNotifier("ops")])
    assert 1 == len(closed)
