"""Shared by tests of plug-ins: modules and installed distributions that exist for one test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

Install = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path of imports; its modules are forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module ``pager`` without a file, which a test fills."""
    made = ModuleType("pager")
    monkeypatch.setitem(sys.modules, "pager", made)
    return made


@pytest.fixture
def install(path: Path) -> Install:
    """Install a distribution: ``install("pager-kit", {"escalation.notifiers": {"sms": "module:make"}})``."""

    def install(name: str, groups: dict[str, dict[str, str]]) -> None:
        info = path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in found.items()) for group, found in groups.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))

    return install
