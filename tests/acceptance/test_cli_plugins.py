"""Plug-ins on the command line: what pages refuses to start with a broken one, and what answers an incident works."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .console import Console, ago, finish, one_line, start, told

PAGER = Path(__file__).with_name("plugin_for_tests.py")
BROKEN = "ESC_PLUGINS pager:broken: raised RuntimeError, "


@pytest.fixture
def paging(on_sqlite: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """The command line on an SQLite file, with the plug-in of a notifier."""
    shutil.copy(PAGER, tmp_path / "pager.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    on_sqlite.env |= {"ESC_PLUGINS": "pager:notifier", "PAGER_FILE_NAME": str(tmp_path / "pages")}
    yield on_sqlite
    sys.modules.pop("pager", None)


def pages(console: Console) -> list[str]:
    """Return what the notifier has written, without the dedup keys."""
    file = Path(console.env["PAGER_FILE_NAME"])
    return [line.rpartition(" ")[0] or line for line in file.read_text().splitlines()] if file.exists() else []


def open_one(console: Console, **env: str) -> None:
    """Open an incident that is due."""
    told(console("open", "k", "--severity", "critical", "--first-seen", ago(20), **env))


# --- a plug-in that works


def test_tick_pages_through_a_plugin(paging: Console) -> None:
    """A tick sends pages with the plug-in's notifier, closes it, and calls the plug-in's heartbeat."""
    env = {"ESC_PLUGINS": "pager:notifier,pager:router,pager:heartbeat"}
    open_one(paging, **env)
    done = paging("tick", "--json", **env)
    assert (0, "", 1) == (done.code, done.err, done.json["delivery"]["delivered"])
    assert ["alive", "closed", "sms:dev k"] == sorted(pages(paging))


def test_only_target_is_the_default_one(paging: Console) -> None:
    """The settings' router pages the plug-in's target by default if it is the only one; of two it warns."""
    open_one(paging)
    done = paging("tick", "--json")
    assert 1 == done.json["dead_pages"]
    warnings = paging("config", "check", "--json").json["warnings"]
    assert ["an incident that no route matches has no target and is never paged: set ESC_DEFAULT_TARGET"] == warnings
    Path("one.py").write_text("from pager import *\nPager.targets = ('sms:ops',)\nPager.abilities = Abilities()\n")
    assert [] == paging("config", "check", "--json", ESC_PLUGINS="one:notifier").json["warnings"]
    assert 0 == paging("resolve", "k").code
    open_one(paging, ESC_PLUGINS="one:notifier")
    assert 1 == paging("tick", "--json", ESC_PLUGINS="one:notifier").json["delivery"]["delivered"]
    del sys.modules["one"]


def test_settings_may_name_targets_of_plugins(paging: Console) -> None:
    """Beside ESC_TARGETS, routes, budgets, fallbacks and the default target may name a target of a plug-in."""
    paging.env |= {
        "ESC_TARGETS": '{"slack:ops": "https://192.0.2.1/x"}',
        "ESC_ROUTES": '[{"severity": "critical", "targets": ["sms:dev"]}]',
        "ESC_BUDGETS": '{"sms:dev": {"rate": 5, "burst": 2}}',
        "ESC_FALLBACKS": '{"slack:ops": "sms:ops"}',
        "ESC_DEFAULT_TARGET": "sms:ops",
    }
    assert [] == paging("config", "check", "--json").json["warnings"]
    open_one(paging)
    shown = told(paging("show", "k"))
    assert "sms:dev" in shown
    assert "dead page" not in shown
    assert 1 == paging("tick", "--json").json["delivery"]["delivered"]
    for words in (("health",), ("list",), ("next",), ("show", "k"), ("ack", "k"), ("recalc",), ("pages",)):
        assert [] == paging(*words).complaints, words


@pytest.mark.parametrize("words", [("tick",), ("run",), ("config", "check"), ("test-page", "sms:ops"), ("show", "k")])
def test_name_that_no_plugin_serves(words: tuple[str, ...], paging: Console) -> None:
    """A route to a target that neither ESC_TARGETS nor a plug-in has is refused, before a store is opened."""
    said = paging(*words, ESC_ROUTES='[{"targets": ["sms:typo"]}]')
    assert (1, "") == (said.code, said.out)
    expected = "  ESC_ROUTES: names the target 'sms:typo'; define it in ESC_TARGETS, or name one that a plug-in serves"
    assert ["escalation: 1 setting is wrong:", expected] == said.err.splitlines()


def test_what_looks_ahead_knows_the_plugins(paging: Console) -> None:
    """``show`` and ``next`` ask the plug-in's router; health knows its targets and their budgets."""
    env = {"ESC_PLUGINS": "pager:notifier,pager:router"}
    told(paging("open", "k", "--severity", "critical", **env))
    assert ["sms:dev"] == paging("show", "k", "--json", **env).json["next_pages"]["targets"]
    assert "sms:dev" in told(paging("next", **env))
    assert 0 == paging("tick", "--json", **env).code
    targets = paging("health", "--json", **env).json["targets"]
    assert {"log", "sms:ops", "sms:dev"} == set(targets)
    assert 7 == targets["sms:ops"]["budget"]["rate"]


def test_config_check_lists_plugins(paging: Console) -> None:
    """``config check`` shows each plug-in, with its kind and its targets, and all targets with their channels."""
    names = ("notifier", "router", "schedules", "heartbeat")
    env = {"ESC_PLUGINS": ",".join(f"pager:{name}" for name in names), "ESC_TARGETS": '{"slack:ops": "https://h/x"}'}
    found = paging("config", "check", "--json", **env).json
    assert env["ESC_PLUGINS"] == found["settings"]["ESC_PLUGINS"]
    assert [
        {"name": "ESC_PLUGINS pager:notifier", "kind": "notifier", "targets": ["sms:ops", "sms:dev"]},
        {"name": "ESC_PLUGINS pager:router", "kind": "router", "targets": []},
        {"name": "ESC_PLUGINS pager:schedules", "kind": "schedule source", "targets": []},
        {"name": "ESC_PLUGINS pager:heartbeat", "kind": "heartbeat", "targets": []},
    ] == found["plugins"]
    channels = {name: one["channel"] for name, one in found["targets"].items()}
    assert {"log": "log", "slack:ops": "slack", "sms:ops": "sms", "sms:dev": "sms"} == channels
    assert "ESC_PLUGINS pager:notifier\tnotifier\tsms:ops, sms:dev\n" in paging("config", "check", **env).out


def test_test_page_of_a_plugin(paging: Console) -> None:
    """A test page goes through the plug-in's notifier; --all has its targets as well."""
    one = paging("test-page", "sms:ops", "--json")
    assert (0, "sms", "delivered") == (one.code, one.json[0]["channel"], one.json[0]["verdict"])
    assert 2 == len(pages(paging))
    everything = paging("test-page", "--all", "--json")
    assert ["sms:ops", "sms:dev"] == [sent["target"] for sent in everything.json]
    assert "give one of: log, sms:ops, sms:dev" in one_line(paging("test-page", "sms:typo"))


def test_policies_may_name_targets_and_schedules_of_plugins(paging: Console) -> None:
    """Policies may page a target of a plug-in, and who is on call by a plug-in's schedule."""
    policies: dict[str, Any] = {
        "policies": {"default": {"levels": [{"after": "0m", "to": ["sms:ops", "oncall:rota"]}]}},
        "people": {"ann": "sms:dev"},
    }
    Path("policies.json").write_text(json.dumps(policies))
    paging.env |= {"ESC_PLUGINS": "pager:notifier,pager:schedules", "ESC_POLICIES": "policies.json"}
    paging.env |= {"ESC_DEFAULT_TARGET": "sms:ops"}
    assert 0 == paging("policy", "check").code
    assert 0 == paging("config", "check").code
    told(paging("open", "k"))
    assert 2 == paging("tick", "--json").json["delivery"]["delivered"]
    assert {"sms:ops k", "sms:dev k", "closed"} == set(pages(paging))
    assert "ann" in told(paging("oncall", "now"))
    for words in (("ack", "k"), ("show", "k"), ("list",), ("pause", "--until", "1h"), ("audit",)):
        assert [] == paging(*words).complaints, words
    policies["people"]["ann"] = "sms:typo"
    Path("policies.json").write_text(json.dumps(policies))
    for words in (("policy", "check"), ("config", "check"), ("run",)):
        said = paging(*words)
        assert 1 == said.code
        assert "sms:typo" in said.err


# --- a plug-in that does not


@pytest.mark.parametrize("words", [("run",), ("tick",), ("test-page", "log"), ("config", "check"), ("policy", "check")])
def test_what_pages_does_not_start(words: tuple[str, ...], paging: Console, tmp_path: Path) -> None:
    """A broken plug-in stops what pages and what checks, before the store is opened, and the message is one fault."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    said = paging(*words, ESC_PLUGINS="pager:notifier,pager:broken", ESC_DATABASE_URL=url)
    assert (1, "") == (said.code, said.out)
    first, line = said.err.splitlines()
    assert "escalation: 1 plug-in is wrong:" == first
    assert line.strip().startswith(BROKEN)
    assert "hush" not in said.err
    assert [] == list(tmp_path.glob("new.db*"))


def test_what_answers_an_incident_works(paging: Console) -> None:
    """An operator can answer incidents while a plug-in is broken, and hears nothing of it."""
    paging.env |= {"ESC_PLUGINS": "pager:notifier,pager:broken", "ESC_DEFAULT_TARGET": "sms:gone"}
    for words in (
        ("open", "k"),
        ("snooze", "k", "--until", "1h"),
        ("ack", "k", "--by", "ada"),
        ("unack", "k"),
        ("severity", "k", "warning"),
        ("resolve", "k"),
        ("pause", "--until", "1h"),
        ("resume",),
        ("audit",),
        ("pages",),
        ("dead", "list"),
        ("prove",),
    ):
        said = paging(*words)
        assert (0, "") == (said.code, said.err), words


def test_plugin_of_a_package_may_be_broken_as_well(paging: Console, tmp_path: Path) -> None:
    """An entry point that cannot be imported stops no acknowledgement, whatever the settings name."""
    info = tmp_path / "kit-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kit\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[escalation.notifiers]\nsms = no_such_module:make\n")
    del paging.env["ESC_PLUGINS"]
    paging.env |= {"ESC_TARGETS": '{"slack:ops": "https://h/x"}', "ESC_FALLBACKS": '{"slack:ops": "sms:gone"}'}
    for words in (("open", "k"), ("ack", "k"), ("resolve", "k")):
        assert (0, "") == ((said := paging(*words)).code, said.err), words
    assert "entry point escalation.notifiers: sms of kit: the module no_such_module does not" in paging("tick").err


def test_without_plugins_every_name_is_checked(paging: Console) -> None:
    """If there is no plug-in, a target that is not defined is refused by every command."""
    del paging.env["ESC_PLUGINS"]
    paging.env |= {"ESC_TARGETS": '{"slack:ops": "https://h/x"}', "ESC_DEFAULT_TARGET": "sms:gone"}
    for words in (("ack", "k"), ("show", "k"), ("tick",)):
        said = paging(*words)
        assert 1 == said.code
        assert "ESC_DEFAULT_TARGET: names the target 'sms:gone'; define it in ESC_TARGETS" in said.err


@pytest.mark.parametrize(
    "words", [("show", "k"), ("list",), ("next",), ("health",), ("recalc",), ("dead", "retry", "--all")]
)
def test_what_reads_warns(words: tuple[str, ...], paging: Console) -> None:
    """A command that says whom an escalation pages works without the broken plug-in, and says so in one line."""
    paging.env |= {"ESC_PLUGINS": "pager:notifier,pager:broken", "ESC_DEFAULT_TARGET": "sms:gone"}
    told(paging("open", "k"))
    told(paging("ack", "k"))
    paging("unack", "k")
    said = paging(*words)
    [line] = [json.loads(line)["message"] for line in said.err.splitlines()]
    assert line.startswith(f"a plug-in is missing in this command: {BROKEN}")
    assert "hush" not in said.err
    assert words[0] == "health" or 0 == said.code
    # The target may be one of the broken plug-in.
    assert "no notifier serves" not in said.out


def test_working_directory_is_on_the_path(tmp_path: Path, on_sqlite: Console) -> None:
    """The program finds a module in the working directory."""
    shutil.copy(PAGER, tmp_path / "pager.py")
    env = on_sqlite.env | {"ESC_PLUGINS": "pager:notifier", "PAGER_FILE_NAME": str(tmp_path / "pages")}
    said = finish(start("test-page", "sms:dev", env=env, cwd=tmp_path, code="import sys; sys.path.remove('')"))
    assert (0, "") == (said.code, said.err)
    assert "sms:dev: delivered" in said.out
