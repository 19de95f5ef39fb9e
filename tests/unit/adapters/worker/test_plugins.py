"""Plug-ins: each kind is loaded, and each fault is reported at the start with the plug-in's name and a remedy."""

import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from escalation_adapters.worker import plugins as loading
from escalation_adapters.worker.plugin_records import Kind, Plugins
from escalation_adapters.worker.plugins import PluginContext, PluginsError, find_plugins, load_plugins
from escalation_core import Abilities, Budget, Delivered, InvalidValue, Outcome, Page, Route, Settings
from escalation_core.model import EVERY_KIND
from escalation_core.testing import RecordingNotifier, TellingNotifier

from .conftest import Install

HUSH = "hush-hush-hush"
NAME = "ESC_PLUGINS pager:make"


class Router:
    def route(self, incident: object, level: int) -> list[str]:
        return []


class Source:
    async def load(self) -> Mapping[str, Any]:
        return {}


class Heartbeat:
    async def beat(self) -> None:
        pass


def load(module: ModuleType, make: object, **fields: Any) -> Plugins:
    """Load the one plug-in ``pager:make``."""
    module.make = make  # type: ignore[attr-defined]
    return load_plugins(Settings(plugins=["pager:make"], **fields), {})


def fault(module: ModuleType, make: object, **fields: Any) -> str:
    """Return the problem of the one plug-in ``pager:make``."""
    with pytest.raises(PluginsError) as caught:
        load(module, make, **fields)
    assert {NAME} == set(caught.value.problems)
    assert HUSH not in str(caught.value)
    assert str(caught.value).startswith(f"1 plug-in is wrong:\n  {NAME}: ")
    problem = caught.value.problems[NAME]
    assert problem.remedy
    return problem


# --- what is loaded


def test_kind_is_told_by_the_methods(module: ModuleType) -> None:
    """A factory of ESC_PLUGINS may make any kind; its methods say which."""
    for make, part in (
        (lambda _: RecordingNotifier("sms:ops"), "notifiers"),
        (lambda _: Source(), "schedules"),
    ):
        assert 1 == len(getattr(load(module, make), part))
    assert isinstance(load(module, lambda _: Router()).router, Router)
    assert isinstance(load(module, lambda _: Heartbeat()).heartbeat, Heartbeat)
    none = load_plugins(Settings(), {})
    assert ([], [], [], None, None) == (none.loaded, none.notifiers, none.schedules, none.router, none.heartbeat)


def test_targets_and_budgets(module: ModuleType) -> None:
    """The targets and the budgets of notifiers are known without a page. A notifier gives no other target a budget."""
    notifier = TellingNotifier("sms:ops", "sms:dev")
    notifier.abilities = Abilities(budgets=dict.fromkeys(("sms:ops", "slack:ops"), Budget(rate=1)))
    found = load(module, lambda _: notifier)
    assert ["sms:ops", "sms:dev"] == found.targets
    assert {"sms:ops": Budget(rate=1)} == found.budgets


def test_abilities_are_read_once(module: ModuleType) -> None:
    """The budgets are those of the check: what the object raises later does not reach the program."""

    class Once(RecordingNotifier):
        reads = 0

        @property
        def abilities(self) -> Abilities:
            self.reads += 1
            if self.reads > 1:
                raise RuntimeError(HUSH)
            return Abilities(budgets={"sms:ops": Budget(rate=1)})

    found = load(module, lambda _: Once("sms:ops"))
    assert [{"sms:ops": Budget(rate=1)}] * 2 == [found.budgets, found.budgets]


def test_context(module: ModuleType, tmp_path: Path) -> None:
    """A factory gets the settings, the environment, and secrets from variables or files."""
    given: list[PluginContext] = []

    def make(context: PluginContext) -> RecordingNotifier:
        given.append(context)
        return RecordingNotifier("sms:ops")

    (tmp_path / "token").write_text(f"{HUSH}\n")
    (tmp_path / "empty").write_text("")
    module.make = make  # type: ignore[attr-defined]
    settings = Settings(plugins=["pager:make"])
    environ = {
        "PAGER_TOKEN_FILE": str(tmp_path / "token"),
        "PAGER_KEY": HUSH,
        "TWICE": HUSH,
        "TWICE_FILE": str(tmp_path / "token"),
        "BLANK": f" {HUSH}",
        "EMPTY_FILE": str(tmp_path / "empty"),
        "GONE_FILE": str(tmp_path / "gone"),
    }
    load_plugins(settings, environ)
    [context] = given
    assert (settings, environ) == (context.settings, context.environ)
    assert (HUSH, HUSH) == (context.secret("PAGER_TOKEN"), context.secret("PAGER_KEY"))
    assert HUSH not in repr(context)
    for name, said in {
        "MISSING": "MISSING: is not set; set it, or set MISSING_FILE to the path of a file",
        "TWICE": "TWICE: is set beside TWICE_FILE; set one of the two",
        "BLANK": "BLANK: is empty or has surrounding blanks; write the value alone, or leave the variable out",
        "EMPTY": "EMPTY: is empty or has surrounding blanks; write the value alone, or leave the variable out",
        "GONE": "GONE: GONE_FILE cannot be read (FileNotFoundError); name a UTF-8 file that this process may read",
    }.items():
        with pytest.raises(InvalidValue, match=f"^{re.escape(said)}$"):
            context.secret(name)


def test_attribute_may_have_dots(module: ModuleType) -> None:
    """A factory may be a method of a class."""

    class Pager:
        @staticmethod
        def make(_: PluginContext) -> RecordingNotifier:
            return RecordingNotifier("sms:ops")

    module.Pager = Pager  # type: ignore[attr-defined]
    assert ["sms:ops"] == load_plugins(Settings(plugins=["pager:Pager.make"]), {}).targets


def test_entry_points(install: Install, path: Path) -> None:
    """Entry points of installed distributions are loaded by themselves; their group says the kind."""
    (path / "kit.py").write_text(
        "from escalation_core.testing import RecordingNotifier\n"
        "class Both(RecordingNotifier):\n"
        "    def route(self, incident, level):\n"
        "        return []\n"
        "def make(context):\n"
        "    return Both('sms:ops')\n"
    )
    install("pager-kit", {"escalation.notifiers": {"sms": "kit:make"}, "other.group": {"x": "nothing:here"}})
    [plugin] = load_plugins(Settings(), {}).loaded
    assert ("entry point escalation.notifiers: sms of pager-kit", "notifier") == (plugin.name, plugin.kind)
    assert ("sms:ops",) == plugin.targets


@pytest.mark.parametrize("group", ["notifiers", "routers", "schedules", "heartbeats"])
def test_entry_point_of_another_kind(group: str, install: Install, path: Path) -> None:
    """An object that is not of its group's kind is refused, even if it is of another kind."""
    (path / "kit.py").write_text("class Made:\n    pass\ndef make(context):\n    return Made()\n")
    install("pager-kit", {f"escalation.{group}": {"it": "kit:make"}})
    found = find_plugins(Settings(), {})
    [(name, problem)] = found.problems.items()
    assert f"entry point escalation.{group}: it of pager-kit" == name
    assert "returned Made, which has no method" in problem


@pytest.mark.parametrize("value", ["nowhere:make", "nowhere", "kit:", "kit:make:x", "kit:make [extra]"])
def test_entry_point_that_cannot_be_imported(value: str, install: Install) -> None:
    """An entry point that cannot be imported is refused, and so is one that is not a name of a factory."""
    install("pager-kit", {"escalation.notifiers": {"sms": value}})
    with pytest.raises(PluginsError, match=r"entry point escalation\.notifiers: sms of pager-kit: .*; "):
        load_plugins(Settings(), {})


# --- faults of a factory


def test_factory_that_raises(module: ModuleType) -> None:
    """The message has the error's class and place, and no text, which may be a secret."""

    def make(_: PluginContext) -> None:
        raise KeyError(HUSH)

    said = fault(module, make)
    assert re.match(r"raised KeyError, .*test_plugins\.py:\d+; repair it; call the factory in a test", said)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_factory_that_ends_the_program(error: type[BaseException], module: ModuleType) -> None:
    """A factory cannot end the process, so that the message is printed."""

    def make(_: PluginContext) -> None:
        raise error

    assert fault(module, make).startswith(f"raised {error.__name__}, ")


def test_factory_that_refuses_its_variables(module: ModuleType) -> None:
    """Of an error of the library the message has the text, which holds no secret: it says which variable to set."""
    assert "SMS_TOKEN: is not set; set it, or set SMS_TOKEN_FILE to the path of a file" == fault(
        module, lambda context: context.secret("SMS_TOKEN")
    )


def test_factory_that_hangs(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory that does not return is given up, and its thread does not keep the process from ending."""
    monkeypatch.setattr(loading, "FACTORY_TIMEOUT", 0.01)
    end, threads = threading.Event(), []

    def make(_: PluginContext) -> None:
        threads.append(threading.current_thread())
        end.wait()

    try:
        assert "has not returned within 0.01 s; connect at the first call that needs it, not in the factory" == fault(
            module, make
        )
        assert [True] == [thread.daemon for thread in threads]
    finally:
        end.set()
        threads[0].join()


async def later(_: PluginContext) -> RecordingNotifier:
    return RecordingNotifier("sms:ops")


class Named:
    """A notifier whose parts a test replaces."""

    channel: object = "sms"
    targets: object = ("sms:ops",)

    def __init__(self, **parts: object) -> None:
        vars(self).update(parts)

    async def send(self, page: Page) -> Outcome:
        return Delivered()

    async def aclose(self) -> None:
        pass


class Raises(Named):
    @property
    def targets(self) -> object:  # type: ignore[override]
        raise RuntimeError(HUSH)


class Blocking(Named):
    def send(self, page: Page) -> Outcome:  # type: ignore[override]
        return Delivered()


class AsyncRouter:
    async def route(self, incident: object, level: int) -> list[str]:
        return []


WRONG: dict[str, tuple[object, str]] = {
    "None": (None, "returned None; return one object: a notifier, a router, a schedule source or a heartbeat"),
    "a number": (5, "returned int, which has none of the methods send, route, load, "),
    "a list": ([RecordingNotifier("a")], "returned list, which has none of the methods"),
    "a class": (RecordingNotifier, "returned the type RecordingNotifier; return"),
    "a module": (re, "returned the module re; return"),
    "a function": (later, "returned the function later; return"),
    "two kinds": (type("Both", (Router, Source), {})(), "returned Both, which has the methods route and load; name"),
    "a mock": (MagicMock(), "returned MagicMock, which has the methods send and route and load and "),
    "no channel": (Named(channel=None), "returned a notifier whose channel is NoneType; give a str"),
    "an empty channel": (Named(channel=""), "returned a notifier whose channel has no name; name the channel"),
    "no targets": (Named(targets=()), "returned a notifier without targets; name its targets, or take"),
    "a text for targets": (Named(targets="sms"), "returned a notifier whose list of targets is str; give a list"),
    "a URL for a target": (Named(targets=[f"https://{HUSH}"]), "returned a notifier whose list of targets has a URL"),
    "targets that raise": (Raises(), "returned an object that raises RuntimeError, "),
    "bad abilities": (Named(abilities=5), "returned a notifier with wrong abilities: the abilities of Named are int"),
    "a missing method": (Named(abilities=Abilities(bundles=True)), "returned a notifier with wrong abilities: Named "),
    "a blocking tell": (
        Named(abilities=Abilities(notices=EVERY_KIND), tell=dict), "returned Named, whose tell is not async"
    ),
    "no aclose": (SimpleNamespace(channel="sms", targets=["a"], send=later), "returned SimpleNamespace, which has no"),
    "a blocking send": (Blocking(), "returned Blocking, whose send is not async; write async def send"),
    "an async router": (AsyncRouter(), "returned a router whose route is asynchronous; write def route"),
    "a blocking source": (SimpleNamespace(load=dict), "returned SimpleNamespace, whose load is not async"),
    "a blocking heartbeat": (SimpleNamespace(**{Kind.HEARTBEAT.method: dict}), "returned SimpleNamespace, whose "),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_object(case: str, module: ModuleType) -> None:
    """A factory that returns something else is refused at the start, and not at the first page."""
    made, said = WRONG[case]
    assert fault(module, lambda _: made).startswith(said)


def test_asynchronous_factory(module: ModuleType) -> None:
    """A factory must be synchronous; its coroutine is closed, so Python does not warn of it."""
    assert "is asynchronous; write def, not async def; connect at the first call that needs it" == fault(module, later)


def test_decorated_send_is_asynchronous(module: ModuleType) -> None:
    """A decorator that uses functools.wraps hides nothing."""

    def traced(send: Callable[[Any, Page], Awaitable[Outcome]]) -> Callable[[Any, Page], Awaitable[Outcome]]:
        @wraps(send)
        def call(self: Any, page: Page) -> Awaitable[Outcome]:
            return send(self, page)

        return call

    class Traced(Named):
        send = traced(Named.send)  # type: ignore[assignment]

    assert ["sms:ops"] == load(module, lambda _: Traced()).targets


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing:make", "the module missing does not exist; correct the name, install its package, or start in"),
        ("missing.pager:make", "the module missing does not exist; "),
        ("found.missing:make", "the module found.missing does not exist; "),
        ("found:missing", "the module found has no 'missing'; correct the name"),
        ("found:VALUE", "is int; name a function that takes the context"),
        ("needs:make", "the module needs needs no_such_package, which is missing; install it"),
        ("breaks:make", "importing breaks raised ValueError, "),
        ("ends:make", "importing ends raised SystemExit, "),
        ("wants:make", "the module wants cannot be imported (SMS_URL: is not set; set it); repair it"),
        ("lazy:make", "reading 'make' raised ValueError, "),
        ("typo:make", "importing typo raised SyntaxError, "),
    ],
)
def test_module_that_cannot_be_imported(name: str, said: str, path: Path) -> None:
    """The message says whether the name is wrong, a package is missing, or the module itself is broken."""
    for file, text in {
        "found.py": "VALUE = 5\n",
        "needs.py": "import no_such_package\n",
        "breaks.py": f"raise ValueError('{HUSH}')\n",
        "ends.py": "raise SystemExit(3)\n",
        "wants.py": "from escalation_core import InvalidValue\nraise InvalidValue('SMS_URL', 'is not set', 'set it')\n",
        "lazy.py": f"def __getattr__(name):\n    raise ValueError('{HUSH}')\n",
        "typo.py": "def make(:\n",
    }.items():
        (path / file).write_text(text)
    with pytest.raises(PluginsError) as caught:
        load_plugins(Settings(plugins=[name]), {})
    assert caught.value.problems[f"ESC_PLUGINS {name}"].startswith(said)
    assert HUSH not in str(caught.value)


# --- plug-ins that do not fit together


def test_two_for_one_target(module: ModuleType) -> None:
    """Of two notifiers for one target the message has both names; so do two routers and two heartbeats."""
    for part, what in (
        (lambda: RecordingNotifier("sms:ops"), "target 'sms:ops'"),
        (Router, "router"),
        (Heartbeat, "heartbeat"),
    ):
        module.one = module.two = lambda _, part=part: part()  # type: ignore[attr-defined]
        with pytest.raises(PluginsError) as caught:
            load_plugins(Settings(plugins=["pager:one", "pager:two"]), {})
        expected = f"there are two for the {what}: this plug-in and ESC_PLUGINS pager:one; leave one of them out"
        assert {"ESC_PLUGINS pager:two": expected} == caught.value.problems


def test_a_plugin_beside_settings(module: ModuleType) -> None:
    """Settings take their targets, the router's place and the heartbeat's."""
    url = "https://hooks.example.org/x"
    for made, fields, what, owner in (
        (RecordingNotifier("slack:ops"), {"targets": {"slack:ops": url}}, "target 'slack:ops'", "ESC_TARGETS"),
        (RecordingNotifier("log"), {}, "target 'log'", "the library"),
        (Router(), {"routes": [Route(targets=["log"])]}, "router", "ESC_ROUTES"),
        (Heartbeat(), {"heartbeat_url": url}, "heartbeat", "ESC_HEARTBEAT_URL"),
    ):
        expected = f"there are two for the {what}: this plug-in and {owner}; leave one of them out"
        assert expected == fault(module, lambda _, made=made: made, **fields)


def test_several_schedule_sources(module: ModuleType) -> None:
    """Any number of sources may be loaded."""
    module.one = module.two = lambda _: Source()  # type: ignore[attr-defined]
    assert 2 == len(load_plugins(Settings(plugins=["pager:one", "pager:two"]), {}).schedules)


def test_all_faults_at_once(module: ModuleType) -> None:
    """The error lists every plug-in that is wrong; for a command that sends nothing, the others are loaded."""
    module.good, module.bad = lambda _: RecordingNotifier("sms:ops"), lambda _: None  # type: ignore[attr-defined]
    settings = Settings(plugins=["pager:bad", "pager:good", "pager:worse"])
    with pytest.raises(
        PluginsError, match=r"^2 plug-ins are wrong:\n  ESC_PLUGINS pager:bad: .*\n  ESC_PLUGINS pager:wo"
    ):
        load_plugins(settings, {})
    found = find_plugins(settings, {})
    assert ["sms:ops"] == found.targets
    assert ["ESC_PLUGINS pager:bad", "ESC_PLUGINS pager:worse"] == list(found.problems)


def test_router_that_is_empty(module: ModuleType) -> None:
    """A router that is false in a condition is still the router."""

    class Empty(Router):
        def __len__(self) -> int:
            return 0

    assert isinstance(load(module, lambda _: Empty()).router, Empty)
