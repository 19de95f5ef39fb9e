"""Values that no caller means: constructors refuse them with one clear error, and text shows what is in it."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from escalation_adapters.auth.client_address import networks
from escalation_adapters.auth.hmac_signature import HmacVerifier
from escalation_adapters.auth.rate_limit import Limit, MemoryLimiter
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.channels.slack import SlackNotifier, render
from escalation_adapters.ops import Limits, OpsHandler, Signer
from escalation_adapters.ops.client import OpsClient
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import (
    Engine,
    EscalationPolicy,
    Incident,
    InvalidValue,
    Page,
    PauseSchedule,
    RetryPolicy,
    Route,
    Settings,
    SettingsError,
    SettingsRouter,
)
from escalation_core.checks import visible
from escalation_core.testing import ManualClock, MemoryStore

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ODD: tuple[object, ...] = (
    None, [["a"]], [None], 1, -1, 1.5, b"x", True, {"a": [1]}, {1: 2}, "", "x\0", "\ud800", object(),
    timedelta(), timedelta.max, float("nan"), ("a", 1), {}, set(), "x" * 10_000, NOW, NOW.replace(tzinfo=None), 10**40,
)  # fmt: skip
MADE: Mapping[Callable[..., object], Mapping[str, object]] = {
    Principal: {"id": "eve"},
    Route: {"targets": ("a",)},
    Incident: {"incident_key": "k", "first_seen": NOW},
    RetryPolicy: {},
    EscalationPolicy: {},
    Limit: {"count": 1},
    SlackNotifier: {"targets": {"a": "https://example.org/x"}},
    HttpHeartbeat: {"url": "https://example.org/x"},
    HmacVerifier: {"secrets": ["whsec_c2VjcmV0"]},
    Settings: {},
    LogNotifier: {},
    ManualClock: {},
    MemoryLimiter: {},
    PauseSchedule: {"cron": "0 22 * * *", "duration": 60},
    SettingsRouter: {},
    Signer: {"secret": "secret"},
    Limits: {},
    OpsClient: {"url": "https://example.org/ops", "secret": "secret"},
    OpsHandler: {"engine": Engine(MemoryStore()), "signers": [Signer("secret")]},
    Engine: {"store": MemoryStore()},
}
SWITCHES = {"allow_http", "legacy", "legacy_signature"}
OBJECTS = {
    "session", "logger", "engine", "login", "limiter", "peer_limiter", "store", "router", "heartbeat", "meter_provider",
    "tracer_provider", "now",
}  # fmt: skip
"""Whatever has the right methods: what has not is found when it is used."""
FREE = SWITCHES | OBJECTS | {"warnings"}
"""What is not looked at. Warnings are the library's own."""


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_a_constructor_refuses_or_takes(made: Callable[..., object]) -> None:
    """Whatever a field is given, it is taken, or refused with the library's own error."""
    fields = [name for name in inspect.signature(made).parameters if name not in FREE]
    assert fields
    refused: list[str] = []
    for name in fields:
        for odd in ODD:
            try:
                made(**{**MADE[made], name: odd})
            except (InvalidValue, SettingsError) as error:
                refused.append(str(error))
    assert max(map(len, refused)) < 1000


def test_what_is_used_later_is_refused_at_once() -> None:
    """What would fail in the middle of a request, or be taken for something else, makes no object at all."""
    made: list[tuple[Callable[[], object], str]] = [
        (lambda: Signer("secret", "ada"), "principal"),  # type: ignore[arg-type]
        (lambda: Signer(""), "secret"),
        (lambda: Limits(peer=60), "peer"),  # type: ignore[arg-type]
        (lambda: OpsHandler(Engine(MemoryStore()), signers=[Signer("s")], limits=60), "limits"),  # type: ignore[arg-type]
        (lambda: OpsHandler(Engine(MemoryStore()), signers=["s"]), "signers"),  # type: ignore[list-item]
        (lambda: OpsHandler(Engine(MemoryStore()), signers=[Signer("s")], proxies="unix"), "proxies"),
        (lambda: networks([1]), "proxies"),  # type: ignore[list-item]
        (lambda: OpsClient("example.org/ops", secret="s"), "url"),
        (lambda: OpsClient("https://example.org/", secret="s", headers={"a": 1}), "headers['a']"),  # type: ignore[dict-item]
        (lambda: Engine(MemoryStore(), notifiers=LogNotifier()), "notifiers"),  # type: ignore[arg-type]
        (lambda: Engine(MemoryStore(), settings={}), "settings"),  # type: ignore[arg-type]
        (lambda: SettingsRouter([{"targets": ["a"]}]), "routes"),  # type: ignore[list-item]
    ]
    for make, field in made:
        with pytest.raises(InvalidValue, match=r"; (give|write) ") as caught:
            make()
        assert field == caught.value.field


@pytest.mark.parametrize("roles", [None, [["a"]], 7])
def test_roles_that_are_none_are_refused(roles: Any) -> None:
    """The message names the field and the remedy."""
    with pytest.raises(InvalidValue, match=r"roles: .*give "):
        Principal("eve", roles)


INVISIBLE = {
    "\x07": "\\x07",
    "\x7f": "\\x7f",
    "\x9f": "\\x9f",
    "\u202e": "\\u202e",
    "\u2066": "\\u2066",
    "\u200b": "\\u200b",
    "\u200f": "\\u200f",
    "\ufeff": "\\ufeff",
    "\u2060": "\\u2060",
    "\U000e0041": "\\U000e0041",
}


@pytest.mark.parametrize("char", INVISIBLE, ids=lambda char: f"{ord(char):x}")
def test_what_is_invisible_shows(char: str) -> None:
    """In Slack as in a terminal each such character is an escape; nothing on the key's line is reordered."""
    assert f"a{INVISIBLE[char]}b" == visible(f"a{char}b")
    fields: dict[str, Any] = {"severity": f"s{char}s", "summary": f"t{char}t", "labels": {f"n{char}n": f"v{char}v"}}
    if not "\x00" <= char <= "\x9f":
        fields["incident_key"] = f"k{char}k"
    incident = Incident(**{"incident_key": "k", "first_seen": NOW, **fields})
    shown = render(Page(incident=incident, episode=1, level=1, target="t", dedup_key="d"))
    assert char not in shown
    assert f"t{INVISIBLE[char]}t\n" in shown
    assert f"Incident {visible(incident.incident_key)}, severity" in shown
    assert f"n{INVISIBLE[char]}n=v{INVISIBLE[char]}v" in shown
    assert f"severity s{INVISIBLE[char]}s" in shown


@pytest.mark.parametrize("blank", ["  ", "\xa0", "\u2028", "\u3000"])
def test_two_keys_never_look_alike_by_white_space(blank: str) -> None:
    """White space of a summary is folded; of a key none is."""
    incident = Incident(incident_key=f"a{blank}b", first_seen=NOW, summary=f"a{blank}b\n")
    summary, key = render(Page(incident=incident, episode=1, level=1, target="t", dedup_key="d")).splitlines()
    assert "a b" == summary
    assert f"Incident a{visible(blank)}b, severity" in key
    assert "Incident a b, severity" not in key


def test_what_is_visible_stays() -> None:
    """Letters of other scripts, accents and pictures are no escapes."""
    assert visible("\N{WARNING SIGN}\ufe0f") == "\N{WARNING SIGN}\ufe0f"
    assert visible("\U0001f469\u200d\U0001f467") == "\U0001f469\\u200d\U0001f467"
    assert visible("Ådne ключ ディスク \U0001f4df é") == "Ådne ключ ディスク \U0001f4df é"


def test_a_log_line_shows_it_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """The log notifier writes one line, and nothing in it steers a terminal."""
    incident = Incident(incident_key="k\u202ek", first_seen=NOW, summary="a\nb\x1b[31m")
    page = Page(incident=incident, episode=1, level=1, target="t", dedup_key="d")
    asyncio.run(LogNotifier().send(page))
    (record,) = caplog.records
    assert record.getMessage().isprintable()


def test_a_page_is_one_line_of_bounded_length(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a host writes, and however much of it."""
    huge = "\u202e" * 20_000
    incident = Incident(incident_key="k", first_seen=NOW, severity=huge, summary=huge, labels={huge: huge})
    asyncio.run(LogNotifier().send(Page(incident=incident, episode=1, level=1, target="t", dedup_key="d")))
    (record,) = caplog.records
    assert len(record.getMessage()) < 4000


@pytest.mark.parametrize("labels", [{"n" * 60_000: "\ud800"}, {"n" * 60_000: 7}])
def test_an_error_quotes_so_much_of_a_host(labels: dict[str, Any]) -> None:
    """What health, the log and the audit show of a row that cannot be read has a bound."""
    with pytest.raises(InvalidValue) as caught:
        Incident(incident_key="k", first_seen=NOW, labels=labels)
    assert len(str(caught.value)) < 700
    assert "give " in str(caught.value)


async def test_a_long_severity_is_cut_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A line has a bound, whatever hosts call their severities."""
    caplog.set_level(logging.WARNING)
    async with Engine(MemoryStore()) as engine:
        await engine.open("k", severity="s" * 10_000, first_seen=await engine.now() - timedelta(hours=1))
        report = await engine.tick()
    assert ["s" * 99 + "…"] == list(report.unconfigured)
    assert max(len(record.getMessage()) for record in caplog.records) < 1000
