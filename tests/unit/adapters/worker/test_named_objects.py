"""The working directory on the path of imports: its modules are found, and replace no other."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from escalation_adapters.worker.named_objects import add_working_directory, find_object

LATE = "colorsys"
"""A module of Python that is not imported yet, as some are that the library imports late."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, which is not on the path of imports. It is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    sys.modules.pop(LATE, None)
    yield tmp_path
    for name in (LATE, "shop_of_test", "parts_of_test"):
        sys.modules.pop(name, None)


def test_modules_may_import_one_another_later(folder: Path) -> None:
    """The folder stays on the path, so a function may import a second module of the folder when it is called."""
    (folder / "shop_of_test.py").write_text("def engine():\n    import parts_of_test\n    return parts_of_test.VALUE\n")
    (folder / "parts_of_test.py").write_text("VALUE = 5\n")
    add_working_directory()
    found = find_object("shop_of_test:engine")
    assert callable(found)
    assert 5 == found()


def test_module_of_the_folder_replaces_no_other(folder: Path) -> None:
    """A module of the folder with the name of another one is not imported in its place."""
    (folder / f"{LATE}.py").write_text("raise RuntimeError('the wrong module')\n")
    add_working_directory()
    assert folder != Path(str(import_module(LATE).__file__)).parent


def test_folder_is_added_once(folder: Path) -> None:
    """A second call adds nothing, and neither does one where Python has the folder on the path itself."""
    add_working_directory()
    add_working_directory()
    assert 1 == sys.path.count(str(folder))
    sys.path[:] = ["", *sys.path[:-1]]
    add_working_directory()
    assert str(folder) not in sys.path
