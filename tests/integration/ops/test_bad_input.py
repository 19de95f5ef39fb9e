"""Bad input gets the status of its fault and a problem that names the field, and changes nothing."""

import gzip
import json
from datetime import timedelta
from typing import Any

import attrs
import pytest
from aiohttp import web

from escalation_adapters.auth.rate_limit import Limit
from escalation_adapters.ops import Limits, OpsHandler
from escalation_adapters.ops.asgi import OpsASGI
from escalation_adapters.ops.http import ops_app
from escalation_core.testing import ManualClock

from .problems import ACTIONS, MINUTE, engine_of, is_problem, picture
from .service import BINDINGS, USERS, Headers, Service, cookie, serving

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
    """Each bad body gets a problem that names the field, and pauses nothing."""
    for body, status, field in BODIES:
        answer = await service.send("POST", "/pause", [*service.signed(body), *cookie("ada")], body)
        assert is_problem(answer, status, field), body[:60]
    assert "open" == (await service.engine.health()).mode


@pytest.mark.parametrize("action", ACTIONS)
async def test_query_is_no_way_to_act(service: Service, action: str) -> None:
    """An action refuses a query and does nothing, because only the body is signed."""
    body = json.dumps({"action": action}).encode()
    before = await service.engine.audit(service.clock() - timedelta(days=1))
    answer = await service.send("POST", f"/{action}?dry_run=true", [*service.signed(body), *cookie("ada")], body)
    assert is_problem(answer, 422, "dry_run")
    assert before == await service.engine.audit(service.clock() - timedelta(days=1))


@pytest.mark.parametrize("path", ["", "/a%0ab", "/%0d%0aX:y", "/%0A"])
async def test_odd_paths_on_aiohttp(clock: ManualClock, path: str) -> None:
    """On aiohttp, a path with a line feed and the mount point itself get 404 with a problem."""
    async with serving("aiohttp", engine_of(clock), clock) as service:
        assert is_problem(await service.get(path), 404), path


@pytest.mark.parametrize("action", ACTIONS)
async def test_bad_bodies_on_every_route(service: Service, action: str) -> None:
    """On each route a body that is not entirely valid gets 400 or 422. It changes nothing, not even in part."""
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
    """A null flag, number or key gets 422 with the value to give instead, and changes nothing."""
    service.clock.advance(10 * MINUTE)
    before = await picture(service)
    answer = await service.act(action, **{field: None}, **others)
    assert is_problem(answer, 422, field)
    assert "give " in answer.json["detail"]
    assert before == await picture(service)


async def test_null_is_no_reason(service: Service) -> None:
    """An optional text may be null: a pause with a null reason and a null end succeeds."""
    assert 200 == (await service.act("pause", minutes=60, until=None, reason=None)).status


async def test_bad_keys(service: Service) -> None:
    """A key that is not valid gets 422, and an unknown key gets 404."""
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
    """Each bad query gets a problem that names the parameter."""
    for path, status, field in QUERIES:
        assert is_problem(await service.get(path), status, field), path


async def test_bad_requests(service: Service) -> None:
    """A wrong size, encoding, type, method or path gets its own status, and no tick runs."""
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
    """A malformed request gets 4xx, from the server's parser or from the endpoints, and no tick runs."""
    body = b'{"action": "tick"}'
    length = ("content-length", str(len(body)))
    for more in ([("content-type", "application/json")], [length, ("content-length", "1")]):
        answer = await service.send("POST", "/tick", [*service.signed(body), *cookie("ada"), *more], body)
        assert 400 <= answer.status < 500, more
    assert 400 <= (await service.get("/health?" + "a" * 9000)).status < 500
    assert [] == [entry for entry in await service.engine.audit(service.clock()) if entry.action == "tick"]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_body_that_does_not_come(binding: str, clock: ManualClock) -> None:
    """A client that sends half of its body and waits is answered with 408."""
    async with serving(binding, engine_of(clock), clock) as service:
        handler = service.handler
        handler.guard = attrs.evolve(handler.guard, request_timeout=timedelta(seconds=0.1))
        body = b'{"action": "tick"}'
        headers = [*service.signed(body), *cookie("ada"), ("content-length", "100")]
        assert is_problem(await service.send("POST", "/tick", headers, body), 408, "body")


async def test_body_that_a_middleware_has_read(clock: ManualClock) -> None:
    """On aiohttp a host's middleware may read the body first. The endpoint still verifies the signature."""

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
    """The application closes a WebSocket handshake before accepting it and raises nothing. Servers then answer 403."""
    app = OpsASGI(OpsHandler(engine_of(clock)))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/tick", "headers": []}, receive, send)
    assert [{"type": "websocket.close"}] == sent
