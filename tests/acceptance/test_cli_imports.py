"""Each command loads what it needs, so that it starts quickly: the imports of a real process are compared to a list."""

from importlib import import_module
from pathlib import Path

import pytest

from escalation_adapters.cli.root import COMMANDS

from .console import Console, ago, program

TELL = "import atexit, sys; atexit.register(lambda: print('\\n' + ' '.join(sys.modules), file=sys.stderr))"
"""Prints the names of all loaded modules at the end of the process."""
HTTP = {"aiohttp", "yarl", "urllib.request"}
FRAMEWORKS = {"alembic", "sqlalchemy", "django", "hypothesis", "numpy", "limits", "redis", "opentelemetry.sdk"}
OTHERS = {
    *("rich", "xml.sax", "email.message", "uvloop", "anyio"),
    *("escalation_core.testing", "escalation_adapters.ops", "escalation_adapters.demo", "escalation_adapters.replay"),
    *("escalation_adapters.worker.engine_in_code", "importlib.metadata"),
    *("escalation_adapters.worker.runner", "escalation_adapters.channels.slack", "escalation_adapters.cli.migrate"),
}
NEVER = HTTP | FRAMEWORKS | OTHERS | {"psycopg", "psycopg_pool"}
ENV = {
    "ESC_TARGETS": '{"slack:ops": "https://192.0.2.1/x"}',
    "ESC_HEARTBEAT_URL": "https://192.0.2.1/x",
}


def loaded(*args: str | Path, env: dict[str, str]) -> set[str]:
    """Return the modules that a command has loaded at its end; the command must succeed."""
    said = program(*args, env=env, code=TELL)
    assert 0 == said.code, said
    return set(said.err.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [("show", "k"), ("show", "k", "--json"), ("audit",), ("dead", "list"), ("ack", "k"), ("prove",)],
    ids=" ".join,
)
def test_command_on_sqlite_loads_no_more_than_it_needs(words: tuple[str, ...], on_sqlite: Console) -> None:
    """A command that reads or acknowledges loads no HTTP client, no PostgreSQL, and nothing that draws tables."""
    assert 0 == on_sqlite("open", "k").code
    assert set() == loaded(*words, env=on_sqlite.env | ENV) & NEVER


@pytest.mark.parametrize("words", [("audit",), ("dead", "list"), ("ack", "k"), ("prove",)], ids=" ".join)
def test_command_that_pages_no_one_loads_no_plugin(words: tuple[str, ...], on_sqlite: Console) -> None:
    """A command that does not say whom an escalation pages searches for no plug-in."""
    assert 0 == on_sqlite("open", "k").code
    assert "escalation_adapters.worker.plugins" not in loaded(*words, env=on_sqlite.env | ENV)


@pytest.mark.parametrize("words", [("--help",), ("--version",)], ids=" ".join)
def test_help_loads_no_command(words: tuple[str, ...], console: Console) -> None:
    """--help lists the commands, and loads the module of none."""
    modules = {f"escalation_adapters.cli.{module}" for module, _ in COMMANDS.values()}
    assert set() == loaded(*words, env=console.env | ENV) & (
        NEVER | modules | {"sqlite3", "escalation_adapters.sqlite"}
    )


def test_search_finds_the_client(on_sqlite: Console) -> None:
    """A tick with targets loads the HTTP client, so the search for modules finds what a command loads."""
    assert "aiohttp" in loaded("tick", env=on_sqlite.env | ENV)


def test_commands_without_a_client_know_the_targets(on_sqlite: Console) -> None:
    """Health loads no HTTP client, and still knows which targets the settings serve."""
    assert 0 == on_sqlite("open", "k", "--severity", "critical", "--first-seen", ago(20)).code
    recorded = on_sqlite("tick", "--record-only", "--json", ESC_TARGETS=ENV["ESC_TARGETS"])
    assert (1, 0) == (recorded.json["pages"], recorded.json["dead_pages"])
    assert [] == on_sqlite("health", "--json", ESC_TARGETS=ENV["ESC_TARGETS"]).json["unserved"]
    assert ["slack:ops"] == on_sqlite("health", "--json").json["unserved"]


def test_each_command_is_found_in_its_module() -> None:
    """The list has each command of its modules once, and its line is one sentence for a terminal."""
    modules = {module for module, _ in COMMANDS.values()}
    found = {
        (module, command.name)
        for module in modules
        for command in import_module(f"escalation_adapters.cli.{module}").COMMANDS
    }
    assert found == {(module, name) for name, (module, _) in COMMANDS.items()}
    assert set() == {line for _, line in COMMANDS.values() if len(line) > 80 or not line.endswith(".")}
