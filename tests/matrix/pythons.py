"""The interpreters of other Python versions, and virtual environments for them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import ROOT, NotFound

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"


def environment(version: str, cache: Path) -> Path:
    """Return the interpreter of a virtual environment that has the library and what its tests need.

    Raises:
        NotFound: this machine has no interpreter of the version, and uv cannot download one.
    """
    if version == CURRENT:
        return Path(sys.executable)
    if shutil.which("uv") is None:
        raise NotFound(f"python{version} (uv is missing; use `nox -s matrix`, which brings it)")
    folder = cache / f"python-{version}"
    # Without an interpreter on this machine uv tries to download one, if its settings allow that.
    found = _installed(version)
    source = [str(found)] if found else [version, "--managed-python"]
    make = ["uv", "venv", "-q", "--clear", str(folder), "--python", *source]
    made = subprocess.run(make, capture_output=True, text=True, check=False)
    if made.returncode and found:
        raise RuntimeError(f"{found} cannot make a virtual environment: {made.stderr}")
    if made.returncode:
        raise NotFound(f"python{version} (uv could not download it either)")
    python = folder / "bin" / "python"
    install = ["uv", "pip", "install", "-q", "--python", str(python), "--reinstall-package", "escalation-core"]
    subprocess.run([*install, ".[all]", "--group", "test"], cwd=ROOT, check=True)
    return python


def _installed(version: str) -> Path | None:
    """Return an interpreter on the PATH or one of pyenv's; pyenv's on the PATH run only if they are active."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    candidates = [Path(on_path)] if on_path else []
    candidates += sorted((pyenv / "versions").glob(f"{version}.*/bin/python{version}"))
    return next((candidate for candidate in candidates if _runs(candidate)), None)


def _runs(python: Path) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
