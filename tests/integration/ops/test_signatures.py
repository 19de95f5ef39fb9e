"""The endpoints check the signature, replays, the login and the role before they accept a request."""

import json
import logging
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from escalation_adapters.auth.hmac_signature import mac
from escalation_adapters.auth.rate_limit import Limit
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.ops import Limits, OpsHandler, Signer
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import Engine, InvalidValue
from escalation_core.testing import ManualClock, MemoryStore
from escalation_core.testing.conformance.harness import START

from .problems import ACTIONS, MINUTE, SETTINGS, engine_of, is_problem, picture
from .service import BINDINGS, OLD_SECRET, SECRET, Headers, Service, cookie, serving


@pytest.mark.parametrize("action", ACTIONS)
async def test_rbac_denies_non_ops(service: Service, action: str) -> None:
    """A valid signature without the role changes nothing: without a login it gets 401, with another role 403."""
    before = await picture(service)
    assert is_problem(await service.act(action, user=None, **ACTIONS[action]), 401)
    for user in ("bob", "eve"):
        assert is_problem(await service.act(action, user=user, **ACTIONS[action]), 403)
    assert before == await picture(service)
    assert 200 <= (await service.act(action, **ACTIONS[action])).status < 300


@pytest.mark.parametrize("action", ACTIONS)
async def test_hmac_rejects_tampered_body(service: Service, action: str) -> None:
    """A request whose signature is not exactly valid gets 401 with the header's name, and changes nothing."""
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
        "the older header": ([("x-signature", mac(SECRET.encode(), body).hex())], body, "webhook-id"),
    }
    for name, (headers, sent, field) in wrong.items():
        answer = await service.send("POST", f"/{action}", [*headers, *cookie("ada")], sent)
        assert is_problem(answer, 401, field), name
    assert before == await picture(service)


async def test_both_secrets_count(service: Service) -> None:
    """While the secret is rotated, the endpoints also accept a signature with the previous secret."""
    body = b'{"action": "tick"}'
    headers = [*service.signed(body, secret=OLD_SECRET), *cookie("ada")]
    assert 200 == (await service.send("POST", "/tick", headers, body)).status


async def test_captured_request_is_of_no_use(service: Service) -> None:
    """The same request gets 401 the second time, in any worker. A signed body of another action is refused."""
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
    """A request's id is remembered longer than its timestamp is valid, even if the clock moves between both checks."""

    class Moving(ManualClock):
        step = timedelta()

        def __call__(self) -> datetime:
            now = super().__call__()
            self.set(now + self.step)
            return now

    clock = Moving(START)
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
    """A secret with its own principal needs no login, and the audit names that principal. Others need a login."""
    cron = Signer("c" * 40, Principal("cron", {"ops_admin"}))
    async with serving(binding, engine_of(clock), clock, login=None, signers=[Signer(SECRET), cron]) as service:
        body = b'{"action": "tick"}'
        signed = service.signed(body, secret="c" * 40)
        assert 200 == (await service.send("POST", "/tick", signed, body)).status
        assert is_problem(await service.send("POST", "/tick", service.signed(body), body), 401)
        [entry] = await service.engine.audit(clock())
        assert "cron" == entry.actor


@pytest.mark.parametrize("binding", BINDINGS)
async def test_replaced_workers_signature_when_switched_on(binding: str, clock: ManualClock) -> None:
    """With ``legacy_signature`` the endpoints accept one X-Signature over the raw body."""
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
    """OpsHandler without a secret raises an error that names the variable to set."""
    with pytest.raises(InvalidValue, match="set OPS_HMAC_SECRET"):
        OpsHandler(Engine(MemoryStore(clock)))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_login_may_be_a_coroutine_and_must_give_a_principal(binding: str, clock: ManualClock) -> None:
    """The handler awaits an async login. A login that returns anything other than a Principal admits no request."""

    async def known(native: Any) -> Principal:
        return Principal("ada", {"ops_admin"})

    for login, status in ((known, 200), (lambda native: "ada", 401), (lambda native: {"roles": ["ops_admin"]}, 401)):
        async with serving(binding, engine_of(clock), clock, login=login) as service:
            assert status == (await service.act("tick", user=None)).status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_fault_of_the_login_is_no_500(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """If the login raises, the request gets 503. The log names the error's kind, and nothing shows the error's text."""

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
    """If a login makes a Principal that is not valid, only the log says so. The client's problem names no field."""
    async with serving(binding, engine_of(clock), clock, login=lambda native: Principal("", ["ops_admin"])) as service:
        refused = await service.act("tick")
        assert is_problem(refused, 503)
        assert "field" not in refused.json
    assert "the login's principal is not valid: id" in caplog.text


@pytest.mark.parametrize("binding", BINDINGS)
async def test_order_of_what_is_looked_at(binding: str, clock: ManualClock) -> None:
    """The order of checks is size, peer, signature, replay, role, principal's limit, body. The first fault counts."""
    small = Limits(peer=Limit(1), tick=Limit(1))
    body, huge, other = b'{"action": "tick"}', b"x" * 70_000, b'{"action": "nonsense"}'

    async def first(service: Service, who: str = "ada", of: bytes = body, **how: Any) -> list[tuple[str, str]]:
        return [*service.signed(of, **how), *cookie(who)]

    async with serving(binding, engine_of(clock), clock, limits=small) as service:
        assert 200 == (await service.send("POST", "/tick", await first(service), body)).status
        # The peer's limit is used up. The size is checked before the limit, and the signature after it.
        assert 413 == (await service.send("POST", "/tick", await first(service, of=huge), huge)).status
        assert 429 == (await service.send("POST", "/tick", await first(service, secret="w" * 40), body)).status
    async with serving(binding, engine_of(clock), clock, limits=Limits(tick=Limit(1))) as service:
        headers = await first(service)
        assert 200 == (await service.send("POST", "/tick", headers, body)).status
        # The signature comes before the role. A replay comes before the role, and before the limit that is used up.
        wrong = [*service.signed(body, secret="w" * 40), *cookie("bob")]
        assert 401 == (await service.send("POST", "/tick", wrong, body)).status
        assert 401 == (await service.send("POST", "/tick", [*headers[:-1], *cookie("bob")], body)).status
        assert 401 == (await service.send("POST", "/tick", headers, body)).status
        # The role comes before the principal's limit, and that limit comes before the body.
        assert 403 == (await service.send("POST", "/tick", await first(service, who="bob"), body)).status
        assert 429 == (await service.send("POST", "/tick", await first(service, of=other), other)).status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_no_secret_shows_anywhere(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """No answer, log, span, metric or repr shows a planted secret, neither after a success nor after a failure."""
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
        for path in ("/health", "/audit", "/incident?key=k", "/incident?key=unknown", "/nothing"):
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
