"""The source files that the tests of the architecture read."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


@attrs.frozen
class Module:
    """One file of the library."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """The dotted name; the name of a package is that of its folder."""
        parts = self.path.relative_to(SRC).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def imports(self) -> Iterator[str]:
        """Yield the top-level name of every package outside the module's own that the file imports."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0]


def modules(package: str = "") -> list[Module]:
    """Return the modules of a package, or of both packages by default."""
    return [Module(path, path.read_text(encoding="utf-8")) for path in sorted((SRC / package).rglob("*.py"))]


def repository() -> list[Path]:
    """Return every text file that git tracks or would track; without git, return every text file in the folder."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if not any(part in IGNORED for part in path.parts)]
    return sorted(path for path in paths if path.is_file() and b"\0" not in path.read_bytes())


IGNORED = {"__pycache__", ".venv", ".nox", ".git", "_build", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
