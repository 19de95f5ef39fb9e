"""Constructors refuse invalid values with one error that names the field."""

import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from escalation_adapters.auth.client_address import networks
from escalation_adapters.auth.hmac_signature import HmacVerifier
from escalation_adapters.auth.rate_limit import Limit, MemoryLimiter
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.channels.pagerduty import PagerDutyNotifier
from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.ops import Limits, OpsHandler, Sessions, Signer
from escalation_adapters.ops.client import OpsClient
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import (
    BuiltinPolicy,
    Engine,
    Incident,
    InvalidValue,
    PauseSchedule,
    RetryPolicy,
    Route,
    Settings,
    SettingsError,
    SettingsRouter,
)
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
    BuiltinPolicy: {},
    Limit: {"count": 1},
    SlackNotifier: {"targets": {"a": "https://example.org/x"}},
    PagerDutyNotifier: {"targets": {"a": "k" * 32}},
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
    Sessions: {},
    OpsClient: {"url": "https://example.org/ops", "secret": "secret"},
    OpsHandler: {"engine": Engine(MemoryStore()), "signers": [Signer("secret")]},
    Engine: {"store": MemoryStore()},
}
SWITCHES = {"allow_http", "legacy", "legacy_signature"}
OBJECTS = {
    "session", "logger", "engine", "login", "limiter", "peer_limiter", "store", "router", "heartbeat", "meter_provider",
    "tracer_provider", "now",
}  # fmt: skip
"""These parameters take any object; a missing method shows when the object is used."""
FREE = SWITCHES | OBJECTS | {"warnings"}
"""Parameters that this test skips. Only the library gives ``warnings``."""


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_a_constructor_refuses_or_takes(made: Callable[..., object]) -> None:
    """A constructor takes any value of a field, or refuses it with the library's own error."""
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
    """A value that would fail later, or mean something else, is refused by the constructor."""
    made: list[tuple[Callable[[], object], str]] = [
        (lambda: Signer("secret", "ada"), "principal"),  # type: ignore[arg-type]
        (lambda: Signer(""), "secret"),
        (lambda: Limits(peer=60), "peer"),  # type: ignore[arg-type]
        (lambda: OpsHandler(Engine(MemoryStore()), signers=[Signer("s")], limits=60), "limits"),  # type: ignore[arg-type]
        (lambda: OpsHandler(Engine(MemoryStore()), signers=["s"]), "signers"),  # type: ignore[list-item]
        (lambda: Sessions("https://status.example.org"), "origins"),
        (lambda: OpsHandler(Engine(MemoryStore()), signers=[Signer("s")], sessions=True), "sessions"),  # type: ignore[arg-type]
        (lambda: OpsHandler(Engine(MemoryStore()), signers=[Signer("s")], sessions=Sessions()), "sessions"),
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
