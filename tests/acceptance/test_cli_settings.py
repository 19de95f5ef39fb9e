"""The command line's errors about settings and databases, and its migrations."""

import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from escalation_core import Settings

from .console import TO_THE_LOG, Console, ago, one_line, told, url_of

SECRET = "hunter2hunter2hunter2hunter2hunter2"


# --- settings


def test_config_check(console: Console) -> None:
    """``config check`` shows every variable as it is in force, and no secret."""
    assert dict(Settings().as_variables()) == console("config", "check", "--json").json["settings"]
    secrets = {
        "ESC_DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
        "ESC_TARGETS": json.dumps(
            {"slack:ops": f"https://hooks.example.org/{SECRET}", "pagerduty:ops": f"pagerduty://{SECRET[:32]}"}
        ),
        "OPS_HMAC_SECRET": SECRET,
        "OPS_HMAC_SECRET_PREVIOUS": f"{SECRET}-old",
    }
    said = console("config", "check", "--json", ESC_SNOOZE_MIN="7", ESC_ACK_MIN='{"high": 2}', **secrets)
    assert (0, "") == (said.code, said.err)
    shown = said.json["settings"]
    assert {"ESC_SNOOZE_MIN": "7", "ESC_ACK_MIN": '{"high": 2}'} == {
        name: shown[name] for name in ("ESC_SNOOZE_MIN", "ESC_ACK_MIN")
    }
    assert dict.fromkeys(secrets, "set") == {name: shown[name] for name in secrets}
    for text in (said.out, console("config", "check", **secrets).out):
        assert SECRET[:32] not in text


@pytest.mark.parametrize("host", ["xn--a", "[1.2.3.4]", "h\u2100"])
@pytest.mark.parametrize("name", ["ESC_TARGETS", "ESC_HEARTBEAT_URL"])
def test_config_check_of_a_host_that_cannot_be_called(host: str, name: str, console: Console) -> None:
    """``config check`` refuses a URL that would stop a worker's start, and does not show it."""
    url = f"https://{host}/{SECRET}"
    said = console("config", "check", **{name: json.dumps({"slack:ops": url}) if name == "ESC_TARGETS" else url})
    assert "https URL with a host" in one_line(said)
    assert SECRET not in said.err


@pytest.mark.parametrize("rest", ["x", "@", "@xn--a", "@[1.2.3.4]", "@h\u2100", "@h/path"])
def test_config_check_of_a_pagerduty_target(rest: str, console: Console) -> None:
    """``config check`` refuses a routing key or a host with one message, and does not show it."""
    url = f"pagerduty://{SECRET[:32]}{rest}"
    said = console("config", "check", ESC_TARGETS=json.dumps({"pagerduty:ops": url}))
    assert (1, "", 1) == (said.code, said.out, said.err.count("the URL of 'pagerduty:ops' "))
    assert "pagerduty://" in said.err
    assert SECRET[:8] not in said.err


def test_url_that_cannot_be_called_stops_only_what_pages(on_sqlite: Console) -> None:
    """With such a URL a tick is refused, and an operator can still open, acknowledge and read."""
    targets = json.dumps({"slack:ops": f"https://xn--a/{SECRET}"})
    for words in (("open", "k"), ("ack", "k"), ("show", "k"), ("audit",)):
        assert 0 == on_sqlite(*words, ESC_TARGETS=targets).code, words
    assert "https URL with a host" in one_line(on_sqlite("tick", ESC_TARGETS=targets))


def test_config_check_prints_the_rhythm(console: Console) -> None:
    """``config check`` prints when each severity escalates, and which setting decides."""
    said = console("config", "check", MAX_ESC_LEVEL="3", ESC_ACK_MIN='{"low": 45}')
    _, _, rhythm = said.out.partition("without an ack\tlevel 1 after\tthen every\tbecause of\tlevel 3, the last\n")
    assert [
        "critical\t0:05:00\t0:30:00\tESC_SNOOZE_MIN\t1:05:00",
        "warning\t0:15:00\t0:30:00\tESC_SNOOZE_MIN\t1:15:00",
        "low\t0:45:00\t0:45:00\tits window\t2:15:00",
        "any other\t0:15:00\t0:30:00\tESC_SNOOZE_MIN\t1:15:00",
    ] == rhythm.splitlines()
    assert {"critical", "warning", "any other"} == set(console("config", "check", "--json").json["rhythm"])


def test_config_warnings(console: Console) -> None:
    """A valid but probably unintended setting gives one warning, and exit code 0."""
    said = console("config", "check", ESC_TICKS_MS="5", ESC_CANARY_PCT="0")
    assert (
        0,
        [
            "warning: ESC_TICKS_MS is not a setting and was ignored; the nearest is ESC_TICK_MS",
            "warning: ESC_CANARY_PCT is 0: no incident escalates; write 100 for all of them",
            f"warning: {TO_THE_LOG}",
        ],
    ) == (said.code, said.err.splitlines())
    assert 3 == len(console("config", "check", "--json", ESC_TICKS_MS="5", ESC_CANARY_PCT="0").json["warnings"])


@pytest.mark.parametrize("command", [("config", "check"), ("tick",), ("health", "--json"), ("run",), ("recalc",)])
def test_wrong_settings(on_sqlite: Console, command: tuple[str, ...]) -> None:
    """A command lists all wrong settings with fault and remedy, without a secret, and exits with code 1."""
    wrong = {
        "ESC_DRY_RUN": "yes",
        "ESC_CANARY_PCT": "10%",
        "ESC_TICK_MS": "1",
        "MAX_ESC_LEVEL": "101",
        "ESC_PAUSE_CRON": "0 22 * *",
        "ESC_TZ": "Mars/Base",
        "ESC_TARGETS": json.dumps({"slack:ops": f"http://{SECRET}"}),
        "OPS_HMAC_SECRET": "hunter2",
        "OPS_HMAC_SECRET_PREVIOUS": "change_me",
        "OPS_ADMIN_ROLE": " ",
    }
    said = on_sqlite(*command, **wrong)
    assert (1, "") == (said.code, said.out)
    first, *lines = said.err.splitlines()
    assert f"escalation: {len(wrong)} settings are wrong:" == first
    assert set(wrong) == {line.strip().partition(":")[0] for line in lines}
    assert all("; " in line for line in lines)
    assert "hunter2" not in said.err


def test_secret_from_a_file(console: Console, tmp_path: Path) -> None:
    """A secret may come from a file, and a file that cannot be read is a wrong setting."""
    file = tmp_path / "url"
    file.write_text(f"sqlite:///{tmp_path / 'escalation.db'}\n", encoding="utf-8")
    assert 0 == console("tick", ESC_DATABASE_URL_FILE=str(file)).code
    assert (tmp_path / "escalation.db").exists()
    said = console("tick", ESC_DATABASE_URL_FILE=str(tmp_path / "none"))
    assert (1, True) == (said.code, "name a UTF-8 file that this process may read" in said.err)


# --- missing databases

ON_DATABASE = (("tick",), ("health", "--json"), ("open", "k"), ("run",), ("migrate", "up"), ("migrate", "status"))


@pytest.mark.parametrize("command", [*ON_DATABASE[:4], ("dead", "list"), ("show", "k"), ("migrate", "up")])
def test_no_database(console: Console, command: tuple[str, ...]) -> None:
    """Without a database URL a command says in one line how to set one."""
    assert one_line(console(*command)).startswith("ESC_DATABASE_URL is not set; set it to sqlite:///FILE or")


@pytest.mark.parametrize("command", ON_DATABASE)
@pytest.mark.parametrize("url", [f"mysql://u:{SECRET}@h/d", f"host=h password={SECRET}", "sqlitefile.db"])
def test_unknown_kind(console: Console, command: tuple[str, ...], url: str) -> None:
    """A URL of an unknown kind is refused in one line that does not repeat it."""
    line = one_line(console("--database", url, *command))
    assert (
        "the database's URL is not a valid URL of a store; give sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        == line
    )


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:"])
def test_no_file(console: Console, url: str) -> None:
    """An SQLite URL without a file is refused in one line, since its data would be lost."""
    line = one_line(console("--database", url, "open", "k"))
    assert "sqlite:/// names no file, and a database in memory loses its data; give sqlite:///FILE" == line


def test_warnings_are_told_once(on_sqlite: Console, tmp_path: Path) -> None:
    """With --database a command still reports each warning once."""
    url = f"sqlite:///{tmp_path / 'other.db'}"
    on_sqlite("--database", url, "open", "k")
    health = on_sqlite("--database", url, "health", "--json", ESC_CANARY_PCT="0").json
    assert 1 == len(health["warnings"])


@pytest.mark.parametrize("command", ON_DATABASE)
def test_postgres_is_down(console: Console, command: tuple[str, ...]) -> None:
    """An unreachable PostgreSQL is reported in one line, without the password."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = f"postgresql://escalation:{SECRET}@127.0.0.1:{port}/service"
        line = one_line(console(*command, ESC_DATABASE_URL=url))
    assert line.startswith("PostgreSQL is not available: ")
    assert "refused" in line
    assert SECRET not in line


@pytest.mark.parametrize("command", [("tick",), ("migrate", "up"), ("replay", "LOG", "--store", "URL")])
@pytest.mark.parametrize("password", ["s3cr%zz3t4u", "s3cr 3t4u", "s3cr/3t4u", "5432/3t4u", "s3cr@3t4u", "s3cr?3t4u"])
def test_password_that_is_not_encoded(
    console: Console, tmp_path: Path, command: tuple[str, ...], password: str
) -> None:
    """A password with special characters that are not percent-encoded never appears in an error."""
    url = f"postgresql://me:{password}@127.0.0.1:1/service"
    log = tmp_path / "log.csv"
    log.write_text("at,incident_key,event,severity\n", encoding="utf-8")
    words = [url if word == "URL" else str(log) if word == "LOG" else word for word in command]
    line = one_line(console("--database", url, *words))
    assert not any(part in line for part in ("s3cr", "5432", "3t4u"))


def test_postgres_is_not_migrated(console: Console, pg_dsn: str) -> None:
    """A PostgreSQL that is not migrated is reported in one line that names the command."""
    for command in ON_DATABASE[:4]:
        line = one_line(console(*command, ESC_DATABASE_URL=url_of(pg_dsn)))
        assert "schema 'public' is not migrated; run: escalation migrate up" == line


def test_sqlite_file_of_another_program(console: Console, tmp_path: Path) -> None:
    """A file that is not the library's database stays unchanged."""
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    with closing(sqlite3.connect(other)) as file:
        file.execute("CREATE TABLE t (x)")
    text.write_text("not a database, but long enough to be taken for one" * 100, encoding="utf-8")
    for path in (other, text):
        before = path.read_bytes()
        assert "name another file" in one_line(console("--database", f"sqlite:///{path}", "tick"))
        assert before == path.read_bytes()
    missing = tmp_path / "no" / "such.db"
    assert "SQLite refuses" in one_line(console("--database", f"sqlite:///{missing}", "tick"))


def test_database_option_wins(on_sqlite: Console, tmp_path: Path) -> None:
    """--database overrides ESC_DATABASE_URL."""
    told(on_sqlite("--database", f"sqlite:///{tmp_path / 'other.db'}", "open", "k"))
    assert "key: 'k' is unknown" in one_line(on_sqlite("show", "k"))


# --- migrations


def test_migrate(console: Console, pg_dsn: str) -> None:
    """``migrate status`` lists missing migrations with code 1; ``migrate up`` applies them once."""
    console.env = {"ESC_DATABASE_URL": url_of(pg_dsn)}
    before = console("migrate", "status", "--json")
    assert 1 == before.code
    names = [entry["name"] for entry in before.json["migrations"]]
    assert names
    assert all(entry["applied_at"] is None for entry in before.json["migrations"])
    missing = console("migrate", "status")
    assert (1, len(names)) == (missing.code, missing.out.count("missing: run escalation migrate up"))
    up = console("migrate", "up", "--create")
    assert (0, [*names, "attached to public.incidents"]) == (up.code, up.lines)
    assert [f"applying {name}" for name in names] == up.err.splitlines()[: len(names)]
    assert "up to date: nothing to do" == told(console("migrate", "up")).strip()
    assert {"done": []} == console("migrate", "up", "--json").json
    after_ = console("migrate", "status", "--json")
    applied = [entry["applied_at"] and not entry["changed"] for entry in after_.json["migrations"]]
    assert 0 == after_.code
    assert all(applied)
    assert [] == after_.json["faults"]
    assert 0 == console("tick", "--json").json["escalations"]


def test_migrate_mends_triggers(console: Console, pg_dsn: str) -> None:
    """``migrate status`` and health report disabled and missing triggers; ``migrate up`` makes them again."""
    console.env = {"ESC_DATABASE_URL": url_of(pg_dsn)}
    console("migrate", "up", "--create")
    with psycopg.connect(pg_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE incidents DISABLE TRIGGER zz_escalation_host_insert")
        connection.execute("DROP TRIGGER zz_escalation_host_update ON incidents")
    off = [
        "zz_escalation_host_insert on public.incidents is disabled",
        "zz_escalation_host_update on public.incidents is missing",
    ]
    status = console("migrate", "status")
    assert 1 == status.code
    for fault in off:
        assert f"trigger {fault}: " in status.err
    assert 2 == len(console("migrate", "status", "--json").json["faults"])
    warnings = console("health", "--json").json["warnings"]
    assert [True, True] == [f"trigger {fault}: " in warning for fault, warning in zip(off, warnings, strict=True)]
    mended = console("migrate", "up")
    assert (0, "repaired public.incidents") == (mended.code, mended.out.strip())
    assert [f"repairing: trigger {fault}" for fault in off] == [
        line.rpartition(": the engine")[0] for line in mended.err.splitlines()
    ]
    assert {"done": []} == console("migrate", "up", "--json").json
    assert (0, []) == ((after := console("migrate", "status", "--json")).code, after.json["faults"])


THERE = (
    "first_seen=born",
    "level=escalation_level",
    "acknowledged_at=acknowledged_at",
    "last_escalated_at=last_escalated_at",
)
PRINT = (
    *("--schema", "ops", "migrate", "print", "--table", "tickets"),
    *(word for column in THERE for word in ("--column", column)),
)


def test_migrate_print(console: Console) -> None:
    """``migrate print`` needs no database, and fills in the names."""
    text = told(console(*PRINT, "--existing", "page"))
    assert "escalation_events" in text
    for name in ('"ops"', '"tickets"', '"born"'):
        assert name in text
    assert text.strip() == console(*PRINT, "--existing", "page", "--json").json["sql"].strip()
    assert "column: 'x' is not a valid column mapping; write NAME=COLUMN" in one_line(
        console("migrate", "print", "--column", "x")
    )
    assert "existing: is missing; choose page or skip, or create for a table" in one_line(console(*PRINT))
    for wrong, told_of in (
        (["--drop-tables"], "add --detach"),
        (["--detach", "--existing", "page"], "leave --detach out"),
        (["--existing", "page", "--status-type", "public.state"], "name that with --status"),
    ):
        refused = console(*PRINT, *wrong)
        assert 2 == refused.code
        assert told_of in refused.err


def test_printed_sql_runs(console: Console, pg_dsn: str) -> None:
    """The SQL that ``migrate print`` prints attaches the schema within a transaction, and detaches it."""
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(HOST_TABLE.encode())
        connection.execute(told(console(*PRINT, "--existing", "skip")).encode())
        assert {"tickets", "escalation_events", "escalation_pages"} <= set(tables(connection))
        connection.execute(told(console(*PRINT, "--detach", "--drop-tables")).encode())
        assert ["tickets"] == tables(connection)


def tables(connection: psycopg.Connection[tuple[str, ...]]) -> list[str]:
    return [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ops'")]


HOST_TABLE = """
CREATE SCHEMA ops;
CREATE TABLE ops.tickets (
    incident_key text PRIMARY KEY, prio text, born timestamptz NOT NULL DEFAULT now(), escalation_level int DEFAULT 0,
    acknowledged_at timestamptz, last_escalated_at timestamptz
);
INSERT INTO ops.tickets (incident_key, prio, born) VALUES
    ('old', 'critical', now() - interval '3 hours'), ('new', 'critical', now() - interval '10 minutes'),
    ('fresh', 'critical', now());
"""


@pytest.mark.parametrize(
    ("existing", "paged", "after_recalc"),
    [("page", 2, 0), ("skip", 0, 2), ("since=INSTANT", 1, 1)],
)
def test_existing(console: Console, pg_dsn: str, existing: str, paged: int, after_recalc: int) -> None:
    """``migrate up`` says how many open incidents would page, and --existing decides which of them do."""
    with psycopg.connect(pg_dsn, autocommit=True) as connection:
        connection.execute(HOST_TABLE.encode())
    console.env = {"ESC_DATABASE_URL": url_of(pg_dsn)}
    attach = ("--schema", "ops", "migrate", "up", "--table", "tickets", "--column", "severity=prio", "--column",
              "first_seen=born")  # fmt: skip
    line = one_line(console(*attach))
    assert "ops.tickets holds 3 open incidents, and 2 of them would page now" in line
    assert "--existing" in line
    choice = existing.replace("INSTANT", ago(60))
    said = console(*attach, "--existing", choice)
    assert 0 == said.code, said
    assert paged == console("--schema", "ops", "tick", "--record-only", "--json").json["escalations"]
    told(console("--schema", "ops", "recalc"))
    assert after_recalc == console("--schema", "ops", "tick", "--record-only", "--json").json["escalations"]
    assert "write page, skip or since=INSTANT" in console(*attach, "--existing", "maybe").err


@pytest.mark.parametrize("command", ["up", "status"])
def test_sqlite_needs_no_migration(on_sqlite: Console, command: str) -> None:
    """On SQLite ``migrate`` says that there is nothing to migrate."""
    assert "an SQLite file makes its own schema" in one_line(on_sqlite("migrate", command))
