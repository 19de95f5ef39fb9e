"""The session ``matrix``: the pairs that it runs, and its report of versions that are not found."""

import platform
import sys
from pathlib import Path

import pytest

from ..matrix import NotFound, __main__, postgresql, pythons

CURRENT = pythons.CURRENT
OTHERS = [version for version in pythons.VERSIONS if version != CURRENT]
MISSING = OTHERS[-1]
GOOD = "7 passed, 0 failed, 0 skipped, 0.1 minutes"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each run of pytest; no run starts. One Python is missing."""
    runs: list[list[str]] = []

    def environment(version: str, cache: Path) -> Path:
        if version == MISSING:
            raise NotFound(f"python{version}")
        return cache / version

    def run(python: Path, binaries: Path, report: Path, arguments: list[str]) -> tuple[bool, str]:
        runs.append([f"{binaries.name} {python.name}", *arguments])
        return True, GOOD

    monkeypatch.setattr(pythons, "environment", environment)
    monkeypatch.setattr(postgresql, "programs", lambda postgres, cache: cache / postgres)
    monkeypatch.setattr(__main__, "run", run)
    return runs


def test_every_version_runs(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Each PostgreSQL runs on this Python, and the newest on the others; a missing Python is reported, not an error."""
    assert 0 == __main__.main([])
    here = [f"{postgres} {CURRENT}" for postgres in postgresql.VERSIONS]
    assert [*here, *(f"18 {python}" for python in OTHERS if python != MISSING)] == [pair for pair, *_ in ran]
    lines = capsys.readouterr().out.splitlines()
    assert f"PostgreSQL 14.23 on Python {CURRENT}: {GOOD}" in lines
    assert f"not found: python{MISSING}" == lines[-1]


def test_a_missing_version_that_is_named_is_an_error(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """A version named on the command line must run, else the session fails."""
    assert 1 == __main__.main(["--postgres", "14", "--python", CURRENT, "--python", MISSING])
    assert [f"14 {CURRENT}"] == [pair for pair, *_ in ran]
    assert f"not found: python{MISSING}" in capsys.readouterr().out


def test_a_run_that_fails_is_an_error(ran: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The session fails if one of its pairs fails."""
    monkeypatch.setattr(__main__, "run", lambda python, binaries, *_: (binaries.name != "14", ""))
    assert 0 == __main__.main(["--postgres", "15"])
    assert 1 == __main__.main(["--postgres", "14", "--postgres", "15"])


def test_the_rest_is_for_pytest(ran: list[list[str]]) -> None:
    """Other arguments go to pytest, and named tests replace the default folders."""
    assert 0 == __main__.main(["--postgres", "16", "-n", "2", "-k", "claim"])
    assert 0 == __main__.main(["--postgres", "16", "-x", "tests/unit/test_matrix.py::test_the_rest_is_for_pytest"])
    pair = f"16 {CURRENT}"
    assert [pair, "-n", "2", "-k", "claim", "tests/conformance", "tests/integration"] == ran[0]
    assert [pair, "-x", "tests/unit/test_matrix.py::test_the_rest_is_for_pytest"] == ran[1]


def test_a_folder_without_programs_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without npm the error names the remedy, even if an incomplete installation exists."""
    monkeypatch.setattr(postgresql, "PLATFORMS", {(sys.platform, platform.machine()): "linux-x64"})
    (tmp_path / "postgres-15.18.0-beta.17" / "node_modules").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="nox -s matrix"):
        postgresql.programs("15", tmp_path)
    assert not (tmp_path / "postgres-15.18.0-beta.17" / "node_modules").exists()


@pytest.mark.parametrize(("name", "version"), [("linux-x64", "14"), ("darwin-arm64", "15")])
def test_the_oldest_of_a_platform(name: str, version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The oldest version is the first one that there is for the platform."""
    monkeypatch.setattr(postgresql, "PLATFORMS", {(sys.platform, platform.machine()): name})
    monkeypatch.setattr(postgresql, "programs", lambda postgres, cache: cache / postgres)
    assert tmp_path / version == postgresql.oldest(tmp_path)
