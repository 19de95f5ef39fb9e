"""``--app``: the command line mirrors an engine that a service's code makes, with all that is the engine's own."""

import asyncio
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from escalation_adapters.cli.root import COMMANDS, WITHOUT_ENGINE, cli
from escalation_core import idempotency_key

from .console import Console, Said, ago, finish, one_line, program, start
from .worker import receiving, until

SHOP = """
import asyncio
import json
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Delivered, Engine, Policies, Rejected, Settings

URL = Path("url").read_text()

class Mail:
    channel = "mail"
    targets = ("mail:ops",)

    async def send(self, page):
        if page.incident.incident_key == "refused":
            return Rejected("full")
        with open("mails", "a") as file:
            print(page.incident.incident_key, file=file)
        return Delivered()

    async def aclose(self):
        pass

class Router:
    def route(self, incident, level):
        return ["mail:ops"] if "mail" in incident.labels else ["hook:ops"]

POLICIES = Policies.from_mapping({
    "policies": {"shop": {"levels": [{"after": "2m"}, {"after": "3m"}]}},
    "assign": [{"policy": "shop"}],
})

def configured(**given):
    return Engine(
        SQLiteStore("shop.db"),
        settings=Settings(max_level=3, canary_pct=100, tick_interval=timedelta(seconds=1), tz="Europe/Berlin"),
        notifiers=[SlackNotifier({"hook:ops": URL}, allow_http=True), Mail()],
        router=Router(),
        policies=POLICIES,
        worker="the shop's worker",
    )

async def make():
    asyncio.get_running_loop()
    return configured()

engine = configured()
"""
APPS = ("shop:engine", "shop:configured", "shop:make")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a service, whose module ``shop`` has an engine."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "url").write_text("http://127.0.0.1:9/x")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    # A source of the same size and second as the one before would be taken from the cache.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


class Ask:
    """Runs a command on the service's engine, with the module imported anew. The environment has no settings."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, *words: str, app: str = "shop:make", **env: str) -> Said:
        sys.modules.pop("shop", None)
        try:
            return self.console("--app", app, *words, **env)
        finally:
            sys.modules.pop("shop", None)


@pytest.fixture
def ask(console: Console, shop: Path) -> Ask:
    """The command line with ``--app``."""
    return Ask(console)


@pytest.mark.parametrize("app", APPS)
def test_commands_use_the_engine(app: str, ask: Ask, shop: Path) -> None:
    """An engine, a function and an async function: all commands work on its store, by its router and its policies."""
    opened = ask("open", "k", "--label", "mail=yes", "--first-seen", ago(3), app=app)
    assert (0, "") == (opened.code, opened.err)
    assert (shop / "shop.db").exists()
    shown = ask("show", "k", "--json", app=app).json
    assert (["mail:ops"], "shop") == (shown["next_pages"]["targets"], shown["next_pages"]["step"]["policy"])
    assert 1 == ask("tick", "--json", app=app).json["delivery"]["delivered"]
    assert "k\n" == (shop / "mails").read_text()
    acknowledged = ask("ack", "k", "--by", "ada", app=app)
    assert (0, "") == (acknowledged.code, acknowledged.err)
    assert ["ada"] == [e["actor"] for e in ask("audit", "--json", app=app).json if e["action"] == "acknowledge"]


def test_every_command(ask: Ask, shop: Path) -> None:
    """Commands that read, operators' commands and those about policies work; those without an engine say so."""
    for key in ("k", "refused"):
        ask("open", key, "--label", "mail=yes", "--first-seen", ago(3))
    ask("tick")
    for words in (
        *(("list",), ("next",), ("pages",), ("dead", "list"), ("dead", "retry", "--all"), ("recalc",), ("prove",)),
        *(("policy", "show"), ("policy", "reload"), ("policy", "from-settings"), ("oncall", "now"), ("resume",)),
        *(("pause", "--until", "1s"), ("prune", "--older-than", "400d"), ("snooze", "k", "--until", "1h")),
        *(("severity", "k", "critical"), ("drain", "k"), ("rebind", "k"), ("unack", "k"), ("resolve", "k")),
        *(("config", "check"), ("test-page", "mail:ops")),
    ):
        said = ask(*words)
        assert "Traceback" not in said.err, words
        assert (0, "") == (said.code, said.err) or words[0] in ("unack", "drain", "rebind"), (words, said)
    health = ask("health", "--json").json
    assert {"mail:ops", "hook:ops"} == set(health["targets"])
    for name in WITHOUT_ENGINE:
        assert name in COMMANDS
        said = ask(name)
        assert 2 == said.code
        assert f"{name} uses no engine: leave --app out" in said.err


@pytest.mark.parametrize("app", APPS)
def test_rebind_asks_between_two_pieces_of_work(
    app: str, ask: Ask, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``policy rebind`` reads, asks and writes with one engine, also if that cannot be made again."""
    assert 0 == ask("open", "k", app=app).code
    (shop / "shop.py").write_text(SHOP.replace('"after": "3m"', '"after": "4m"'))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    done = ask("policy", "rebind", "shop", app=app)
    assert 0 == done.code
    assert "1 incidents are pinned to older versions of shop." in done.err
    assert done.out.endswith(": 1\n")


def test_settings_are_the_engines(ask: Ask, shop: Path) -> None:
    """``config check`` shows the settings and the targets of the engine, and opens no database."""
    found = ask("config", "check", "--json", ESC_TICK_MS="x")
    assert (0, "") == (found.code, found.err)
    assert ("1000", "3", "Europe/Berlin") == tuple(
        found.json["settings"][name] for name in ("ESC_TICK_MS", "MAX_ESC_LEVEL", "ESC_TZ")
    )
    assert {"hook:ops": "slack", "mail:ops": "mail"} == {
        name: one["channel"] for name, one in found.json["targets"].items()
    }
    assert "mail:ops\tmail\t\t\n" in ask("config", "check").out
    assert not (shop / "shop.db").exists()


def test_policy_check(ask: Ask, shop: Path) -> None:
    """A policies file is checked against the engine's settings and targets."""
    policies = {"policies": {"p": {"levels": [{"after": "2m", "to": ["mail:ops"]}]}}}
    (shop / "p.json").write_text(json.dumps(policies))
    good = ask("policy", "check", "p.json")
    assert 0 == good.code, good
    policies["policies"]["p"]["levels"][0]["to"] = ["sms:ops"]
    (shop / "p.json").write_text(json.dumps(policies))
    assert "sms:ops" in ask("policy", "check", "p.json").err


def test_test_pages(ask: Ask, shop: Path) -> None:
    """Test pages go through the engine's notifiers, to all of its targets with --all, and the audit has a note."""
    said = ask("test-page", "--all", "--json", "--by", "ada")
    assert (5, "") == (said.code, said.err)
    assert {"hook:ops": "unreachable", "mail:ops": "delivered"} == {one["target"]: one["verdict"] for one in said.json}
    notes = [e["target"] for e in ask("audit", "--json").json if e["action"] == "test page"]
    assert 2 == len(notes)
    assert "give one of: hook:ops, mail:ops" in one_line(ask("test-page", "sms:ops"))


def test_test_page_while_the_database_is_away(ask: Ask, shop: Path) -> None:
    """A test page is sent without the database; only the note is missing."""
    (shop / "shop.py").write_text(SHOP.replace('"shop.db"', '"no/such/folder.db"'))
    said = ask("test-page", "mail:ops")
    assert (0, "mail:ops: delivered\n") == (said.code, said.out)
    assert said.err.startswith("escalation: the audit has no note of this test: ")


@pytest.mark.parametrize(
    "option", [("--database", "sqlite:///x.db"), ("--schema", "public"), ("--pooler", "transaction")]
)
def test_database_options_are_refused(option: tuple[str, str], console: Console, shop: Path) -> None:
    """The engine has a database already, so an option that names one would have no effect."""
    said = console(*option, "--app", "shop:make", "list")
    assert 2 == said.code
    assert f"{option[0]} has no effect beside --app" in said.err


@pytest.mark.parametrize(
    ("app", "text", "said"),
    [
        ("shops:engine", "", "--app shops:engine: the module shops does not exist; correct the name"),
        ("shop:engines", "", "--app shop:engines: the module shop has no 'engines'; correct the name"),
        ("shop", "", "--app shop: does not name an attribute of a module; write package.module:attribute"),
        ("shop:URL", "URL = 'hush-hush'", "--app shop:URL: is str; name an Engine, or a function"),
        ("shop:make", "def make():\n    return None", "--app shop:make: returned None; name an Engine"),
        ("shop:make", "def make():\n    raise KeyError('hush-hush')", "--app shop:make: raised KeyError, "),
        ("shop:make", "raise KeyError('hush-hush')", "--app shop:make: importing shop raised KeyError, "),
    ],
)
def test_faults(app: str, text: str, said: str, ask: Ask, shop: Path) -> None:
    """Each fault is one line with the option, and exit code 1."""
    (shop / "shop.py").write_text(text)
    for words in (("tick",), ("ack", "k"), ("config", "check"), ("test-page", "x"), ("policy", "check")):
        line = one_line(ask(*words, app=app))
        assert line.startswith(said)
        assert "hush" not in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
@pytest.mark.parametrize("app", APPS)
async def test_run(app: str, shop: Path) -> None:
    """``run`` works with the engine's own notifiers and its interval until SIGTERM, also on uvloop."""
    async with receiving() as receiver:
        (shop / "url").write_text(receiver.url)
        opened = await asyncio.to_thread(program, "--app", app, "open", "k", "--first-seen", ago(3), cwd=shop)
        assert 0 == opened.code
        process: subprocess.Popen[str] = start("--app", app, "run", cwd=shop)
        try:
            await until(lambda: 1 == len(receiver.pages), process)
            process.send_signal(signal.SIGTERM)
            said = await asyncio.to_thread(finish, process)
        finally:
            process.kill()
    assert (0, "") == (said.code, said.out)
    assert "ESC_TARGETS" not in said.err
    assert [idempotency_key("k", 1)] == [page["dedup_key"] for page in receiver.pages]


def test_help_names_the_option() -> None:
    """The option is one of the root, as --database is."""
    assert "--app" in {option for param in cli.params for option in param.opts}
