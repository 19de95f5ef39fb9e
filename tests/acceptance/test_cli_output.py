"""Output of the command line: no control sequences for a terminal, and the name of a missing extra."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from .console import PROGRAM, TIMEOUT, Console, ago, environment, one_line, program, screen, told

NASTY = "x\x1b]0;owned\x07\x9b31m\u202e\r\n\tx"
"""A text that would name a terminal's window, colour it and reverse its text."""


# --- output


def steering(text: str) -> list[str]:
    """Return the parts of the nasty text that would control a terminal."""
    return [char for char in ("\x1b]0;", "\x07", "\x9b", "\u202e") if char in text]


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_steers_a_terminal(on_sqlite: Console, as_json: bool) -> None:
    """For any text of a host, no command prints a character that controls a terminal or breaks a line."""
    key = "k\u202e\u2028k"
    said = [on_sqlite("open", key, "--severity", NASTY, "--summary", NASTY, "--label", f"{NASTY}={NASTY}",
                      "--by", NASTY, "--first-seen", ago(20), *["--json"] * as_json)]  # fmt: skip
    said.extend(
        on_sqlite(*command, *["--json"] * as_json, ESC_DEFAULT_TARGET="unknown")
        for command in (("tick",), ("show", key), ("audit",), ("dead", "list"), ("ack", key), ("health",))
    )
    said.append(on_sqlite("ack", "no\u202esuch\u2028key"))
    for one in said:
        assert [] == steering(one.out)
        assert [] == steering(one.err)
    if not as_json:
        assert {7} == {line.count("\t") for line in said[3].lines}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_nothing_steers_a_real_terminal(on_sqlite: Console) -> None:
    """On a terminal the command draws tables, and a host's text does not control the terminal."""
    on_sqlite("open", "k\u202ek", "--severity", NASTY, "--by", NASTY, "--summary", NASTY)
    text = screen("audit", env=on_sqlite.env, columns=200, term="xterm-256color")
    assert "Audit" in text
    assert "──" in text
    assert [] == steering(text)


def test_narrow_encoding(on_sqlite: Console) -> None:
    """If the output's encoding lacks characters, the command replaces them and goes on."""
    on_sqlite("open", "Straße/🔥", "--severity", "crítico", "--summary", "🔥")
    for arguments in (["show", "Straße/🔥"], ["audit"], ["audit", "--json"]):
        said = subprocess.run(
            [*PROGRAM, *arguments],
            env=environment(on_sqlite.env) | {"PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (0, b"") == (said.returncode, said.stderr)
        text = said.stdout.decode("cp1252")
        if arguments[-1] == "--json":
            assert "Straße/🔥" == json.loads(text)[0]["incident_key"]


def test_version_and_help(console: Console) -> None:
    """--version and --help work on every command, even with wrong settings."""
    assert told(console("--version")).startswith("escalation, version ")
    for command in (
        (),
        ("run",),
        ("tick",),
        ("migrate",),
        ("migrate", "up"),
        ("dead", "retry"),
        ("replay",),
        ("demo",),
    ):
        assert "Usage: escalation" in told(console(*command, "--help", ESC_TICK_MS="wrong"))


# --- extras that are not installed

ON_POSTGRES = {"ESC_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
MISSING: Mapping[str, tuple[tuple[str, ...], str, str, dict[str, str]]] = {
    "click": (("tick",), "cli", "cli", {}),
    "rich": (("tick",), "cli", "cli", {}),
    "psycopg": (("tick",), "postgres", "postgres", ON_POSTGRES),
    "psycopg_pool": (("migrate", "up"), "postgres", "postgres", ON_POSTGRES),
    "aiohttp": (("demo",), "demo", "http", {}),
}


@pytest.mark.parametrize("package", MISSING)
def test_missing_extra(package: str, tmp_path: Path) -> None:
    """A command whose extra is missing names the extra in one line."""
    command, part, extra, env = MISSING[package]
    line = f"escalation_adapters.{part} needs {package}: pip install 'escalation-core[{extra}]'"
    said = program(*command, cwd=tmp_path, code=f"import sys; sys.modules[{package!r}] = None", env=env)
    assert line == one_line(said)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_missing_extra_leaves_nothing_open(request: pytest.FixtureRequest, database: str) -> None:
    """If an extra is missing after the database was opened, the command ends at once and leaves no connection open."""
    console: Console = request.getfixturevalue(f"on_{database}")
    env = console.env | {"ESC_TARGETS": '{"slack:ops": "https://192.0.2.1/x"}'}
    said = program("tick", code="import sys; sys.modules['aiohttp'] = None", env=env)
    line = "escalation_adapters.channels.slack needs aiohttp: pip install 'escalation-core[http]'"
    assert line == one_line(said)


def test_memory_needs_no_extra(tmp_path: Path) -> None:
    """Without psycopg and aiohttp the command line works on SQLite, and pages go to the log."""
    code = "import sys; sys.modules['psycopg'] = sys.modules['aiohttp'] = None"
    env = {"ESC_DATABASE_URL": f"sqlite:///{tmp_path / 'escalation.db'}"}
    assert 0 == program("open", "k", "--first-seen", ago(20), code=code, env=env).code
    ticked = program("tick", "--json", code=code, env=env)
    assert (0, 1) == (ticked.code, ticked.json["delivery"]["delivered"])


FULL = "escalation: its output cannot be written: No space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only where there is a device that is always full")
@pytest.mark.parametrize(("streams", "code", "line"), [(">&-", 0, ""), (">&- 2>&-", 0, ""), (">/dev/full", 1, FULL)])
def test_output_that_goes_nowhere(on_sqlite: Console, streams: str, code: int, line: str) -> None:
    """A closed stream does not stop a command; a full disk is reported in one line."""
    assert 0 == on_sqlite("open", "k", "--severity", "critical", "--first-seen", ago(20)).code
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *PROGRAM, "tick"],
        env=environment(on_sqlite.env),
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    said = [text for text in done.stderr.splitlines() if not text.startswith("{")]
    assert (code, [line] if line else []) == (done.returncode, said)
    assert 1 == len(on_sqlite("show", "k", "--json").json["escalations"])
