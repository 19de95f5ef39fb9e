"""The entry points of installed distributions. Where no distribution has any, ``importlib.metadata`` is not loaded."""

import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

_PREFIX = b"[escalation."
"""How the heading of a group of the library begins."""


class EntryPoint(NamedTuple):
    """An entry point of an installed distribution."""

    group: str
    name: str
    value: str
    """What it names, for example ``package.module:factory``."""
    owner: str
    """The distribution, empty if its name is not known."""


def find_entry_points(*groups: str) -> Iterator[EntryPoint]:
    """Yield the entry points of the groups, in the order of the groups, and sorted within each.

    To import ``importlib.metadata`` takes longer than most commands need for the rest, so it is imported only if a
    distribution may have such a group.
    """
    if not may_have_entry_points():
        return
    from importlib.metadata import entry_points  # noqa: PLC0415 - see above

    installed = entry_points()
    for group in groups:
        for found in sorted(installed.select(group=group), key=lambda found: (found.name, found.value)):
            owner = "" if found.dist is None else found.dist.name
            yield EntryPoint(group, found.name, found.value, owner)


def may_have_entry_points() -> bool:
    """Return whether a distribution may have a group of the library. One in a zip file always may."""
    return any(_may_have_groups(place) for place in sys.path) or _unusual_finders()


def _may_have_groups(place: str) -> bool:
    """Return whether a folder of the path of imports has a distribution with such a group, or may have one."""
    if Path(place).is_file():
        return True
    try:
        with os.scandir(place or ".") as found:
            folders = [Path(one.path) for one in found if one.name.endswith((".dist-info", ".egg-info"))]
    except (OSError, ValueError):  # importlib.metadata passes over such a place, too
        return False
    return any(_PREFIX in _content(folder / "entry_points.txt") for folder in folders)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _unusual_finders() -> bool:
    return any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path)
