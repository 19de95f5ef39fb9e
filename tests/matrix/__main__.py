"""Run the tests of stores and databases on several versions: ``nox -s matrix -- --postgres 14 --python 3.13``.

Without a version, the tests run on this Python with each PostgreSQL, and on each other Python with the newest
PostgreSQL. With versions, they run on each pair of the named ones. Other arguments are pytest's.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from . import ROOT, NotFound, postgresql, pythons

STORES = ("tests/conformance", "tests/integration")
SEVERAL = ("-n", "auto", "--maxprocesses", "4")


def main(arguments: Sequence[str]) -> int:
    """Run the chosen pairs one after the other, print a summary, and return the exit code."""
    options, rest = parser().parse_known_args(arguments)
    named = bool(options.postgres or options.python)
    lines, good = [], True
    for postgres, python in pairs(options.postgres, options.python):
        label = f"PostgreSQL {postgresql.VERSIONS[postgres].partition('.0-')[0]} on Python {python}"
        try:
            binaries = postgresql.programs(postgres, options.cache)
            interpreter = pythons.environment(python, options.cache)
        except NotFound as missing:
            lines.append(f"not found: {missing}")
            good = good and not named
            continue
        print(f"\n{label}", flush=True)
        report = options.cache / f"{postgres}-{python}.xml"
        passed, figures = run(interpreter, binaries, report, [*(rest or SEVERAL), *folders(python, rest)])
        lines.append(f"{label}: {figures}")
        good = good and passed
    print("\n" + "\n".join(lines), flush=True)
    return 0 if good else 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of this program's arguments."""
    made = argparse.ArgumentParser(prog="nox -s matrix --", description=__doc__, allow_abbrev=False)
    made.add_argument("--postgres", action="append", choices=postgresql.VERSIONS, help="may be repeated")
    made.add_argument("--python", action="append", choices=pythons.VERSIONS, help="may be repeated")
    made.add_argument("--cache", type=Path, default=ROOT / ".nox" / ".cache", help="where to install versions")
    return made


def pairs(postgres: Sequence[str] | None, python: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the pairs of PostgreSQL and Python to run; ``None`` where no version was named."""
    if postgres or python:
        return [(one, other) for other in python or [pythons.CURRENT] for one in postgres or [postgresql.NEWEST]]
    others = [version for version in pythons.VERSIONS if version != pythons.CURRENT]
    here = [(version, pythons.CURRENT) for version in postgresql.VERSIONS]
    return here + [(postgresql.NEWEST, version) for version in others]


def folders(python: str, arguments: Sequence[str]) -> Sequence[str]:
    """Return the folders of tests to run on a Python; none if the arguments name tests."""
    if any((ROOT / argument.partition("::")[0]).exists() for argument in arguments):
        return ()
    # The unit tests depend on Python, not on PostgreSQL.
    return STORES if python == pythons.CURRENT else ("tests/unit", *STORES)


def run(python: Path, binaries: Path, report: Path, arguments: Sequence[str]) -> tuple[bool, str]:
    """Run pytest; return whether all is well, and the figures."""
    environment = os.environ | {
        "ESCALATION_TEST_POSTGRES": str(binaries),
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
    }
    environment.pop("ESCALATION_TEST_DSN", None)
    report.unlink(missing_ok=True)
    begin = time.monotonic()
    command = [str(python), "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    minutes = (time.monotonic() - begin) / 60
    if not report.exists():
        return False, f"pytest ended with code {code}"
    [suite] = ET.parse(report).getroot().iter("testsuite")  # noqa: S314 - pytest wrote it
    tests, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return code == 0, f"{tests - failed - skipped} passed, {failed} failed, {skipped} skipped, {minutes:.1f} minutes"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
