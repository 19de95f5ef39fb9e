"""The lists of the reference equal those of the code."""

import ast
import inspect
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import click
import psycopg
import pytest

import escalation_adapters
import escalation_adapters.calendars.ical
import escalation_adapters.django
import escalation_adapters.embedded
import escalation_adapters.ops.client
import escalation_adapters.postgres
import escalation_adapters.replay
import escalation_adapters.worker.plugins
import escalation_core
from escalation_adapters.channels.http import MAX_ANSWER_BYTES, MAX_REPLY_BYTES
from escalation_adapters.cli.root import cli
from escalation_core import EscalationError, Integrity, NoticeKind, RetryPolicy, Settings, State, TickReport
from escalation_core.engine import gauges, telemetry
from escalation_core.model import SETTLED, NoticeState
from escalation_core.rules.gate import Mode
from escalation_core.rules.notices import UNSETTLED_NOTICE
from escalation_core.rules.plan import Reason
from escalation_core.rules.transitions import ALLOWED, Verb
from escalation_core.settings import SECRETS
from escalation_core.testing import MemoryStore, RecordingNotifier, invariants

from . import signatures
from .pages import DOCS, blocks, code, table

REFERENCE = DOCS / "reference"


def text(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def test_settings_are_all_there_with_their_defaults() -> None:
    """The table of settings names every variable, in the code's order, with its default."""
    rows = table(REFERENCE / "settings.md", first="variable")
    listed = {code(row[0])[0]: next(iter(code(row[1])), None) for row in rows}

    in_force = Settings().as_variables()

    assert list(in_force) == list(listed)
    assert in_force == listed


def test_limits_of_settings_are_the_codes() -> None:
    """Both ends of each number range in the table are valid, and the next number beyond each end is refused."""
    checked = 0
    for row in table(REFERENCE / "settings.md", first="variable"):
        limits = re.fullmatch(r"(\d+) to (\d+)", row[2])
        if limits is None:
            continue
        name, least, most = code(row[0])[0], int(limits[1]), int(limits[2])
        beside = {"ESC_PAUSE_CRON": "0 0 1 1 *"} if name == "ESC_PAUSE_MIN" else {}
        for value in (least, most):
            Settings.from_env({name: str(value), **beside})
        for value in (least - 1, most + 1):
            with pytest.raises(escalation_core.SettingsError):
                Settings.from_env({name: str(value), **beside})
        checked += 1
    assert 9 == checked


def test_secrets_are_named() -> None:
    """The page names exactly the code's secrets as variables that may come from files."""
    section = text("settings").partition("## Secrets from files")[2].partition("##")[0]

    assert set(SECRETS) == {name for name in code(section) if name in Settings().as_variables()}


def test_retry_policy_is_listed() -> None:
    """The table of the retry policy has every field with its default."""
    policy = RetryPolicy()
    listed = {code(row[0])[0]: row[1] for row in table(REFERENCE / "settings.md", first="field")}

    assert {name: shown(getattr(policy, name)) for name in listed} == listed
    assert {field.name for field in policy.__attrs_attrs__} == set(listed)


def shown(value: object) -> str:
    seconds = value.total_seconds() if hasattr(value, "total_seconds") else None
    if seconds is None:
        return str(value)
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def telemetry_source() -> str:
    return "".join(inspect.getsource(module) for module in (telemetry, gauges))


def created_instruments() -> dict[str, tuple[str, str]]:
    """Return each instrument that telemetry creates: its name, its kind and its unit."""
    found = {name: ("gauge", unit) for name, unit, _, _ in gauges.TARGET_GAUGES}
    for node in ast.walk(ast.parse(telemetry_source())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if not node.func.attr.startswith("create_"):
            continue
        unit = next(word.value for word in node.keywords if word.arg == "unit")
        name = node.args[0]
        if isinstance(name, ast.Name):  # the gauges of targets, in a loop
            continue
        assert isinstance(name, ast.Constant)
        assert isinstance(unit, ast.Constant)
        kind = node.func.attr.removeprefix("create_").removeprefix("observable_")
        found[str(name.value)] = (kind, str(unit.value))
    return found


def test_instruments_are_all_there() -> None:
    """The table of instruments has each instrument of the code, with its kind and unit."""
    listed = {
        code(row[0])[0]: (row[1], code(row[2])[0]) for row in table(REFERENCE / "telemetry.md", first="instrument")
    }

    assert created_instruments() == listed


def test_attributes_are_all_there() -> None:
    """The table of attributes has each attribute of the code, with its values."""
    listed = {code(row[0])[0]: set(code(row[1])) for row in table(REFERENCE / "telemetry.md", first="attribute")}
    used = set(re.findall(r'"(escalation\.[a-z_]+)":', telemetry_source())) - {"escalation.level"}

    assert used == set(listed)
    assert set(Mode) == listed["escalation.mode"]
    assert set(Reason) == listed["escalation.reason"]
    assert {*SETTLED, *NoticeState} - set(UNSETTLED_NOTICE) == listed["escalation.state"]
    assert {*NoticeKind, "several"} == listed["escalation.notice"]


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_commands_are_all_there() -> None:
    """The pages of the command line name each command once, and no other command."""
    listed = [code(row[0])[0] for row in table(REFERENCE / "cli.md", first="command")]

    assert sorted(name for name, _ in commands(cli, "escalation")) == sorted(listed)


def test_options_are_all_there() -> None:
    """Each option that the page lists for a command is an option of this command."""
    known = dict(commands(cli, "escalation"))
    for row in table(REFERENCE / "cli.md", first="command"):
        options = {option for param in known[code(row[0])[0]].params for option in param.opts}
        for shown_option in re.findall(r"--[a-z-]+", row[1]):
            assert shown_option in options, (row[0], shown_option)


async def test_health_fields_are_all_there() -> None:
    """The tables of health and of a target have each field of the JSON, in the same order."""
    async with escalation_core.Engine(MemoryStore(), notifiers=[RecordingNotifier("ops")]) as engine:
        found = await engine.health()
    health, _, target = text("json").partition("## A tick")[0].partition("### A target")

    assert list(found.as_dict()) == re.findall(r"^\| `(\w+)` \|", health, re.MULTILINE)
    assert list(found.targets["ops"].as_dict(found.at)) == re.findall(r"^\| `(\w+)` \|", target, re.MULTILINE)


def test_tick_fields_are_all_there() -> None:
    """The table of a tick has each field of its JSON, in the same order."""
    tick = text("json").partition("## A tick")[2].partition("## ")[0]

    assert list(TickReport().as_dict()) == re.findall(r"^\| `(\w+)` \|", tick, re.MULTILINE)


def test_proof_fields_are_all_there() -> None:
    """The table of a proof has each field of a proof, in the same order."""
    proof = text("json").partition("## A proof")[2]

    assert ["holds", *attrs.fields_dict(Integrity)] == re.findall(r"^\| `(\w+)` \|", proof, re.MULTILINE)


def test_errors_are_all_there() -> None:
    """The table and the tree of errors have every error class of the library."""
    listed = {code(row[0])[0] for row in table(REFERENCE / "errors.md", first="error")}
    tree = set(re.findall(r"[├└]── (\w+)", text("errors")))

    known = {error.__name__ for error in descendants(EscalationError)}

    assert known == listed
    assert known == tree


def descendants(error: type[Exception]) -> Iterator[type[Exception]]:
    for child in error.__subclasses__():
        if child.__module__.startswith(("escalation_core", "escalation_adapters")):
            yield child
            yield from descendants(child)


def test_public_names_are_all_there() -> None:
    """The API page has every name of escalation_core, of its testing kit, and of the invariants."""
    documented = set(re.findall(r":: (escalation_[\w.]+)", text("api")))
    public = {f"escalation_core.{name}" for name in escalation_core.__all__} - {"escalation_core.__version__"}
    kit = {"ManualClock", "MemoryStore", "RecordingNotifier", "HostTable"}

    assert public <= documented
    assert {f"escalation_core.testing.{name}" for name in kit} <= documented
    assert {f"escalation_core.testing.invariants.{name}" for name in invariants.__all__} <= documented
    assert set() == {name for name in public if not hasattr(escalation_core, name.rpartition(".")[2])}


def test_transitions_are_the_codes() -> None:
    """The table of transitions refuses a verb in exactly the states in which the code refuses it."""
    columns = (State.OPEN, State.ACKNOWLEDGED, State.RESOLVED, State.UNKNOWN)
    listed = {
        Verb(code(row[0])[0]): {state for state, cell in zip(columns, row[1:], strict=True) if cell != "refused"}
        for row in table(REFERENCE / "rules.md", first="verb")
    }

    assert {verb: set(states) for verb, states in ALLOWED.items()} == listed


def test_limits_of_replies_are_the_codes() -> None:
    """SECURITY.md names how much each channel reads of a reply."""
    said = " ".join((DOCS.parent / "SECURITY.md").read_text(encoding="utf-8").split())
    slack, pagerduty = MAX_REPLY_BYTES // 1024, MAX_ANSWER_BYTES // 1024
    assert f"reads at most {slack} KiB of a reply from Slack and {pagerduty} KiB of one from PagerDuty" in said


def documented_columns() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for section in re.split(r"^## ", text("tables"), flags=re.MULTILINE)[1:]:
        found[section.partition("\n")[0].strip()] = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    return found


def test_columns_are_all_there(migrated_dsn: str) -> None:
    """The page of tables has each table of a migrated schema with each of its columns, and no other."""
    with psycopg.connect(migrated_dsn) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ).fetchall()
    actual: dict[str, set[str]] = {}
    for name, column in rows:
        actual.setdefault(name, set()).add(column)

    assert actual == {name: set(columns) for name, columns in documented_columns().items()}


def test_removal_drops_each_table() -> None:
    """The page that removes the library drops each table that the migrations make, and no other."""
    folder = Path(escalation_adapters.__file__).parent / "postgres/migrations"
    made = r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?\{schema\}\.(\w+)"
    tables = [name for file in folder.glob("*.sql") for name in re.findall(made, file.read_text(encoding="utf-8"))]
    [drop] = [block for block in blocks(DOCS / "how-to/migrate-and-attach.md", "sql") if "DROP TABLE" in block.text]
    assert sorted(tables) == sorted(re.findall(r"escalation_\w+", drop.text))


def test_sqlite_has_the_same_columns() -> None:
    """SQLite's tables have the columns of the page, except those that the page gives to PostgreSQL alone."""
    alone = {("escalation_unreadable", "passed_version"), ("escalation_policies", "id")}
    documented = documented_columns()
    with closing(sqlite3.connect(":memory:")) as connection:
        for file in sorted((Path(escalation_adapters.__file__).parent / "sqlite/schema").glob("*.sql")):
            connection.executescript(file.read_text(encoding="utf-8"))
        rows = connection.execute(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        ).fetchall()
    actual: dict[str, set[str]] = {}
    for name, column in rows:
        if column != "canary_bucket":  # a generated column of SQLite alone
            actual.setdefault(name, set()).add(column)
    expected = {name: {column for column in documented[name] if (name, column) not in alone} for name in actual}
    assert expected == actual


def test_the_architecture_names_every_module() -> None:
    """The page of the architecture names every module of the core and every package of the adapters."""
    page = (DOCS / "explanation/architecture.md").read_text(encoding="utf-8")
    core, adapters = page.partition("## Packages of the core")[2].split("## Packages of the adapters")
    for package, section, into in ((escalation_core, core, ("rules", "engine")), (escalation_adapters, adapters, ())):
        root = Path(package.__path__[0])
        listed = {
            name
            for cell in re.findall(r"^\| (`.*?) \|", section.partition("## ")[0], re.MULTILINE)
            for name in code(cell)
        }
        assert modules_in(root) == listed
        for folder in into:
            [paragraph] = re.findall(rf"^`{folder}`: (.*?)\n\n", section, re.MULTILINE | re.DOTALL)
            assert modules_in(root / folder) <= set(code(paragraph)), folder


def modules_in(folder: Path) -> set[str]:
    """Return the names of the modules and packages in a folder."""
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    return found - {"__init__"}


def test_decisions_are_all_listed() -> None:
    """The index lists each decision, and the decisions are numbered without a gap."""
    files = sorted(path.stem for path in (DOCS / "decisions").glob("0*.md"))
    listed = re.findall(r"^(\d{4}-[\w-]+)$", (DOCS / "decisions/index.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert files == listed
    assert [f"{number:04}" for number in range(1, len(files) + 1)] == [name[:4] for name in files]


def test_signatures_are_the_codes() -> None:
    """The API page ends with the signature of every name; ``python -m tests.docs.signatures`` writes them anew."""
    assert signatures.expected() == signatures.found()
