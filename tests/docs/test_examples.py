"""Every example of the documentation runs, or at least parses as a command line."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp
import click
import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict
from sybil import Sybil
from sybil.example import Example
from sybil.parsers.myst import PythonCodeBlockParser

from escalation_adapters.auth.hmac_signature import signed_headers
from escalation_adapters.cli.root import cli
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Engine

from ..integration.ops.service import listening
from .pages import PAGES, ROOT, Block, all_blocks, blocks, command_lines, exports, inline_commands, parse

SYBIL = Sybil(parsers=[PythonCodeBlockParser()])
LESSON = ROOT / "docs/tutorial/own-table.md"
POLICY_LESSONS = (ROOT / "docs/tutorial/first-policy.md", ROOT / "docs/tutorial/rotation.md")
"""Pages whose blocks build on each other; one test runs each whole page."""
EXAMPLES = [
    example for page in PAGES if page not in (LESSON, *POLICY_LESSONS) for example in SYBIL.parse(page).examples()
]


def run(example: Example) -> None:
    """Run one example as a separate program."""
    example.namespace.clear()
    example.namespace["__name__"] = "example"
    example.evaluate()


def url(dsn: str) -> str:
    """Return a DSN as a URL, the form that the command line takes."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    return f"postgresql:///{quote(parts.pop('dbname'))}?{urlencode(parts, quote_via=quote)}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{Path(e.path).relative_to(ROOT)}:{e.line}")
def test_python_example_runs(
    example: Example, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python example runs unchanged in an empty folder, on a migrated database if it names ESC_DATABASE_URL."""
    monkeypatch.chdir(tmp_path)
    if "ESC_DATABASE_URL" in str(example.parsed):
        monkeypatch.setenv("ESC_DATABASE_URL", url(request.getfixturevalue("migrated_dsn")))

    run(example)


def test_readme_says_which_module_has_a_name() -> None:
    """The comments of the README's example name other classes, each with the module that has it."""
    [example] = blocks(ROOT / "README.md", "python")
    comments = " ".join(re.findall("# (.*)", example.text))
    named = dict(re.findall(r"(\w+(?:\.\w+)+) has (\w+)", comments))
    assert {"SlackNotifier", "PagerDutyNotifier", "PostgresStore"} == set(named.values())
    for module, name in named.items():
        assert hasattr(import_module(module), name)
    assert set(re.findall(r"\b\w+(?:Notifier|Store)\b", comments)) == set(named.values())


SECRET = "whsec_c2VjcmV0IG9mIHRoaXJ0eS10d28gcmFuZG9tIGJ5dGVz"
CALLS: list[tuple[str, str, tuple[str, int, object]]] = [
    ("embed-in-a-web-service", "web.Application()", ("POST /incidents/db-7/ack", 200, {"state": "acknowledged"})),
    ("embed-in-a-web-service", "FastAPI(", ("POST /incidents/db-9", 200, {"state": "open"})),
    ("run-a-worker", "web.Application()", ("POST /incidents/disk/acknowledge", 200, {"state": "acknowledged"})),
    ("operators-endpoints", "ops_app(", ("GET /ops/escalation/health", 200, {"ok": True})),
    ("operators-endpoints", 'scope.get("user")', ("GET /ops/escalation/health", 200, {"ok": True})),
    ("operators-endpoints", "Sessions(", ("GET /ops/escalation/health", 200, {"ok": True})),
    ("operators-endpoints", "/reindex", ("POST /reindex", 403, None)),
]
"""The answer of a route in an example: the page, a part of its block, the request, the status and the document."""
SERVED = [example for example in EXAMPLES if re.search(r"(?:web\.Application|FastAPI)\(", str(example.parsed))]


@pytest.mark.parametrize("example", SERVED, ids=lambda e: f"{Path(e.path).relative_to(ROOT)}:{e.line}")
def test_route_of_an_example_answers(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each web service in the documentation serves its route."""
    monkeypatch.chdir(tmp_path)
    page, text = Path(example.path).stem, str(example.parsed)
    [(request, status, document)] = [call for name, part, call in CALLS if name == page and part in text]

    async def ask() -> None:
        method, path = request.split(" ")
        async with Engine(SQLiteStore("escalation.db")) as engine:
            for key in ("db-7", "disk"):
                await engine.open(key, severity="critical")
        app = example.namespace.get("app") or await example.namespace["make_app"]()
        async with listening(app) as port, aiohttp.ClientSession() as http:
            signed = signed_headers(b"", secret=SECRET)
            async with http.request(method, f"http://127.0.0.1:{port}{path}", headers=signed) as answer:
                assert status == answer.status
                assert document is None or document == await answer.json()

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "run", Coroutine.close)  # the test starts the server itself
        run(example)
    asyncio.run(ask())


@pytest.mark.parametrize(
    "block", [block for block in all_blocks("sql") if block.page != LESSON], ids=lambda block: block.name
)
def test_sql_example_runs(block: Block, migrated_dsn: str) -> None:
    """Each SQL example runs on a migrated database, as a host with one open incident."""
    with psycopg.connect(migrated_dsn) as connection:
        connection.execute(
            "INSERT INTO incidents (incident_key, severity, escalation_level) VALUES ('db-7/disk', 'critical', 2)"
        )
        connection.execute(block.text.encode())


def test_lesson_runs_as_a_whole(pg_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lesson about an own table works as it says, from its first block to its last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESC_DATABASE_URL", url(pg_dsn))
    programs = {example.line: example for example in SYBIL.parse(LESSON).examples()}
    outputs: list[str] = []

    for block in blocks(LESSON, "bash", "sql", "python"):
        if block.language == "sql":
            with psycopg.connect(pg_dsn, autocommit=True) as connection:
                connection.execute(block.text.encode())
        elif block.language == "python":
            run(programs[block.line])
        else:
            for words in command_lines(block.text):
                done = CliRunner().invoke(cli, words, catch_exceptions=False)
                assert 0 == done.exit_code, (words, done.output)
                outputs.append(done.output)

    assert "0 escalated" in outputs[-3]
    assert outputs[-2].startswith("2 ")  # the recalc visits the acknowledged incident, too
    assert "1 escalated" in outputs[-1]


@pytest.mark.parametrize("block", all_blocks("bash"), ids=lambda block: block.name)
def test_shell_example_is_legal(block: Block) -> None:
    """The command line takes the command, options and arguments of each ``escalation`` line in a shell example."""
    for words in command_lines(block.text):
        assert parse(words).startswith("escalation")


CRON = re.compile(r"^\* \* \* \* \*  app  (.*)$", re.MULTILINE)


@pytest.mark.skipif(shutil.which("sh") is None, reason="cron needs a shell")
def test_line_for_cron_ticks(migrated_dsn: str, tmp_path: Path) -> None:
    """The line for cron ticks as cron runs it: by ``sh``, with little more in its environment than the file sets."""
    [line] = CRON.findall((ROOT / "docs/how-to/embed-with-your-scheduler.md").read_text(encoding="utf-8"))
    settings = tmp_path / "escalation.env"
    program = shutil.which("escalation", path=str(Path(sys.executable).parent))
    assert program is not None
    settings.write_text(f"export PATH='{Path(program).parent}':$PATH\nESC_DATABASE_URL='{url(migrated_dsn)}'\n")
    assert "/etc/escalation.env" in line
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute(NIGHT.encode())
        done = subprocess.run(
            ["sh", "-c", line.replace("/etc/escalation.env", str(settings))],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SHELL": "/bin/sh"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        assert (True,) == connection.execute(EFFECTS["tick"].encode()).fetchone(), done.stdout


RUNBOOK = ROOT / "docs/how-to/runbook.md"


OPEN = "INSERT INTO incidents (incident_key, severity, escalation_level) VALUES ('db-7/disk', 'critical', 2)"
INSIDE, OUTSIDE = "db-4/disk", "db-8/disk"
"""Incidents inside and outside a canary of 10 percent."""
NIGHT = f"""
    {OPEN};
    INSERT INTO escalation_events (incident_key, level, unique_hash) VALUES ('db-7/disk', 2, 'd');
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT key, 'critical', now() - interval '1 hour', now() - interval '55 minutes'
    FROM unnest(ARRAY['{INSIDE}', '{OUTSIDE}']) AS key;
    INSERT INTO escalation_pages
        (id, incident_key, episode, level, target, dedup_key, state, created_at, due_at, reason)
    OVERRIDING SYSTEM VALUE
    SELECT id, 'db-7/disk', 1, 2, 'slack:' || id, 'd', 'dead', now(), now(), 'HTTP 404'
    FROM generate_series(17, 19) AS id;
    INSERT INTO escalation_audit (at, action) VALUES (now() - interval '500 days', 'tick')
"""
"""An incident at level 2 with three dead pages; two due incidents, one of them in the canary; an old audit note."""
PAUSE = "INSERT INTO escalation_pauses (starts_at, ends_at) VALUES (now(), now() + interval '1 minute')"
"""A pause to resume. While it lasts no tick escalates, so only the blocks with ``resume`` get it."""
EFFECTS = {
    "ack": "SELECT acknowledged_by = 'primary' FROM incidents WHERE incident_key = 'db-7/disk'",
    "dead retry": "SELECT state = 'pending' FROM escalation_pages WHERE id = 17",
    "drain": "SELECT (escalation_level, episode) = (1, 2) FROM incidents WHERE incident_key = 'db-7/disk'",
    "pause": "SELECT max(ends_at) > now() + interval '50 minutes' FROM escalation_pauses",
    "policy reload": "SELECT reload_requested_at IS NOT NULL FROM escalation_recalc",
    "prune": "SELECT count(*) = 0 FROM escalation_audit WHERE at < now() - interval '400 days'",
    "recalc": "SELECT finished_at IS NOT NULL AND visited = 3 FROM escalation_recalc",
    "resume": "SELECT count(*) = 0 FROM escalation_pauses WHERE ends_at > now()",
    "snooze": "SELECT snoozed_until > now() + interval '1 hour' FROM incidents WHERE incident_key = 'db-7/disk'",
    "snooze --end": "SELECT snoozed_until IS NULL FROM incidents WHERE incident_key = 'db-7/disk'",
    "test-page": "SELECT reason LIKE 'slack:17 unreachable%' FROM escalation_audit WHERE action = 'test page'",
    "tick": f"SELECT escalation_level = 1 FROM incidents WHERE incident_key = '{INSIDE}'",
    "tick --dry-run": f"""
        SELECT next_due_at < now() - interval '50 minutes' AND escalation_level = 0
            AND (SELECT count(*) = 1 FROM escalation_events)
        FROM incidents WHERE incident_key = '{INSIDE}'
    """,
}
"""The change that each command must make in the database. The longest entry that fits a command counts."""
CODES = {"test-page": 5}
"""The exit codes that differ from 0: no receiver serves the address of the targets."""
SAYS = {
    "audit": "page dead",
    "config": "ESC_CRIT_ACK_MIN",
    "dead list": "slack:19",
    "health": "mode",
    "list": "db-7/disk",
    "list --unheard": "no open incident matches",
    "migrate": "applied",
    "migrate attach": "attached to public.incidents",
    "next": "db-7/disk",
    "pages --state dead": "slack:19",
    "pages --target": "no page waits",
    "policy show": "the built-in policy",
    "prove": "the promise holds",
    "show": "db-7/disk",
    "sign": "curl -sS -X POST https://status.example.org/ops/escalation/tick -H ",
}
"""A part of the output of each command that only reads."""


@pytest.mark.parametrize("block", blocks(RUNBOOK, "bash"), ids=lambda block: block.name)
def test_runbook_runs(block: Block, migrated_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the runbook has its effect, on a database with due incidents and dead pages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESC_DATABASE_URL", url(migrated_dsn))
    monkeypatch.setenv(
        "ESC_TARGETS", json.dumps({f"slack:{number}": "https://127.0.0.1:1/s" for number in (17, 18, 19)})
    )
    for name, value in exports(block.text):
        monkeypatch.setenv(name, value)
    lines = list(command_lines(block.text))
    assert lines
    if any("attach" in words for words in lines):
        with psycopg.connect(migrated_dsn) as connection:
            connection.execute("ALTER TABLE incidents RENAME summary TO title")
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute(NIGHT.encode())
        if any(words[0] == "resume" for words in lines):
            connection.execute(PAUSE.encode())
        for words in lines:
            done = CliRunner().invoke(cli, words, catch_exceptions=False)
            # The night's dead pages may leave an incident unheard. Then health is not ok.
            code = 1 if words[0] == "health" and "unheard: no page" in done.output else CODES.get(words[0], 0)
            assert code == done.exit_code, (words, done.output)
            change, says = closest(EFFECTS, words), closest(SAYS, words)
            assert change or says, f"nothing says what {words} must do"
            if change is not None:
                assert (True,) == connection.execute(change.encode()).fetchone(), (words, done.output)
            assert (says or "") in done.output, words


def test_runbook_tells_what_the_canary_holds(
    migrated_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the canary's block the incident outside the canary is still overdue, and health counts it."""
    [block] = [block for block in blocks(RUNBOOK, "bash") if "ESC_CANARY_PCT" in block.text]
    test_runbook_runs(block, migrated_dsn, tmp_path, monkeypatch)
    done = CliRunner().invoke(cli, ["health", "--json"], catch_exceptions=False)
    assert 1 == json.loads(done.output)["canaryHeld"]
    with psycopg.connect(migrated_dsn) as connection:
        levels = connection.execute("SELECT incident_key, escalation_level FROM incidents").fetchall()
    assert {"db-7/disk": 2, INSIDE: 1, OUTSIDE: 0} == dict(levels)


def closest(table: dict[str, str], words: list[str]) -> str | None:
    """Return the entry of the longest key that fits a command; None if no key does."""
    fitting = [line for line in table if line.split()[0] == words[0] and set(line.split()) <= set(words)]
    return table[max(fitting, key=len)] if fitting else None


def test_commands_named_in_text_exist() -> None:
    """A command in running text exists, and takes its options and arguments."""
    for page, words in inline_commands():
        try:
            parse(words)
        except click.MissingParameter:
            continue  # the text names only the command
        except Exception as error:
            raise AssertionError(f"{page.relative_to(ROOT)}: escalation {' '.join(words)}: {error!r}") from error


def test_there_are_examples() -> None:
    """The search finds examples of each kind; without examples the tests would pass without a check."""
    assert len(EXAMPLES) > 10
    assert len(CALLS) == len(SERVED)
    assert all_blocks("bash")
    assert all_blocks("sql")
