"""The library's source of two sides, each in a temporary folder: this tree, and a commit."""

import compileall
import contextlib
import io
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Sources:
    """Two copies of ``src``, compiled to bytecode."""

    commit: str
    """The hash of the other side's commit."""
    this: Path
    other: Path
    scratch: Path
    """A folder for the files of runs."""


@contextlib.contextmanager
def sources(root: Path, revision: str) -> Iterator[Sources]:
    """Copy this tree's ``src`` as its files are now, and take a commit's from git; remove both at the end.

    Both are copies, so that they differ in their text alone, and an edit of ``src`` during a run changes nothing.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
    if not commit:
        raise SystemExit(f"--against: git knows no commit {revision!r} in {root}; give a branch, a tag or a hash")
    archive = _git(root, "archive", "--format=zip", commit, "src")
    if not archive:
        raise SystemExit(f"--against: the commit {revision!r} has no folder src; give a later one")
    with tempfile.TemporaryDirectory(prefix="escalation-against-") as name:
        folder = Path(name)
        this, other, scratch = folder / "this", folder / "other", folder / "scratch"
        shutil.copytree(root / "src", this / "src", ignore=shutil.ignore_patterns("__pycache__"))
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            packed.extractall(other)
        scratch.mkdir()
        for side in (this, other):
            compileall.compile_dir(side, quiet=2)
        yield Sources(commit=commit, this=this / "src", other=other / "src", scratch=scratch)


def _git(root: Path, *arguments: str) -> bytes:
    """Return what git prints; nothing if git refuses the arguments."""
    git = shutil.which("git")
    if git is None:
        raise SystemExit("--against: the program git is missing; install it")
    return subprocess.run([git, "-C", str(root), *arguments], capture_output=True, check=False).stdout
