"""The command line as people and machines use it: called in this process, or started as a program."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

import attrs
import pytest
from psycopg.conninfo import conninfo_to_dict

from escalation_adapters.program import main

PROGRAM = (sys.executable, "-W", "error", "-c", "from escalation_adapters.program import main; main()")
"""The command of the console script, with warnings as errors."""
OURS = ("ESC_", "ESCALATION_", "OPS_", "MAX_ESC_")
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
TO_THE_LOG = "ESC_TARGETS is not set: pages go to the log of this process alone, and count as delivered"
TIMEOUT = 60
"""Seconds after which a program fails because it hangs."""


@attrs.frozen
class Said:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr except the warning of pages to the log, since most tests have no targets."""
        return [line for line in self.err.splitlines() if TO_THE_LOG not in line]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, with only the given settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, **given}


class Console:
    """Calls the command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **env: str) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.env = env

    def __call__(self, *args: str | Path, **env: str) -> Said:
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["escalation", *map(str, args)])
            patch.setattr(os, "environ", environment(self.env | env))
            with pytest.raises(SystemExit) as end:
                main()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Said(int(end.value.code or 0), out, err)


def start(
    *args: str | Path, env: Mapping[str, str] = NO_SETTINGS, cwd: Path | None = None, code: str | None = None
) -> "subprocess.Popen[str]":
    """Start the command line as a program; Python runs ``code`` first."""
    program = PROGRAM if code is None else (*PROGRAM[:-1], f"{code}; {PROGRAM[-1]}")
    return subprocess.Popen(
        [*program, *map(str, args)],
        env=environment(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish(process: "subprocess.Popen[str]") -> Said:
    """Wait for a program's end, for at most TIMEOUT seconds."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the program hangs; it said {out!r} and {err!r}")
    return Said(process.returncode, out, err)


def program(
    *args: str | Path, env: Mapping[str, str] = NO_SETTINGS, cwd: Path | None = None, code: str | None = None
) -> Said:
    """Run the command line as a program."""
    return finish(start(*args, env=env, cwd=cwd, code=code))


def screen(
    *args: str | Path,
    env: Mapping[str, str] = NO_SETTINGS,
    columns: int = 80,
    term: str = "dumb",
    before: str | None = None,
) -> str:
    """Run the command line on a terminal, and return what that shows. Standard error goes to the terminal, too.

    Python runs ``before`` first. The program must succeed.
    """
    from ..terminal import run  # Windows has no pseudo-terminals of this kind

    program = PROGRAM if before is None else (*PROGRAM[:-1], f"{before}; {PROGRAM[-1]}")
    shown = run([*program, *map(str, args)], environment(env) | {"TERM": term}, width=columns)
    assert 0 == shown.code, shown
    return shown.text


def one_line(said: Said) -> str:
    """Return the one line of a refusal; it has exit code 1, nothing on stdout and no traceback."""
    assert 1 == said.code, said
    assert "" == said.out, said
    assert 1 == len(said.err.splitlines()), said
    assert said.err.startswith("escalation: ")
    return said.err.removeprefix("escalation: ").rstrip("\n")


def url_of(dsn: str) -> str:
    """Return a DSN as a URL, the form that the command line takes."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    user, database = quote(parts.pop("user", "")), quote(parts.pop("dbname", ""))
    return f"postgresql://{user + '@' if user else ''}/{database}?{urlencode(parts, quote_via=quote)}"


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()


def told(said: Said) -> str:
    """Return the output of a command, which must succeed without a complaint."""
    assert (0, []) == (said.code, said.complaints), said
    return said.out
