"""Entry points are found wherever a distribution is, and importlib.metadata is loaded only if there may be one."""

import subprocess
import sys
import zipfile
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path

import pytest

from escalation_adapters.worker.entry_points import EntryPoint, find_entry_points

from .conftest import Install

GROUP = "escalation.notifiers"
FIND = f"""
import sys
from escalation_adapters.worker.entry_points import find_entry_points
print(len(list(find_entry_points("{GROUP}"))), "importlib.metadata" in sys.modules)
"""


def found_in_a_process(place: Path) -> str:
    """Return how many entry points a process finds with ``place`` on its path, and whether it loads the module."""
    program = f"import sys; sys.path[:0] = [{str(place)!r}]{FIND}"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {program}"],
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def test_without_plugins_nothing_is_loaded(install: Install, path: Path) -> None:
    """Distributions without a group of the library cost no import of importlib.metadata."""
    install("other", {"console_scripts": {"other": "other:main"}})
    assert "0 False" == found_in_a_process(path)


def test_plugin_is_found(install: Install, path: Path) -> None:
    """A distribution with such a group is found."""
    install("pager-kit", {GROUP: {"sms": "kit:make"}})
    assert "1 True" == found_in_a_process(path)


def test_order_and_owner(install: Install) -> None:
    """Entry points come in the order of the groups, and sorted by name in each; the distribution has its name."""
    install("pager-kit", {GROUP: {"b": "kit:b", "a": "kit:a"}, "escalation.routers": {"z": "kit:z"}})
    install("other-kit", {GROUP: {"a": "kit:c"}})
    assert [
        EntryPoint("escalation.routers", "z", "kit:z", "pager-kit"),
        EntryPoint(GROUP, "a", "kit:a", "pager-kit"),
        EntryPoint(GROUP, "a", "kit:c", "other-kit"),
        EntryPoint(GROUP, "b", "kit:b", "pager-kit"),
    ] == list(find_entry_points("escalation.routers", GROUP))


def test_distribution_in_a_zip_file(tmp_path: Path) -> None:
    """A zip file on the path may have plug-ins, so importlib.metadata looks into it."""
    with zipfile.ZipFile(tmp_path / "kit.zip", "w") as file:
        file.writestr("pager_kit-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pager-kit\nVersion: 1.0\n")
        file.writestr("pager_kit-1.0.dist-info/entry_points.txt", f"[{GROUP}]\nsms = kit:make\n")
    assert "1 True" == found_in_a_process(tmp_path / "kit.zip")


def test_finder_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finder that knows distributions outside of folders is asked as well."""

    class Found(Distribution):
        def read_text(self, filename: str) -> str | None:
            return f"[{GROUP}]\nsms = kit:make\n" if filename == "entry_points.txt" else "Name: odd\nVersion: 1\n"

        def locate_file(self, path: object) -> Path:
            return Path(str(path))

    class Finder(DistributionFinder):
        def find_distributions(self, context: DistributionFinder.Context | None = None) -> list[Distribution]:
            return [Found()]

        def find_spec(self, *_: object) -> None:
            return None

    assert PathFinder in sys.meta_path
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert [EntryPoint(GROUP, "sms", "kit:make", "odd")] == list(find_entry_points(GROUP))


def test_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place of the path that does not exist, or an entry_points.txt that is a folder, is passed over."""
    (tmp_path / "odd-1.0.dist-info/entry_points.txt").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "gone")])
    assert [] == list(find_entry_points(GROUP))
