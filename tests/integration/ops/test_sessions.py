"""A page behind the host's login acts without a signature. A page of another site, and a wrong signature, do not."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_adapters.auth.rate_limit import Limit
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.ops import Limits, Sessions
from escalation_core import InvalidValue
from escalation_core.testing import ManualClock

from .problems import ACTIONS, MINUTE, engine_of, is_problem, picture
from .service import BINDINGS, Answer, Headers, Service, cookie, login, serving

PAGE = "https://status.example.org"
JSON = ("Content-Type", "application/json")
SAME: Headers = [JSON, ("Origin", PAGE), ("Sec-Fetch-Site", "same-origin")]
"""The headers that a browser adds to a page's own fetch of JSON, beside the cookie."""
BEARER = ("Authorization", "Bearer tok3n-of-ada")


def session(native: Any) -> Principal | None:
    """Return the principal of a bearer token, else that of the cookie."""
    headers = dict(native["headers"] if hasattr(native, "keys") and "headers" in native else native.raw_headers)
    found = {name.lower(): value for name, value in headers.items()}
    return Principal("ada", {"ops_admin"}) if b"tok3n-of-ada" in found.get(b"authorization", b"") else login(native)


@pytest.fixture(params=BINDINGS)
async def browsed(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Service]:
    """A service that admits sessions, with one critical incident ``k`` at level 1."""
    engine = engine_of(clock)
    await engine.open("k", severity="critical", by="monitoring")
    clock.advance(5 * MINUTE)
    await engine.tick()
    async with serving(request.param, engine, clock, login=session, sessions=Sessions([PAGE])) as running:
        yield running


async def post(service: Service, headers: Headers, action: str = "acknowledge", **fields: Any) -> Answer:
    body = json.dumps({"action": action, **(fields or ACTIONS[action])}).encode()
    return await service.send("POST", f"/{action}", headers, body)


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_page_behind_the_login_acts(browsed: Service, action: str) -> None:
    """With a cookie and the page's own origin each action runs, and the audit names the session's principal."""
    answer = await post(browsed, [*SAME, *cookie("ada")], action)
    assert 200 <= answer.status < 300, answer
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    entries = await browsed.engine.audit(datetime(2000, 1, 1, tzinfo=UTC))
    assert ["ada"] == [entry.actor for entry in entries if entry.actor not in (None, "monitoring")]


@pytest.mark.parametrize("action", ACTIONS)
async def test_sessions_are_off_by_default(service: Service, action: str) -> None:
    """A service that does not admit sessions refuses the same request, as one without a signature."""
    before = await picture(service)
    assert is_problem(await post(service, [*SAME, *cookie("ada")], action), 401, "webhook-id")
    assert is_problem(await post(service, [JSON, BEARER], action), 401, "webhook-id")
    assert before == await picture(service)


FOREIGN: dict[str, tuple[Headers, str]] = {
    "no origin": ([], "Origin"),
    "null": ([("Origin", "null")], "Origin"),
    "an empty origin": ([("Origin", "")], "Origin"),
    "another site": ([("Origin", "https://evil.example")], "Origin"),
    "another site, which says same-origin": (
        [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "same-origin")],
        "Origin",
    ),
    "a longer host": ([("Origin", f"{PAGE}.evil.example")], "Origin"),
    "another host of the domain": ([("Origin", "https://wiki.example.org")], "Origin"),
    "another scheme": ([("Origin", "http://status.example.org")], "Origin"),
    "another port": ([("Origin", f"{PAGE}:8443")], "Origin"),
    "upper case": ([("Origin", PAGE.upper())], "Origin"),
    "with a path": ([("Origin", f"{PAGE}/")], "Origin"),
    "two in one": ([("Origin", f"{PAGE} https://evil.example")], "Origin"),
    "two origins": ([("Origin", PAGE), ("Origin", "https://evil.example")], "Origin"),
    "bytes that are not ASCII": ([("Origin", "\xff\xfe")], "Origin"),
    "a referer alone": ([("Referer", f"{PAGE}/")], "Origin"),
    "same-origin alone": ([("Sec-Fetch-Site", "same-origin")], "Origin"),
    "fetched from another site": ([("Origin", PAGE), ("Sec-Fetch-Site", "cross-site")], "Sec-Fetch-Site"),
    "fetched from no page": ([("Origin", PAGE), ("Sec-Fetch-Site", "none")], "Sec-Fetch-Site"),
    "fetched from two": (
        [("Origin", PAGE), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        "Sec-Fetch-Site",
    ),
    "the host's name, forged": ([("X-Forwarded-Host", "evil.example"), ("Origin", "https://evil.example")], "Origin"),
    "the service's own address": ([("Origin", "http://localhost")], "Origin"),
    "a bearer token beside the cookie": ([BEARER], "Origin"),
    "a bearer token of another page": ([BEARER, ("Origin", "https://evil.example")], "Origin"),
}


async def test_another_site_is_refused(browsed: Service) -> None:
    """A request with a good cookie that is not from the host's page gets 403 with the header's name."""
    before = await picture(browsed)
    for name, (headers, field) in FOREIGN.items():
        assert is_problem(await post(browsed, [JSON, *headers, *cookie("ada")]), 403, field), name
    assert before == await picture(browsed)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "text/json"]
)
async def test_a_form_is_refused(browsed: Service, kind: str | None) -> None:
    """Only JSON is read: no type that a form, or a fetch without a preflight, can send."""
    before = await picture(browsed)
    headers = [*SAME[1:], *cookie("ada"), *([] if kind is None else [("Content-Type", kind)])]
    assert is_problem(await post(browsed, headers), 415, "Content-Type")
    assert before == await picture(browsed)


async def test_a_bearer_token_needs_no_origin(browsed: Service) -> None:
    """A program with a bearer token acts without Origin; with a token that is wrong, or another scheme, it does not."""
    before = await picture(browsed)
    assert is_problem(await post(browsed, [JSON, ("Authorization", "Bearer other")]), 401)
    for headers in (
        [("Authorization", "Bearer")],
        [("Authorization", "Basic tok3n-of-ada")],
        [("Authorization", "Negotiate tok3n-of-ada")],
        [BEARER, ("Authorization", "Basic YTpi")],
        [BEARER, ("Sec-Fetch-Site", "cross-site")],
        [BEARER, ("Origin", "null")],
        [],
    ):
        assert is_problem(await post(browsed, [JSON, *headers]), 403, "Origin"), headers
    assert before == await picture(browsed)
    assert 200 == (await post(browsed, [JSON, BEARER])).status
    assert 200 == (await post(browsed, [*SAME, BEARER], "resolve")).status


async def test_a_wrong_signature_is_never_a_session(browsed: Service) -> None:
    """A request with any header of a signature needs a valid signature, also if ada is logged in."""
    before = await picture(browsed)
    body = b'{"action": "acknowledge", "incident_key": "k"}'
    good = browsed.signed(body)
    wrong: list[Headers] = [[header] for header in good[1:]]
    wrong += [
        browsed.signed(b"other"),
        browsed.signed(body, age=301),
        [("X-Signature", "0" * 64)],
        [("Webhook-Id", "")],
    ]
    for headers in wrong:
        sent = [*SAME[1:], JSON, *cookie("ada"), *(each for each in headers if each[0] != "content-type")]
        assert 401 == (await browsed.send("POST", "/acknowledge", sent, body)).status, headers
    assert before == await picture(browsed)


async def test_signed_requests_work_on(browsed: Service) -> None:
    """A signed request needs no Origin, and counts once: a copy of it is refused, also from the host's page."""
    body = b'{"action": "acknowledge", "incident_key": "k"}'
    headers = [*browsed.signed(body), *cookie("ada")]
    assert 200 == (await browsed.send("POST", "/acknowledge", headers, body)).status
    again = await browsed.send("POST", "/acknowledge", [*headers, *SAME[1:]], body)
    assert is_problem(again, 401, "webhook-id")


async def test_login_and_role_decide(browsed: Service) -> None:
    """Without a login, or after it ended, the answer is 401; without the admin role 403."""
    before = await picture(browsed)
    for user in (None, "ended"):
        assert is_problem(await post(browsed, [*SAME, *cookie(user)]), 401)
    for user in ("bob", "eve"):
        assert is_problem(await post(browsed, [*SAME, *cookie(user)]), 403)
    assert before == await picture(browsed)


async def test_the_body_names_nobody(browsed: Service) -> None:
    """A body that names an actor, or another action, is refused."""
    for field in ("by", "actor", "user"):
        answer = await post(browsed, [*SAME, *cookie("ada")], incident_key="k", **{field: "carol"})
        assert is_problem(answer, 422, field)
    answer = await browsed.send("POST", "/resolve", [*SAME, *cookie("ada")], b'{"action": "tick"}')
    assert is_problem(answer, 422, "action")
    assert 422 == (await browsed.send("POST", "/tick?by=carol", [*SAME, *cookie("ada")], b'{"action": "tick"}')).status


async def test_other_methods_change_nothing(browsed: Service) -> None:
    """No method but POST acts, whatever an override says, and no preflight is granted."""
    before = await picture(browsed)
    body = b'{"action": "acknowledge", "incident_key": "k"}'
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        headers = [*SAME, *cookie("ada"), ("X-HTTP-Method-Override", "POST"), ("X-HTTP-Method", "POST")]
        asked = ("Access-Control-Request-Method", "POST")
        answer = await browsed.send(method, "/acknowledge", [*headers, asked], b"" if method in "GET HEAD" else body)
        assert 405 == answer.status
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert before == await picture(browsed)
    assert 200 == (await browsed.get("/health")).status
    assert 200 == (await browsed.get("/incident?key=k")).status


async def broken(native: Any) -> Principal | None:
    raise RuntimeError("tok3n-of-ada")


async def endless(native: Any) -> Principal | None:
    await asyncio.Event().wait()
    return Principal("ada", {"ops_admin"})


LOGINS: dict[str, tuple[Any, int]] = {
    "raises": (broken, 503),
    "raises at once": (lambda native: 1 // 0, 503),
    "never ends": (endless, 503),
    "NUL in the name": (lambda native: Principal("a\0b", {"ops_admin"}), 503),
    "an empty name": (lambda native: Principal(" ", {"ops_admin"}), 503),
    "True": (lambda native: True, 401),
    "a name": (lambda native: "ada", 401),
    "a dict": (lambda native: {"id": "ada", "roles": {"ops_admin"}}, 401),
    "no roles": (lambda native: Principal("ada"), 403),
    "an unknown role": (lambda native: Principal("ada", {"OPS_ADMIN", "ops_admin ", ""}), 403),
}


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("name", LOGINS)
async def test_a_login_that_fails_admits_nobody(
    binding: str, name: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the host's login raises, hangs or returns something else, the action is refused; the log holds no secret."""
    wrong, status = LOGINS[name]
    engine = engine_of(clock)
    await engine.open("k", severity="critical")
    caplog.set_level(logging.DEBUG, "escalation_adapters")
    async with serving(binding, engine, clock, login=wrong, sessions=Sessions([PAGE])) as service:
        handler = service.handler
        handler.guard = attrs.evolve(handler.guard, request_timeout=timedelta(seconds=0.2))
        before = await picture(service)
        answer = await post(service, SAME)
        assert is_problem(answer, status)
        assert before == await picture(service)
    assert status == 403 or [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "tok3n" not in caplog.text + repr(answer)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_name_with_control_characters(binding: str, clock: ManualClock) -> None:
    """Control characters in a principal's name stay in the audit, and only as escapes in the answer."""
    name = "ada\x1b[2J\r\nX-Evil: 1"
    engine = engine_of(clock)
    await engine.open("k", severity="critical")

    async def named(native: Any) -> Principal:
        return Principal(name, {"ops_admin", "ops_read"})

    async with serving(binding, engine, clock, login=named, sessions=Sessions([PAGE])) as service:
        assert 200 == (await post(service, SAME)).status
        audit = await service.get("/audit")
        assert name in [entry["actor"] for entry in audit.json["entries"]]
        assert b"\x1b" not in audit.body
        assert "x-evil" not in audit.headers


@pytest.mark.parametrize("binding", BINDINGS)
async def test_limits_come_first(binding: str, clock: ManualClock) -> None:
    """The peer's limit refuses before the login is called, and the principal's limit counts sessions."""
    asked: list[object] = []

    def counted(native: Any) -> Principal | None:
        asked.append(native)
        return login(native)

    limits = Limits(peer=Limit(4), tick=Limit(1))
    options: dict[str, Any] = {"login": counted, "sessions": Sessions([PAGE]), "limits": limits}
    async with serving(binding, engine_of(clock), clock, **options) as service:
        foreign = [JSON, ("Origin", "https://evil.example"), *cookie("ada")]
        assert [403, 403] == [(await post(service, foreign, "tick", reason="r")).status for _ in range(2)]
        assert not asked
        own = [*SAME, *cookie("ada")]
        assert [200, 429, 429] == [(await post(service, own, "tick", reason="r")).status for _ in range(3)]
        assert 2 == len(asked)


async def test_without_origins_only_tokens_count(clock: ManualClock) -> None:
    """Sessions without an origin admit programs with a bearer token, and no page."""
    engine = engine_of(clock)
    await engine.open("k", severity="critical")
    async with serving("starlette", engine, clock, login=session, sessions=Sessions()) as service:
        assert is_problem(await post(service, [*SAME, *cookie("ada")]), 403, "Origin")
        assert is_problem(await post(service, [JSON, ("Origin", ""), *cookie("ada")]), 403, "Origin")
        assert 200 == (await post(service, [JSON, BEARER])).status


@pytest.mark.parametrize(
    "origin", [PAGE, "http://localhost:8000", "http://[::1]:8000", "https://xn--bcher-kva.example"]
)
def test_an_origin_is_taken(origin: str) -> None:
    """Origins as browsers write them are taken."""
    assert {origin} == Sessions([origin]).origins


@pytest.mark.parametrize(
    "origin",
    [
        "*", "null", "", " ", "status.example.org", "https://", "https://*.example.org", f"{PAGE}/", f"{PAGE}/page",
        f"{PAGE}\n", f" {PAGE}", PAGE.upper(), f"{PAGE}:443", "http://localhost:80", "https://a@b", "ftp://b",
        "https://b\xfccher.example", f"{PAGE},{PAGE}", f"{PAGE} {PAGE}", "https://.example", "https://b:0", None, b"x",
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused(origin: Any) -> None:
    """An origin that could never match, or that means every site, is refused at once."""
    with pytest.raises(InvalidValue, match=r"^origins: .*; write https://HOST"):
        Sessions([origin])
