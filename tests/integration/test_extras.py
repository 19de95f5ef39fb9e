"""Each part of the library imports without the extras, or says which extra to install."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import escalation_adapters
import escalation_core.testing
from escalation_adapters.extras import EXTRAS, MissingExtra, needs

ROOT = Path(__file__).parents[2]
BROUGHT: Mapping[str, Sequence[str]] = {"ical": ("click",)}
"""Packages of other extras that come along with an extra, because a package of it requires them."""
IMPORTS = """
import importlib, json, sys
hidden, names, django = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(hidden))
if django:
    from django.conf import settings
    apps = ["contenttypes", "auth", "messages", "admin"]
    apps = [f"django.contrib.{app}" for app in apps] + ["escalation_adapters.django"]
    settings.configure(INSTALLED_APPS=apps, ESCALATION={})
    import django
    django.setup()
found = {}
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        parts = [type(error).__name__, getattr(error, "name", None), getattr(error, "extra", None), str(error)]
        found[name] = [isinstance(error, ModuleNotFoundError), *parts]
print(json.dumps(found))
"""


def declared() -> Mapping[str, Sequence[str]]:
    """Return the packages of each extra in pyproject.toml, by the names with which they are imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        extra: [_imported(re.split(r"[^\w-]", requirement)[0]) for requirement in requirements]
        for extra, requirements in project["optional-dependencies"].items()
        if extra != "all"
    }


def _imported(package: str) -> str:
    """Return the name with which a package is imported."""
    return "yaml" if package == "PyYAML" else package.replace("-", "_")


def every_module() -> Sequence[str]:
    """Return each module of the adapters and of the test kit, from the files."""
    found = []
    for package in (escalation_adapters, escalation_core.testing):
        [folder] = package.__path__
        for path in Path(folder).rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found.append(".".join([package.__name__, *(part for part in parts if part != "__init__")]))
    return sorted(found)


@cache
def failures(*extras: str) -> Mapping[str, Sequence[Any]]:
    """Import each module in a process that has the packages of these extras alone; return how each failed one fails."""
    shown = {package for extra in extras for package in (*declared()[extra], *BROUGHT.get(extra, ()))}
    hidden = sorted({package for packages in declared().values() for package in packages} - shown)
    given = json.dumps([hidden, every_module(), "django" in extras])
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, given], capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert 0 == done.returncode, done.stderr
    found: Mapping[str, Sequence[Any]] = json.loads(done.stdout)
    return found


def test_each_module_names_its_extra() -> None:
    """With the core alone, each module imports, or names the part, the missing package and the command."""
    failed = failures()
    assert {"escalation_adapters.postgres.store", "escalation_adapters.channels.slack"} <= set(failed)
    assert not any(name.startswith("escalation_core") for name in failed)
    for name, (missing, kind, package, extra, text) in failed.items():
        assert (True, "MissingExtra") == (missing, kind), f"{name}: {text}"
        assert package in declared()[extra]
        part, _, rest = text.partition(" needs ")
        # A module is named by its own part, or by a part that it imports, which needs the same extra.
        assert f"{name}.".startswith(f"{part}.") or (part, extra) == (
            failed[part][4].partition(" ")[0],
            failed[part][3],
        )
        assert re.fullmatch(rf"{package}( and \w+)*: pip install 'escalation-core\[{extra}\]'", rest), text


def test_installing_what_the_messages_name_is_enough() -> None:
    """Each module imports once the extras are installed that its message, and the message after that, name."""
    for name in failures():
        extras: list[str] = []
        while name in (failed := failures(*sorted(extras))):
            _, _, _, extra, text = failed[name]
            assert extra is not None, f"{name} with {extras}: {text}"
            assert extra not in extras, text
            extras.append(extra)


def test_table_is_that_of_pyproject() -> None:
    """Each package of the table is one that pyproject.toml installs with that extra."""
    for extra, packages in EXTRAS.items():
        assert set(packages) <= set(declared()[extra])


def test_broken_package_keeps_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that cannot be imported raises its own error, also one of a module that it misses itself."""
    (tmp_path / "limits.py").write_text("import a_package_that_is_not_there", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "limits", raising=False)
    with pytest.raises(ModuleNotFoundError) as raised, needs("part", "redis"):
        import limits  # noqa: F401
    assert not isinstance(raised.value, MissingExtra)
    assert "a_package_that_is_not_there" == raised.value.name
