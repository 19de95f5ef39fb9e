"""Requests to the operators' endpoints: a user with both roles sends arbitrary data."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.auth.hmac_signature import signed_headers
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.ops import OpsHandler, reading
from escalation_adapters.ops.handler import ACTIONS, VIEWS
from escalation_adapters.ops.messages import Problem, Request, Response
from escalation_core import Engine, Settings
from escalation_core.model import AuditCursor, AuditSource, parse_cursor
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..unit.kit import picture
from .material import ANY_TEXT, HUSH, damaged, near

START = datetime(2025, 1, 1, 12, tzinfo=UTC)
ADA = Principal("ada", {"ops_admin", "ops_read"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2),
    max_leaves=4,
)
FIELDS = {
    "dry_run": st.booleans() | JSON,
    "restart": st.booleans() | JSON,
    "reason": ANY_TEXT | JSON,
    "until": near("2025-01-01T13:00:00Z", "2025-01-01T13:00:00+01:00", "9999-12-31T23:59:59-23:59") | JSON,
    "minutes": st.integers(0, 1441) | JSON,
    "override_schedule": st.booleans() | JSON,
    "incident_key": near("open", "risen", "acknowledged", "resolved") | JSON,
}
REFUSALS = {400, 401, 404, 405, 409, 413, 415, 422}


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a route and a body for it: a valid one, one with arbitrary fields, or a damaged one."""
    action = draw(st.sampled_from(list(ACTIONS)))
    known = {field: FIELDS[field] for field in ACTIONS[action].fields}
    fields = draw(st.fixed_dictionaries({"action": st.just(action) | JSON}, optional=known))
    whole = json.dumps(fields).encode()
    return action, draw(st.just(whole) | damaged(st.just(whole), st.binary(max_size=4)))


async def ask(
    method: str, path: str, *, query: str = "", body: bytes = b"", headers: Any = ()
) -> tuple[Response, bool]:
    """Return the answer of an engine with four incidents, and whether the request changed anything."""
    clock = ManualClock(START)
    store = MemoryStore(clock)
    engine = Engine(store, settings=Settings(ops_hmac_secret=HUSH), notifiers=[RecordingNotifier()])
    for key in ("open", "risen", "acknowledged", "resolved"):
        await engine.open(key, severity="critical" if key == "risen" else None)
    await engine.acknowledge("acknowledged")
    await engine.resolve("resolved")
    clock.advance(timedelta(minutes=5))
    await engine.tick()

    async def read(most: int) -> bytes | None:
        return body if len(body) <= most else None

    before = picture(store)
    handler = OpsHandler(engine, login=lambda native: ADA)
    answer = await handler.handle(
        Request(method=method, path=path, query=query, headers=headers, peer="127.0.0.1", read=read)
    )
    # The handler remembers a request's id even if it refuses the request.
    after = picture(store) | {"requests": before["requests"]}
    await engine.aclose()
    return answer, before != after


def check(answer: Response, changed: bool) -> Any:
    """Check that an answer keeps the promises of all answers, and return its document."""
    document = json.loads(answer.body)
    assert HUSH not in answer.body.decode("ascii")
    if answer.status in (200, 202):
        return document
    assert answer.status in REFUSALS
    assert not changed
    assert document["status"] == answer.status
    assert document["detail"]
    return document


@given(bodies())
def test_body(sent: tuple[str, bytes]) -> None:
    """Every signed body is answered: by an action, or by a problem without a change; 400 and 422 name a field."""
    action, body = sent
    made = {**signed_headers(body, secret=HUSH, at=START.timestamp() + 300), "Content-Type": "application/json"}
    headers = [(name.encode(), value.encode()) for name, value in made.items()]
    document = check(*asyncio.run(ask("POST", f"/{action}", body=body, headers=headers)))
    if document.get("status") in (400, 422):
        assert document["field"]


PATHS = near(*(f"/{name}" for name in (*ACTIONS, *VIEWS, "health")))
METHODS = st.sampled_from(["GET", "POST", "PUT", "get", ""])
NAMES = near("content-length", "content-encoding", "webhook-id", "x-forwarded-for")
HEADERS = st.lists(st.tuples(NAMES, near("5", "gzip", "10.0.0.1")), max_size=3)


@given(PATHS, METHODS, HEADERS, ANY_TEXT)
def test_request(path: str, method: str, headers: list[tuple[str, str]], query: str) -> None:
    """A request without a signature is answered, and changes nothing."""
    sent = [(name.lower().encode(errors="replace"), value.encode(errors="replace")) for name, value in headers]
    answer, changed = asyncio.run(ask(method, path, query=query, headers=sent))
    check(answer, changed)
    assert not changed


CURSORS = ("1735732800000000.1.1", "-999999999999999999.3.999999999999999999")
PARAMETERS = st.dictionaries(
    st.sampled_from(["since", "limit", "after", "key"]),
    near("24h", "999999w", "2025-01-01T00:00:00Z", "100", "open", *CURSORS),
)
INSTANTS = st.datetimes().map(lambda at: at.replace(tzinfo=UTC))


@given(st.sampled_from(list(VIEWS)), PARAMETERS.map(lambda found: urlencode(found, errors="surrogatepass")) | ANY_TEXT)
def test_query(view: str, query: str) -> None:
    """Every query gets its answer or a problem."""
    check(*asyncio.run(ask("GET", f"/{view}", query=query)))


@given(st.builds(AuditCursor, INSTANTS, st.sampled_from(AuditSource), st.integers(0, 10**18 - 1)))
def test_cursor(position: AuditCursor) -> None:
    """A parsed cursor equals the position that it was made from."""
    assert position == parse_cursor(position.cursor)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_json(body: bytes) -> None:
    """``parse`` reads a body as Python reads JSON, or refuses it with status 400 and a field."""
    try:
        found = reading.parse(body)
    except Problem as problem:
        assert 400 == problem.status
        assert problem.field
        return
    assert json.dumps(found) == json.dumps(json.loads(body))
