"""The operators' endpoints, the same suite on every binding: who gets in, what it does, and what bad input gets."""

import asyncio
import contextlib
import gzip
import json
import logging
import socket
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession, UnixConnector, web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from escalation_adapters.auth.hmac_signature import mac
from escalation_adapters.auth.rate_limit import Decision, Limit, MemoryLimiter
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.ops import Limits, OpsHandler, Request, Signer
from escalation_adapters.ops.asgi import OpsASGI
from escalation_adapters.ops.http import ops_app
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.limiter import PostgresLimiter
from escalation_adapters.postgres.pool import Pool
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import Engine, Health, InvalidValue, Settings, StoreUnavailable
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .service import BINDINGS, OLD_SECRET, SECRET, USERS, Answer, Headers, Service, cookie, listening, mounted, serving

MINUTE = timedelta(minutes=1)
ACTIONS: dict[str, dict[str, Any]] = {
    "tick": {},
    "recalc": {},
    "pause": {"minutes": 60},
    "resume": {},
    "drain": {"incident_key": "k"},
    "acknowledge": {"incident_key": "k"},
    "resolve": {"incident_key": "k"},
}
WEBHOOK = "https://hooks.example.org/T0K3N"
SETTINGS = Settings(
    ops_hmac_secret=SECRET,
    ops_hmac_secret_previous=OLD_SECRET,
    targets={"test": WEBHOOK},
    snooze=timedelta(),
)


def engine_of(clock: ManualClock, store: MemoryStore | None = None) -> Engine:
    store = store or MemoryStore(clock)
    return Engine(store, settings=SETTINGS, notifiers=[RecordingNotifier("test")])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2025, 1, 1, 12, tzinfo=UTC))


@pytest.fixture(params=BINDINGS)
async def service(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Service]:
    """A service with one critical incident ``k`` at level 1."""
    engine = engine_of(clock)
    await engine.open("k", severity="critical", summary="Disk nearly full", by="monitoring")
    clock.advance(5 * MINUTE)
    await engine.tick()
    async with serving(request.param, engine, clock) as running:
        yield running


def is_problem(answer: Answer, status: int, field: str | None = None) -> bool:
    """Check a problem document: its type, its status, the field that it names, and that no secret is in it."""
    document = answer.json
    assert "application/problem+json" == answer.headers["content-type"], answer
    assert (status, status) == (answer.status, document["status"]), answer
    assert field == document.get("field"), answer
    assert {"type", "title", "status", "detail"} <= set(document)
    for hidden in (SECRET, OLD_SECRET, "T0K3N", "Traceback"):
        assert hidden not in repr(answer)
    return True


async def picture(service: Service) -> tuple[Any, ...]:
    """Return what an action could change."""
    history = await service.engine.history("k")
    return history.incident, len(history.escalations), len(await service.engine.audit(datetime(2000, 1, 1, tzinfo=UTC)))


# --- what the actions do


async def test_tick(service: Service) -> None:
    """It records what is due, delivers it, answers with the seed's count, and leaves who it was in the audit."""
    service.clock.advance(5 * MINUTE)
    dry = await service.act("tick", dry_run=True)
    assert (200, 1, True) == (dry.status, dry.json["escalations"], dry.json["dry_run"])
    answer = await service.act("tick", reason="is it alive?")
    assert (200, 1, 1) == (answer.status, answer.json["escalations"], answer.json["delivery"]["delivered"])
    assert 0 == (await service.act("tick")).json["escalations"]
    [first, last] = [e for e in await service.engine.audit(service.clock() - MINUTE) if e.action == "tick"]
    assert ("ada", None, "is it alive?") == (last.actor, last.reason, first.reason)


async def test_recalc_is_asked_for(service: Service) -> None:
    """It answers 202 at once; the workers do it with their next tick."""
    answer = await service.act("recalc", reason="the SLA changed")
    [asked] = [e for e in await service.engine.audit(service.clock()) if e.action == "recalc"]
    assert ("recalc", "ada", "the SLA changed") == (asked.action, asked.actor, asked.reason)
    assert (202, True) == (answer.status, answer.json["recalc"]["running"])
    service.clock.advance(MINUTE)
    await service.engine.tick()
    assert (await service.engine.health()).recalc.finished_at is not None


async def test_pause_and_resume(service: Service) -> None:
    """A pause has an end, holds every worker, is told by health with who and why, and ends with a resume."""
    answer = await service.act("pause", minutes=60, reason="deploying")
    assert {"paused_until": (service.clock() + 60 * MINUTE).isoformat()} == answer.json
    service.clock.advance(30 * MINUTE)
    assert 0 == (await service.act("tick")).json["escalations"]
    health = (await service.get("/health")).json
    assert ("paused", "ada", "deploying") == (health["mode"], health["pausedBy"], health["pauseReason"])
    assert {"ended": 1, "schedule_lifted_until": None} == (await service.act("resume", override_schedule=True)).json
    assert 1 == (await service.act("tick")).json["escalations"]
    until = (service.clock() + 24 * 60 * MINUTE).isoformat()
    assert until == (await service.act("pause", until=until.replace("+00:00", "Z"))).json["paused_until"]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_resume_lifts_the_schedule_if_asked(binding: str, clock: ManualClock) -> None:
    """A scheduled pause outlasts a plain resume; ``override_schedule`` lifts it until it would have ended."""
    schedule = attrs.evolve(SETTINGS, pause_cron="0 11 * * *", pause_length=120 * MINUTE, warnings=())
    engine = Engine(MemoryStore(clock), settings=schedule, notifiers=[RecordingNotifier("test")])
    await engine.open("k", severity="critical", first_seen=clock() - 5 * MINUTE)
    async with serving(binding, engine, clock) as service:
        kept = await service.act("resume", override_schedule=False)
        assert {"ended": 0, "schedule_lifted_until": None} == kept.json
        assert ("paused", 0) == ((held := (await service.act("tick")).json)["mode"], held["escalations"])
        lifted = await service.act("resume", override_schedule=True)
        assert {"ended": 0, "schedule_lifted_until": (clock() + 60 * MINUTE).isoformat()} == lifted.json
        assert ("open", 1) == ((free := (await service.act("tick")).json)["mode"], free["escalations"])


async def test_reasons_are_kept(service: Service) -> None:
    """Every action's reason is in the audit, beside who did it."""
    for action, fields in ACTIONS.items():
        answer = await service.act(action, **fields, reason=f"why {action}")
        assert answer.status in (200, 202)
    found = {entry.action: entry for entry in await service.engine.audit(service.clock())}
    for action in ACTIONS:
        assert ("ada", True) == (found[action].actor, (found[action].reason or "").endswith(f"why {action}")), action


async def test_drain_acknowledge_resolve(service: Service) -> None:
    """Each answers with the incident as it stands, and leaves who, what and why in the audit."""
    drained = (await service.act("drain", incident_key="k", reason="page again")).json["incident"]
    assert (0, 2, "open") == (drained["level"], drained["episode"], drained["state"])
    acked = (await service.act("acknowledge", incident_key="k", reason="on it")).json["incident"]
    assert ("acknowledged", "ada") == (acked["state"], acked["acknowledged_by"])
    assert "resolved" == (await service.act("resolve", incident_key="k")).json["incident"]["state"]
    found = {entry.action: (entry.actor, entry.reason) for entry in await service.engine.audit(service.clock())}
    assert (("ada", "page again"), ("ada", "on it")) == (found["drain"], found["acknowledge"])
    assert is_problem(await service.act("drain", incident_key="k"), 409, "incident_key")
    assert is_problem(await service.act("acknowledge", incident_key="nobody's"), 404, "incident_key")


# --- views


async def test_health(service: Service) -> None:
    """Nobody sees whether it is green, and no more; who may read sees all; 503 when nobody ticks."""
    for user in (None, "eve"):
        assert (200, {"ok": True}) == ((answer := await service.get("/health", user)).status, answer.json)
    seen = (await service.get("/health", "bob")).json
    assert {"ok", "enabled", "v1", "canaryPct", "tickLagMs", "oldestOverdueMs", "backlog", "dead"} <= set(seen)
    service.clock.advance(3 * MINUTE)
    red = await service.get("/health", None)
    assert (503, {"ok": False}) == (red.status, red.json)
    assert (503, 180_000) == ((red := await service.get("/health")).status, red.json["tickLagMs"])
    await service.act("pause", minutes=5)
    assert 200 == (await service.get("/health", None)).status


async def test_probes_cost_no_counting(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may see the light alone makes the database count nothing, however often they ask."""

    async def count() -> Health:
        raise AssertionError("something was counted")

    monkeypatch.setattr(service.engine, "health", count)
    assert (200, {"ok": True}) == ((green := await service.get("/health", None)).status, green.json)
    service.clock.advance(3 * MINUTE)
    assert (503, {"ok": False}) == ((red := await service.get("/health", None)).status, red.json)
    assert is_problem(await service.get("/health"), 503)


async def test_audit_in_pages(service: Service) -> None:
    """Entries come newest first, a page at a time, each once; the last page names no next one."""
    for _ in range(3):
        service.clock.advance(MINUTE)
        await service.act("pause", minutes=5)
    whole = (await service.get("/audit?since=24h&limit=1000", "bob")).json
    assert None is whole["next"]
    found: list[Any] = []
    following = "0"
    while following is not None:
        after = f"&after={following}" if found else ""
        page = (await service.get(f"/audit?since=24h&limit=2{after}", "bob")).json
        found += page["entries"]
        following = page["next"]
    assert whole["entries"] == found
    assert ["pause"] * 3 == [entry["action"] for entry in found[:3]]
    assert {"escalate", "open", "page delivered"} <= {entry["action"] for entry in found}
    since = service.clock().isoformat().replace("+", "%2B")
    assert 1 == len((await service.get(f"/audit?since={since}")).json["entries"])


@pytest.mark.parametrize("key", ["k", "a b", "ключ/🔥?&=#%", "../health", "k\u2028k"])
async def test_incident(service: Service, key: str) -> None:
    """One incident's state, escalations, pages and history, whatever its key."""
    from urllib.parse import quote

    await service.engine.open(key, severity="critical")
    service.clock.advance(5 * MINUTE)
    await service.engine.tick()
    seen = (await service.get(f"/incident?key={quote(key, safe='')}", "bob")).json
    assert (key, "open") == (seen["incident"]["incident_key"], seen["incident"]["state"])
    assert "delivered" == seen["pages"][-1]["state"]
    assert {"open", "escalate"} <= {entry["action"] for entry in seen["audit"]}
    assert seen["incident"]["level"] == seen["escalations"][-1]["level"]


# --- who gets in


@pytest.mark.parametrize("action", ACTIONS)
async def test_rbac_denies_non_ops(service: Service, action: str) -> None:
    """A right signature without the role changes nothing: nobody 401, anybody else 403."""
    before = await picture(service)
    assert is_problem(await service.act(action, user=None, **ACTIONS[action]), 401)
    for user in ("bob", "eve"):
        assert is_problem(await service.act(action, user=user, **ACTIONS[action]), 403)
    assert before == await picture(service)
    assert 200 <= (await service.act(action, **ACTIONS[action])).status < 300


@pytest.mark.parametrize("path", ["/audit", "/incident?key=k"])
async def test_views_need_the_read_role(service: Service, path: str) -> None:
    """Details are for those with the read role."""
    assert is_problem(await service.get(path, None), 401)
    assert is_problem(await service.get(path, "eve"), 403)
    assert 200 == (await service.get(path, "bob")).status


@pytest.mark.parametrize("action", ACTIONS)
async def test_hmac_rejects_tampered_body(service: Service, action: str) -> None:
    """Whatever is not signed to the letter is 401, names the header, and changes nothing."""
    before = await picture(service)
    body = json.dumps({"action": action, **ACTIONS[action]}).encode()
    good = dict(service.signed(body))
    stamp = [(name, value) for name, value in good.items() if name != "webhook-timestamp"]
    wrong: dict[str, tuple[Headers, bytes, str]] = {
        "tampered": (list(good.items()), body.replace(b" ", b""), "webhook-signature"),
        "unsigned": ([("content-type", "application/json")], body, "webhook-id"),
        "another secret": (service.signed(body, secret="x" * 40), body, "webhook-signature"),
        "stale": (service.signed(body, age=301), body, "webhook-timestamp"),
        "stale, the old secret's": (service.signed(body, age=301, secret=OLD_SECRET), body, "webhook-timestamp"),
        "future": (service.signed(body, age=-301), body, "webhook-timestamp"),
        "no timestamp": (stamp, body, "webhook-timestamp"),
        "no number": ([*stamp, ("webhook-timestamp", "now")], body, "webhook-timestamp"),
        "no id": ([("webhook-id", "a.b"), *list(good.items())[2:]], body, "webhook-id"),
        "two signatures": (
            [*good.items(), ("webhook-signature", good["webhook-signature"])],
            body,
            "webhook-signature",
        ),
        "two ids": ([*good.items(), ("Webhook-Id", "other")], body, "webhook-id"),
        "garbage": ([*service.signed(body)[:3], ("webhook-signature", "v1,\xff\xfe=")], body, "webhook-signature"),
        "the seed's header": ([("x-signature", mac(SECRET.encode(), body).hex())], body, "webhook-id"),
    }
    for name, (headers, sent, field) in wrong.items():
        answer = await service.send("POST", f"/{action}", [*headers, *cookie("ada")], sent)
        assert is_problem(answer, 401, field), name
    assert before == await picture(service)


async def test_both_secrets_count(service: Service) -> None:
    """While the secret is rotated the one before counts as well."""
    body = b'{"action": "tick"}'
    headers = [*service.signed(body, secret=OLD_SECRET), *cookie("ada")]
    assert 200 == (await service.send("POST", "/tick", headers, body)).status


async def test_captured_request_is_of_no_use(service: Service) -> None:
    """The same request a second time is 401, in any worker; and it serves no other route."""
    body = b'{"action": "pause", "minutes": 5}'
    headers = [*service.signed(body), *cookie("ada")]
    assert 200 == (await service.send("POST", "/pause", headers, body)).status
    assert is_problem(await service.send("POST", "/pause", headers, body), 401, "webhook-id")
    other = engine_of(service.clock, service.engine.store)  # type: ignore[arg-type]
    async with serving("aiohttp", other, service.clock) as elsewhere:
        assert is_problem(await elsewhere.send("POST", "/pause", headers, body), 401, "webhook-id")
    fresh = [*service.signed(b'{"action": "resume"}'), *cookie("ada")]
    assert is_problem(await service.send("POST", "/tick", fresh, b'{"action": "resume"}'), 422, "action")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_captured_request_is_of_no_use_at_its_end(binding: str) -> None:
    """The id is remembered for longer than the timestamp verifies, even while the clock moves between the two looks."""

    class Moving(ManualClock):
        step = timedelta()

        def __call__(self) -> datetime:
            now = super().__call__()
            self.set(now + self.step)
            return now

    clock = Moving()
    async with serving(binding, engine_of(clock), clock) as service:
        body = b'{"action": "pause", "minutes": 5}'
        headers = [*service.signed(body), *cookie("ada")]
        signed_at = clock()
        assert 200 == (await service.send("POST", "/pause", headers, body)).status
        for seconds in (299.999, 300, 301):
            clock.set(signed_at + timedelta(seconds=seconds))
            clock.step = timedelta(milliseconds=2)
            answer = await service.send("POST", "/pause", headers, body)
            assert is_problem(answer, 401, "webhook-id" if seconds <= 300 else "webhook-timestamp")
            clock.step = timedelta()


@pytest.mark.parametrize("binding", BINDINGS)
async def test_secret_that_is_a_login(binding: str, clock: ManualClock) -> None:
    """A secret with a principal of its own needs no other login, and no more roles than it was given."""
    cron = Signer("c" * 40, Principal("cron", {"ops_admin"}))
    async with serving(binding, engine_of(clock), clock, login=None, signers=[Signer(SECRET), cron]) as service:
        body = b'{"action": "tick"}'
        signed = service.signed(body, secret="c" * 40)
        assert 200 == (await service.send("POST", "/tick", signed, body)).status
        assert is_problem(await service.send("POST", "/tick", service.signed(body), body), 401)
        [entry] = await service.engine.audit(clock())
        assert "cron" == entry.actor


@pytest.mark.parametrize("binding", BINDINGS)
async def test_seeds_signature_when_switched_on(binding: str, clock: ManualClock) -> None:
    """X-Signature over the raw body counts if it was asked for."""
    async with serving(binding, engine_of(clock), clock, legacy_signature=True) as service:
        body = b'{"action": "tick"}'
        headers = [("x-signature", mac(SECRET.encode(), body).hex()), ("content-type", "application/json")]
        assert 200 == (await service.send("POST", "/tick", [*headers, *cookie("ada")], body)).status
        assert is_problem(
            await service.send("POST", "/tick", [*headers, *cookie("ada")], body + b" "), 401, "x-signature"
        )
        twice = [headers[0], *headers, *cookie("ada")]
        assert is_problem(await service.send("POST", "/tick", twice, body), 401, "x-signature")


def test_without_a_secret_nothing_is_served(clock: ManualClock) -> None:
    """A handler without a secret is an error at once, which says what to set."""
    with pytest.raises(InvalidValue, match="set OPS_HMAC_SECRET"):
        OpsHandler(Engine(MemoryStore(clock)))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_login_may_be_a_coroutine_and_must_give_a_principal(binding: str, clock: ManualClock) -> None:
    """An async login is awaited; one that answers anything but a Principal admits nobody."""

    async def known(native: Any) -> Principal:
        return Principal("ada", {"ops_admin"})

    for login, status in ((known, 200), (lambda native: "ada", 401), (lambda native: {"roles": ["ops_admin"]}, 401)):
        async with serving(binding, engine_of(clock), clock, login=login) as service:
            assert status == (await service.act("tick", user=None)).status


# --- bad input

BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "body"),
    (b"nonsense", 400, "body"),
    (b"\xff\xfe", 400, "body"),
    (b"[]", 400, "body"),
    (b'"pause"', 400, "body"),
    (b'{"action": "pause", "minutes": NaN}', 400, "body"),
    (b'{"action": "pause", "minutes": -Infinity}', 400, "body"),
    (b'{"action": "pause", "minutes": 5, "minutes": 6}', 400, "minutes"),
    (b'{"action": "pause", "minutes": ' + b"9" * 5000 + b"}", 400, "body"),
    (b'{"action": "pause", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400, "body"),
    (b'{"action": "pause", "x": ' + b'{"a":' * 9 + b"1" + b"}" * 9 + b"}", 400, "body"),
    (b'{"action": "pause"', 400, "body"),
    (b'{"action": "pause", "minutes": 5, "hours": 1}', 422, "hours"),
    (b'{"minutes": 5}', 422, "action"),
    (b'{"action": 7, "minutes": 5}', 422, "action"),
    (b'{"action": "PAUSE", "minutes": 5}', 422, "action"),
    (b'{"action": "pause"}', 422, "until"),
    (b'{"action": "pause", "minutes": 5, "until": "2025-01-01T13:00:00Z"}', 422, "until"),
    (b'{"action": "pause", "minutes": "5"}', 422, "minutes"),
    (b'{"action": "pause", "minutes": 5.0}', 422, "minutes"),
    (b'{"action": "pause", "minutes": true}', 422, "minutes"),
    (b'{"action": "pause", "minutes": 0}', 422, "minutes"),
    (b'{"action": "pause", "minutes": 1441}', 422, "minutes"),
    (b'{"action": "pause", "until": "tomorrow"}', 422, "until"),
    (b'{"action": "pause", "until": "2025-01-01T13:00:00"}', 422, "until"),
    (b'{"action": "pause", "until": "2025-01-01T11:00:00Z"}', 422, "until"),
    (b'{"action": "pause", "until": "2026-01-01T11:00:00Z"}', 422, "until"),
    (b'{"action": "pause", "until": "9999-12-31T23:59:59-12:00"}', 422, "until"),
    (b'{"action": "pause", "minutes": 5, "reason": 7}', 422, "reason"),
    (b'{"action": "pause", "minutes": 5, "reason": "\\u0000"}', 422, "reason"),
    (b'{"action": "pause", "minutes": 5, "reason": "\\ud800"}', 422, "reason"),
    (b'{"action": "pause", "minutes": 5, "\\ud800": 1}', 422, "\\ud800"),
    (b'{"action": "pause", "minutes": 5, "": 1}', 422, '""'),
    (b'{"action": "pause", "until": "2025-01-01\xf0\x9f\x94\xa513:00:00Z"}', 422, "until"),
]


async def test_bad_bodies(service: Service) -> None:
    """Each is a problem that names the field; nothing is paused."""
    for body, status, field in BODIES:
        answer = await service.send("POST", "/pause", [*service.signed(body), *cookie("ada")], body)
        assert is_problem(answer, status, field), body[:60]
    assert "open" == (await service.engine.health()).mode


@pytest.mark.parametrize("action", ACTIONS)
async def test_query_is_no_way_to_act(service: Service, action: str) -> None:
    """What changes something is said in the body, which is signed; a query is refused, and nothing is done."""
    body = json.dumps({"action": action}).encode()
    before = await service.engine.audit(service.clock() - timedelta(days=1))
    answer = await service.send("POST", f"/{action}?dry_run=true", [*service.signed(body), *cookie("ada")], body)
    assert is_problem(answer, 422, "dry_run")
    assert before == await service.engine.audit(service.clock() - timedelta(days=1))


@pytest.mark.parametrize("path", ["", "/a%0ab", "/%0d%0aX:y", "/%0A"])
async def test_odd_paths_on_aiohttp(clock: ManualClock, path: str) -> None:
    """A line feed in a path, and the mount point itself, are answered with a problem as well."""
    async with serving("aiohttp", engine_of(clock), clock) as service:
        assert is_problem(await service.get(path), 404), path


@pytest.mark.parametrize("action", ACTIONS)
async def test_bad_bodies_on_every_route(service: Service, action: str) -> None:
    """Whatever the route: a body that is not legal to the letter changes nothing, not even in part."""
    service.clock.advance(10 * MINUTE)
    handler = service.handler
    handler.guard = attrs.evolve(handler.guard, limits=Limits(tick=Limit(100)))
    good = ACTIONS[action]
    bad: list[dict[str, object]] = [
        {"x": 1},
        {"reason": 7},
        {"reason": "\0"},
        {"reason": "\ud800"},
        {"reason": []},
    ]
    bad += [{"incident_key": 7}] if action in ("drain", "acknowledge", "resolve") else []
    bad += [{"dry_run": "yes"}, {"dry_run": None}, {"dry_run": True, "reason": 7}] if action == "tick" else []
    bodies = [json.dumps({"action": action, **good, **fields}).encode() for fields in bad]
    bodies += [b"\xef\xbb\xbf" + json.dumps({"action": action, **good}).encode()]  # a byte order mark
    bodies += [b"", b"[]", b"\xff", b'{"action": "x"}', b'{"action": "%s", "a": NaN}' % action.encode()]
    before = await picture(service)
    for body in bodies:
        answer = await service.send("POST", f"/{action}", [*service.signed(body), *cookie("ada")], body)
        assert answer.status in (400, 422), body
        assert before == await picture(service), body


@pytest.mark.parametrize(
    ("action", "field", "others"),
    [
        ("tick", "dry_run", {}),
        ("resume", "override_schedule", {}),
        ("pause", "minutes", {"until": "2025-01-01T14:00:00Z"}),
        ("drain", "incident_key", {}),
    ],
)
async def test_null_is_no_value(service: Service, action: str, field: str, others: dict[str, Any]) -> None:
    """A flag, a number or a key that is null is refused with what to give instead; nothing ticks, pauses or ends."""
    service.clock.advance(10 * MINUTE)
    before = await picture(service)
    answer = await service.act(action, **{field: None}, **others)
    assert is_problem(answer, 422, field)
    assert "give " in answer.json["detail"]
    assert before == await picture(service)


async def test_null_is_no_reason(service: Service) -> None:
    """A text that may be left out may be null as well."""
    assert 200 == (await service.act("pause", minutes=60, until=None, reason=None)).status


async def test_bad_keys(service: Service) -> None:
    """A key that is none is 422, one that nobody knows 404."""
    for key in (None, 7, "", "x" * 513, "a\nb", "\ud800", ["k"], {"k": 1}, "no such incident"):
        answer = await service.act("drain", incident_key=key)
        assert is_problem(answer, 404 if key == "no such incident" else 422, "incident_key"), key


QUERIES = [
    ("/audit?since=yesterday", 422, "since"),
    ("/audit?since=2025-01-01T00:00:00", 422, "since"),
    ("/audit?limit=0", 422, "limit"),
    ("/audit?limit=1001", 422, "limit"),
    ("/audit?limit=-1", 422, "limit"),
    ("/audit?limit=%D9%A5", 422, "limit"),
    ("/audit?after=x", 422, "after"),
    ("/audit?after=" + "9" * 18 + ".1.1", 422, "after"),
    ("/audit?limit=1&limit=2", 422, "limit"),
    ("/audit?before=x", 422, "before"),
    ("/audit?since", 400, "query"),
    ("/audit?since=%FF", 400, "query"),
    ("/audit?since=%zz", 400, "query"),
    ("/audit?=k", 422, '""'),
    ("/audit?" + "&".join(f"a{n}=1" for n in range(40)), 400, "query"),
    ("/incident", 422, "key"),
    ("/incident?key=", 422, "key"),
    ("/incident?key=%00", 422, "key"),
    ("/incident?key=none", 404, "key"),
    ("/health?x=1", 422, "x"),
]


async def test_bad_queries(service: Service) -> None:
    """Each is a problem that names the parameter."""
    for path, status, field in QUERIES:
        assert is_problem(await service.get(path), status, field), path


async def test_bad_requests(service: Service) -> None:
    """Size, encoding, type, method and path, each with its own status; nothing is done."""
    body = b'{"action": "tick"}'

    def headers(*more: tuple[str, str], of: bytes = body) -> list[tuple[str, str]]:
        return [*service.signed(of), *cookie("ada"), *more]

    def plain(*more: tuple[str, str]) -> list[tuple[str, str]]:
        return [pair for pair in headers() if pair[0] != "content-type"] + list(more)

    huge = b'{"action": "tick", "reason": "' + b"x" * 70_000 + b'"}'
    chunks = b"".join(b"2000\r\n" + b"x" * 0x2000 + b"\r\n" for _ in range(9)) + b"0\r\n\r\n"
    cases: list[tuple[int, str | None, str, str, Headers, bytes]] = [
        (413, "body", "POST", "/tick", headers(of=huge), huge),
        (413, "body", "POST", "/tick", headers(("transfer-encoding", "chunked")), chunks),
        (415, "Content-Encoding", "POST", "/tick", headers(("content-encoding", "gzip")), gzip.compress(body)),
        (415, "Content-Type", "POST", "/tick", plain(), body),
        (415, "Content-Type", "POST", "/tick", plain(("content-type", "text/plain")), body),
        (405, None, "GET", "/tick", headers(), b""),
        (405, None, "POST", "/health", headers(), body),
        (405, None, "DELETE", "/audit", headers(), b""),
        (404, None, "POST", "/nothing", headers(), body),
        (404, None, "GET", "/", headers(), b""),
        (404, None, "GET", "/health/", headers(), b""),
    ]
    for status, field, method, path, sent, content in cases:
        assert is_problem(await service.send(method, path, sent, content), status, field), (method, path)
    assert [] == [entry for entry in await service.engine.audit(service.clock()) if entry.action == "tick"]


async def test_requests_that_servers_refuse(service: Service) -> None:
    """What a server's own parser may refuse is 4xx all the same, in its words or in ours, and nothing is done."""
    body = b'{"action": "tick"}'
    length = ("content-length", str(len(body)))
    for more in ([("content-type", "application/json")], [length, ("content-length", "1")]):
        answer = await service.send("POST", "/tick", [*service.signed(body), *cookie("ada"), *more], body)
        assert 400 <= answer.status < 500, more
    assert 400 <= (await service.get("/health?" + "a" * 9000)).status < 500
    assert [] == [entry for entry in await service.engine.audit(service.clock()) if entry.action == "tick"]


# --- when something is down


class Down(MemoryStore):
    """A database that goes away."""

    down = False

    async def transact(self, work: Any) -> Any:
        self._check()
        return await super().transact(work)

    async def read(self, work: Any) -> Any:
        self._check()
        return await super().read(work)

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable(f"PostgreSQL is not available: {SECRET}")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_database_that_is_down(binding: str, clock: ManualClock) -> None:
    """Every route answers 503 with Retry-After, and tells nothing of it."""
    store = Down(clock)
    async with serving(binding, engine_of(clock, store), clock) as service:
        store.down = True
        answers = [await service.act(action, **fields) for action, fields in ACTIONS.items()]
        answers += [await service.get(path) for path in ("/health", "/audit", "/incident?key=k")]
        for answer in answers:
            assert is_problem(answer, 503)
            assert 1 <= int(answer.headers["retry-after"])


class Stubborn(MemoryStore):
    """A database that hangs, behind a driver that does not heed being cancelled."""

    hangs = False

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.free = asyncio.Event()

    async def transact(self, work: Any) -> Any:
        while self.hangs and not self.free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.free.wait()
        return await super().transact(work)

    read = transact


@pytest.mark.parametrize("binding", BINDINGS)
async def test_database_that_hangs(binding: str, clock: ManualClock) -> None:
    """Whoever asks hears 503 before long, also while the driver waits on; nothing is done, then or later."""
    store = Stubborn(clock)
    async with serving(binding, engine_of(clock, store), clock) as service:
        handler = service.handler
        handler.guard = attrs.evolve(handler.guard, store_timeout=timedelta(seconds=0.05))
        store.hangs = True
        try:
            answers = [await service.act(action, **fields) for action, fields in ACTIONS.items()]
            answers += [await service.get(path) for path in ("/health", "/audit", "/incident?key=k")]
            answers += [await service.get("/health", None)]
        finally:
            store.free.set()
        for answer in answers:
            assert is_problem(answer, 503)
            assert 1 <= int(answer.headers["retry-after"])
        assert 200 == (await service.get("/health")).status
        assert [] == [e for e in await service.engine.audit(clock() - MINUTE) if e.action in ACTIONS]


class Broken:
    """A limiter that is down."""

    async def hit(self, key: str, limit: Limit) -> Decision:
        raise OSError(f"redis://:{SECRET}@h is gone")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_limiter_that_is_down_refuses(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody gets in while nobody counts: principals if theirs is down, nobody at all if the peers' is."""
    async with serving(binding, engine_of(clock), clock, limiter=Broken()) as service:
        for answer in (await service.act("tick"), await service.get("/health")):
            assert is_problem(answer, 503)
        assert 200 == (await service.get("/health", None)).status
    async with serving(binding, engine_of(clock), clock, peer_limiter=Broken()) as service:
        for answer in (await service.act("tick"), await service.get("/health", None)):
            assert is_problem(answer, 503)
    assert "OSError" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("binding", BINDINGS)
async def test_fault_of_the_login_is_no_500(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A login that raises is told by its kind, in the log alone."""

    def login(native: Any) -> Principal:
        raise RuntimeError(SECRET)

    caplog.set_level(logging.DEBUG)
    async with serving(binding, engine_of(clock), clock, login=login) as service:
        assert is_problem(await service.act("tick"), 503)
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("binding", BINDINGS)
async def test_principal_that_is_none_is_the_hosts_fault(
    binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A login that makes a principal of nothing is told in the log; the client hears of no field that it never sent."""
    async with serving(binding, engine_of(clock), clock, login=lambda native: Principal("", ["ops_admin"])) as service:
        refused = await service.act("tick")
        assert is_problem(refused, 503)
        assert "field" not in refused.json
    assert "the login's principal is not valid: id" in caplog.text


# --- limits


async def test_ten_ticks_a_minute(service: Service) -> None:
    """The eleventh tick of a principal within a minute is 429, says when to come again, and does nothing."""
    assert [200] * 10 == [(await service.act("tick", dry_run=True)).status for _ in range(10)]
    refused = await service.act("tick")
    assert is_problem(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert 200 == (await service.act("pause", minutes=1)).status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_peer_is_limited_before_anything_is_looked_at(binding: str, clock: ManualClock) -> None:
    """Wrong signatures use the peer's limit up; then even right ones wait. A proxy that is known says who it is."""
    limits = Limits(peer=Limit(3))
    async with serving(binding, engine_of(clock), clock, limits=limits, proxies=["127.0.0.0/8"]) as service:
        body = b'{"action": "tick"}'

        async def knock(client: str) -> int:
            headers = [("x-forwarded-for", client), *service.signed(body, secret="w" * 40)]
            answer = await service.send("POST", "/tick", headers, body)
            assert answer.status != 429 or 1 <= int(answer.headers["retry-after"]) <= 60
            return answer.status

        assert [401, 401, 401, 429] == [await knock("192.0.2.1") for _ in range(4)]
        assert [401, 429] == [await knock("192.0.2.2"), await knock("1.1.1.1, 192.0.2.1")]
        assert [401, 401, 401, 429] == [await knock(f"2001:db8::{n}") for n in range(4)]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_order_of_what_is_looked_at(binding: str, clock: ManualClock) -> None:
    """Size, peer, signature, replay, role, principal's limit, body: of two faults the earlier one is answered."""
    small = Limits(peer=Limit(1), tick=Limit(1))
    body, huge, other = b'{"action": "tick"}', b"x" * 70_000, b'{"action": "nonsense"}'

    async def first(service: Service, who: str = "ada", of: bytes = body, **how: Any) -> list[tuple[str, str]]:
        return [*service.signed(of, **how), *cookie(who)]

    async with serving(binding, engine_of(clock), clock, limits=small) as service:
        assert 200 == (await service.send("POST", "/tick", await first(service), body)).status
        # The peer's limit is used up: a body that is too large says so first, a wrong signature does not.
        assert 413 == (await service.send("POST", "/tick", await first(service, of=huge), huge)).status
        assert 429 == (await service.send("POST", "/tick", await first(service, secret="w" * 40), body)).status
    async with serving(binding, engine_of(clock), clock, limits=Limits(tick=Limit(1))) as service:
        headers = await first(service)
        assert 200 == (await service.send("POST", "/tick", headers, body)).status
        # A wrong signature before the role; a replay before the role, and before the limit that is used up.
        wrong = [*service.signed(body, secret="w" * 40), *cookie("bob")]
        assert 401 == (await service.send("POST", "/tick", wrong, body)).status
        assert 401 == (await service.send("POST", "/tick", [*headers[:-1], *cookie("bob")], body)).status
        assert 401 == (await service.send("POST", "/tick", headers, body)).status
        # The role before the principal's limit; that limit before the body.
        assert 403 == (await service.send("POST", "/tick", await first(service, who="bob"), body)).status
        assert 429 == (await service.send("POST", "/tick", await first(service, of=other), other)).status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_limits_are_each_principals_and_each_routes_own(binding: str, clock: ManualClock) -> None:
    """What one has used up is another's still; every action, every view and detailed health are limited."""
    limits = Limits(act=Limit(2), tick=Limit(2), look=Limit(2))
    async with serving(binding, engine_of(clock), clock, limits=limits) as service:
        for action in ("tick", "recalc", "resume"):
            statuses = [(await service.act(action)).status for _ in range(3)]
            assert [429] == [status for status in statuses if status not in (200, 202)] == statuses[-1:]
        assert {200} == {(await service.act("tick", user="carol")).status}
        for path in ("/audit", "/incident?key=none", "/health"):
            answers = [(await service.get(path)) for _ in range(3)]
            assert 429 == answers[-1].status != answers[-2].status
            assert int(answers[-1].headers["retry-after"]) > 0
        assert 200 == (await service.send("GET", "/health", [])).status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_forwarded_for_is_not_believed(binding: str, clock: ManualClock) -> None:
    """Without a configured proxy the header means nothing."""
    async with serving(binding, engine_of(clock), clock, limits=Limits(peer=Limit(2))) as service:
        answers = [await service.send("GET", "/health", [("x-forwarded-for", f"10.0.0.{n}")]) for n in range(3)]
        assert [200, 200, 429] == [answer.status for answer in answers]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets")
@pytest.mark.parametrize("binding", BINDINGS)
async def test_proxy_at_a_unix_socket(binding: str, clock: ManualClock, tmp_path: Path) -> None:
    """All that comes through a Unix socket counts together, or for whom the proxy says if it is believed."""
    for proxies, statuses in (((), [200, 200, 429]), (("unix",), [200, 200, 200])):
        handler = OpsHandler(engine_of(clock), limits=Limits(peer=Limit(2)), proxies=proxies)
        path = str(tmp_path / f"{len(proxies)}.sock")
        async with (
            listening(mounted(binding, handler), path),
            ClientSession(connector=UnixConnector(path)) as http,
        ):
            for number, status in enumerate(statuses):
                headers = {"X-Forwarded-For": f"10.0.0.{number}"}
                async with http.get("http://localhost/ops/escalation/health", headers=headers) as answer:
                    assert status == answer.status


async def test_many_at_once(service: Service) -> None:
    """Requests at once each get their answer; a captured one gets in once."""
    body = b'{"action": "pause", "minutes": 5}'
    headers = [*service.signed(body), *cookie("ada")]
    answers = await asyncio.gather(*(service.send("POST", "/pause", headers, body) for _ in range(8)))
    assert [200] + [401] * 7 == sorted(answer.status for answer in answers)
    assert 1 == len([e for e in await service.engine.audit(service.clock()) if e.action == "pause"])


@pytest.mark.parametrize("binding", BINDINGS)
async def test_body_that_does_not_come(binding: str, clock: ManualClock) -> None:
    """A client that sends half of its body and waits is answered with 408."""
    async with serving(binding, engine_of(clock), clock) as service:
        handler = service.handler
        handler.guard = attrs.evolve(handler.guard, request_timeout=timedelta(seconds=0.1))
        body = b'{"action": "tick"}'
        headers = [*service.signed(body), *cookie("ada"), ("content-length", "100")]
        assert is_problem(await service.send("POST", "/tick", headers, body), 408, "body")


WHO = ContextVar("WHO", default="ticks")
"""Who takes a connection."""


async def flood(handler: OpsHandler, engine: Engine, count: int) -> tuple[Counter[int], list[int]]:
    """Knock with wrong signatures while the engine ticks; return the statuses, and the knocks between ticks."""
    statuses: Counter[int] = Counter()
    ticked_at = [0]

    async def read(most: int) -> bytes:
        return b'{"action": "tick"}'

    async def knocks() -> None:
        WHO.set("flood")
        for number in range(count):
            sent = {b"webhook-id": b"m%d" % number, b"webhook-timestamp": b"1", b"webhook-signature": b"v1,AAAA"}
            request = Request(method="POST", path="/tick", headers=list(sent.items()), peer="192.0.2.1", read=read)
            statuses[(await handler.handle(request)).status] += 1
            await asyncio.sleep(0)

    flooding = asyncio.create_task(knocks())
    while not flooding.done():
        await engine.tick()
        ticked_at.append(statuses.total())
        await asyncio.sleep(0)
    await flooding
    return statuses, [later - earlier for earlier, later in pairwise(ticked_at)]


async def test_ten_thousand_wrong_signatures(clock: ManualClock) -> None:
    """They use their peer's limit up and nothing else: no row is written, memory stays flat, ticks go on between."""
    store = MemoryStore(clock)
    limiter, peers = MemoryLimiter(), MemoryLimiter()
    engine = engine_of(clock, store)
    handler = OpsHandler(engine, login=lambda native: None, limiter=limiter, peer_limiter=peers)
    await flood(handler, engine, 1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found, between = await flood(handler, engine, 10_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert {401: 119, 429: 9881} == found
    assert ({}, 0, 1) == (store.requests, len(limiter._hits), len(peers._hits))
    assert grown < 500_000
    # No tick waits for more than a few knocks: none is kept out by the flood.
    assert len(between) > 100
    assert max(between) < 100


async def test_ten_thousand_wrong_signatures_beside_a_limiter_in_the_database(
    migrated_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database hears nothing of them: no row is written, and no connection is taken that ticks may need."""
    borrowers: Counter[str] = Counter()
    lent = Pool.connection

    def counted(self: Pool, longest: float | None = None) -> Any:
        borrowers[WHO.get()] += 1
        return lent(self, longest)

    monkeypatch.setattr(Pool, "connection", counted)
    store = await PostgresStore.connect(migrated_dsn)
    async with Engine(store, settings=SETTINGS, notifiers=[RecordingNotifier("test")]) as engine:
        handler = OpsHandler(engine, login=lambda native: None, limiter=PostgresLimiter(store))
        found, between = await flood(handler, engine, 10_000)
        async with store._pool.connection() as connection:
            rows = await connection.execute(
                "SELECT (SELECT count(*) FROM escalation_rate_limits), (SELECT count(*) FROM escalation_requests)"
            )
            assert (0, 0) == await rows.fetchone()
    assert {401: 120, 429: 9880} == found
    assert 0 == borrowers["flood"]
    assert borrowers["ticks"] > len(between) > 5


@pytest.mark.parametrize("binding", BINDINGS)
async def test_request_without_a_secret_costs_the_database_nothing(binding: str, clock: ManualClock) -> None:
    """Whoever cannot sign does not get as far as the store, be it up or down."""

    class Down(MemoryStore):
        async def transact(self, work: Any) -> Any:
            raise StoreUnavailable("down")

        read = transact

    async with serving(binding, engine_of(clock, Down(clock)), clock) as service:
        body = b'{"action": "tick"}'
        assert is_problem(await service.send("POST", "/tick", cookie("ada"), body), 401, "webhook-id")
        wrong = service.signed(body, secret="w" * 40)
        assert is_problem(await service.send("POST", "/tick", [*wrong, *cookie("ada")], body), 401, "webhook-signature")
        assert is_problem(await service.send("POST", "/tick", [*service.signed(body), *cookie("ada")], body), 503)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_limiter_and_login_that_hang(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A limiter that never answers is down; a login that never answers, or fails, leaves the probe's health alone."""

    class Hanging:
        async def hit(self, key: str, limit: Limit) -> Decision:
            await asyncio.Event().wait()
            raise AssertionError

    async def never(native: object) -> Principal | None:
        await asyncio.Event().wait()
        raise AssertionError

    def broken(native: object) -> Principal | None:
        raise RuntimeError("the session database is down")

    cases: list[tuple[dict[str, Any], str, int]] = [
        ({"limiter": Hanging()}, "/health", 503),
        ({"peer_limiter": Hanging()}, "/health", 503),
        ({"login": never}, "/health", 200),
        ({"login": broken}, "/health", 200),
        ({"login": never}, "/audit", 503),
    ]
    for options, path, status in cases:
        async with serving(binding, engine_of(clock), clock, **options) as service:
            handler = service.handler
            short = timedelta(seconds=0.05)
            handler.guard = attrs.evolve(handler.guard, request_timeout=short, store_timeout=short)
            answer = await service.get(path)
            assert status == answer.status
            assert status == 200 or int(answer.headers["retry-after"]) > 0
    assert "the rate limiter is down" in caplog.text


async def test_body_that_a_middleware_has_read(clock: ManualClock) -> None:
    """On aiohttp a host's middleware may read the body before: the signature is verified all the same."""

    @web.middleware
    async def reads(request: web.Request, handler: Any) -> web.StreamResponse:
        await request.read()
        answer: web.StreamResponse = await handler(request)
        return answer

    app = web.Application(middlewares=[reads])
    ops = OpsHandler(engine_of(clock), login=lambda native: USERS["ada"])
    app.add_subapp("/ops/escalation", ops_app(ops))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service = Service(port=runner.addresses[0][1], engine=ops.engine, clock=clock, handler=ops)
        assert 200 == (await service.act("tick")).status
    finally:
        await runner.cleanup()


async def test_websocket_is_declined(clock: ManualClock) -> None:
    """A handshake is closed before it is accepted, which servers answer with 403; nothing is raised."""
    app = OpsASGI(OpsHandler(engine_of(clock)))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/tick", "headers": []}, receive, send)
    assert [{"type": "websocket.close"}] == sent


@pytest.mark.parametrize("binding", BINDINGS)
async def test_no_secret_shows_anywhere(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Planted secrets are in no answer, no log, no span and no metric, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    slack = SlackNotifier({"test": "https://127.0.0.1:1/T0K3N"})
    settings = attrs.evolve(SETTINGS, heartbeat_url="https://127.0.0.1:1/B3AT", warnings=())
    engine = Engine(
        MemoryStore(clock),
        settings=settings,
        notifiers=[slack],
        heartbeat=HttpHeartbeat("https://127.0.0.1:1/B3AT"),
        meter_provider=MeterProvider([reader]),
        tracer_provider=tracers,
    )
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    seen = ""
    async with serving(binding, engine, clock) as service:
        for action, fields in ACTIONS.items():
            body = json.dumps({"action": action, **fields}).encode()
            good = [*service.signed(body), *cookie("ada")]
            for headers in (
                good,
                good,
                good[:3],
                [*good[:3], ("webhook-signature", SECRET)],
                [("x-signature", SECRET)],
            ):
                seen += repr(await service.send("POST", f"/{action}", headers, body))
        for path in ("/health", "/audit", "/incident?key=k", "/incident?key=nobody", "/nothing"):
            seen += repr(await service.get(path))
        seen += repr((service, engine, settings, service.handler, service.handler.guard, slack))
    await engine.aclose()
    spans = exporter.get_finished_spans()
    assert {"escalation.tick", "escalation.send"} <= {span.name for span in spans}
    seen += caplog.text + repr([span.to_json() for span in spans])
    data = reader.get_metrics_data()
    assert data is not None
    assert data.resource_metrics
    seen += data.to_json()
    assert "ClientConnectorError" in seen
    assert [] == [secret for secret in (SECRET, OLD_SECRET, "T0K3N", "B3AT") if secret in seen]
