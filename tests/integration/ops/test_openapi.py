"""The endpoints accept each request that the OpenAPI document allows, and refuse others as the document says."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from escalation_adapters.auth.rate_limit import Limit
from escalation_adapters.ops import Limits
from escalation_adapters.ops.handler import ACTIONS, HEALTH, VIEWS
from escalation_core import Engine, Settings
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .service import BINDINGS, SECRET, Service, serving

DOCUMENT: dict[str, Any] = json.loads((files("escalation_adapters.ops") / "openapi.json").read_text(encoding="utf-8"))
MANY = Limit(10**6)


def unsigned(operation: dict[str, Any]) -> dict[str, Any]:
    """Return an operation without signature and login, which the test adds. Schemathesis generates the rest."""
    return operation | {
        "security": [],
        "parameters": [each for each in operation.get("parameters", []) if "$ref" not in each],
    }


schema = schemathesis.openapi.from_dict(
    DOCUMENT
    | {
        "paths": {
            path: {method: unsigned(operation) for method, operation in operations.items()}
            for path, operations in DOCUMENT["paths"].items()
        }
    }
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def test_every_route_is_there() -> None:
    """The document's paths are the handler's routes, and each body's fields are those that the route knows."""
    assert {f"/{name}" for name in (*ACTIONS, *VIEWS, HEALTH)} == set(DOCUMENT["paths"])
    for name, action in ACTIONS.items():
        body = DOCUMENT["paths"][f"/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert {"action", *action.fields} == set(body["properties"])
    for name, (_, known) in VIEWS.items():
        assert list(known) == [parameter["name"] for parameter in DOCUMENT["paths"][f"/{name}"]["get"]["parameters"]]


@pytest.fixture(scope="module", params=BINDINGS)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service in a loop and a thread of its own, with some incidents."""
    clock = ManualClock(datetime(2025, 1, 1, 12, tzinfo=UTC))
    engine = Engine(MemoryStore(clock), settings=Settings(ops_hmac_secret=SECRET), notifiers=[RecordingNotifier()])
    loop = asyncio.new_event_loop()
    ready, running = threading.Event(), []

    async def main() -> None:
        for key in ("0", "k", "a b"):
            await engine.open(key, severity="critical", labels={"team": "db"})
        clock.advance(timedelta(minutes=5))
        await engine.tick()
        limits = Limits(peer=MANY, tick=MANY, act=MANY, look=MANY)
        async with serving(request.param, engine, clock, limits=limits) as made:
            running.append((made, stop := asyncio.Event()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(10)
    made, stop = running[0]
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_answers_as_the_document_says(case: "schemathesis.Case[Any]", service: Service) -> None:
    """Each generated request, signed and with a login, gets a status, type and body that the document describes."""
    url = f"http://127.0.0.1:{service.port}/ops/escalation"
    kwargs = case.as_transport_kwargs(base_url=url)
    made = requests.Request(
        kwargs["method"], kwargs["url"], params=kwargs.get("params"), json=kwargs.get("json"), data=kwargs.get("data")
    ).prepare()
    body = made.body.encode() if isinstance(made.body, str) else made.body or b""
    assert isinstance(body, bytes)
    made.headers.update(dict(service.signed(body)) | {"Cookie": "user=ada"})
    with requests.Session() as session:
        case.validate_response(session.send(made, timeout=10), checks=CHECKS)
