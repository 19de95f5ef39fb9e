"""The web services on the page about the operators' endpoints act, behind a real server, and stop cleanly."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from escalation_adapters.auth.hmac_signature import signed_headers
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Engine

from ..examples.hosting import Programs
from ..integration.ops.service import listening
from .pages import DOCS, blocks

SECRET = "whsec_c2VjcmV0IG9mIHRoaXJ0eS10d28gcmFuZG9tIGJ5dGVz"
PAGE = "https://status.example.org"
HOST = """
from types import SimpleNamespace

import example


async def app(scope, receive, send):
    user = SimpleNamespace(name="ada", roles={"ops_admin"})
    await example.app(scope | {"user": user}, receive, send)
"""
"""A host whose middleware gives each request the user ada."""


def extract(part: str, path: Path) -> None:
    """Write the page's Python block that holds a text to a file."""
    page = DOCS / "how-to/operators-endpoints.md"
    [text] = [block.text for block in blocks(page, "python") if part in block.text]
    path.write_text(text, encoding="utf-8")


def sent(**fields: Any) -> bytes:
    return json.dumps({"action": "acknowledge", "incident_key": "db-7", **fields}).encode()


async def reported(name: str | Path) -> None:
    """Open an incident in the file that the example opens."""
    async with Engine(SQLiteStore(name)) as engine:
        await engine.open("db-7", severity="critical")


@pytest.mark.parametrize(("app", "status"), [("example:app", 401), ("host:app", 200)])
async def test_fastapi_service_runs_as_it_stands(app: str, status: int, tmp_path: Path) -> None:
    """Under uvicorn the service opens its store, answers health and a signed action, and stops cleanly."""
    extract('scope.get("user")', tmp_path / "example.py")
    (tmp_path / "host.py").write_text(HOST, encoding="utf-8")
    await reported(tmp_path / "escalation.db")

    with Programs(home=tmp_path, folder=tmp_path).beside("uvicorn", app, "--port", "0") as program:
        port = program.wait_for(r"running on http://127.0.0.1:(\d+)")[1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            async with http.get("/ops/escalation/health") as answer:
                assert (200, {"ok": True}) == (answer.status, await answer.json())
            body = sent()
            headers = {"Content-Type": "application/json", **signed_headers(body, secret=SECRET)}
            async with http.post("/ops/escalation/acknowledge", data=body, headers=headers) as answer:
                assert status == answer.status, await answer.text()
            async with http.post("/ops/escalation/acknowledge", data=body, headers=headers) as answer:
                assert 401 == answer.status
        said = program.stop().out

    assert "Traceback" not in said
    assert "ERROR" not in said
    if sys.platform != "win32":  # where terminate kills
        assert "Application shutdown complete" in said
    async with Engine(SQLiteStore(tmp_path / "escalation.db")) as engine:
        shown = await engine.history("db-7")
        assert shown.incident is not None
        assert ("ada" if status == 200 else None) == shown.incident.acknowledged_by


async def test_the_page_behind_the_login_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cookie and the page's origin together acknowledge an incident; one alone, or an ended session, does not."""
    monkeypatch.chdir(tmp_path)
    extract("Sessions([", tmp_path / "example.py")
    example = runpy.run_path("example.py")
    await reported("escalation.db")
    password = example["PASSWORDS"]["ada"]
    own = {"Origin": PAGE, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}

    async with listening(example["app"]) as port:
        base = f"http://127.0.0.1:{port}"
        # As a browser does behind the proxy that ends TLS: the jar keeps and sends the Secure cookie.
        jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=base)
        async with aiohttp.ClientSession(base, cookie_jar=jar) as http:

            async def post(path: str, headers: dict[str, str], body: bytes) -> int:
                async with http.post(path, data=body, headers=headers) as answer:
                    return answer.status

            async def acts(**changed: str) -> int:
                return await post("/ops/escalation/acknowledge", own | changed, sent())

            assert 401 == await acts()
            wrong = json.dumps({"name": "ada", "password": "guess"}).encode()
            right = json.dumps({"name": "ada", "password": password}).encode()
            assert [401, 200] == [await post("/login", own, each) for each in (wrong, right)]
            [cookie] = jar
            assert cookie["secure"]
            assert cookie["httponly"]
            assert 403 == await acts(Origin="https://evil.example")
            assert 403 == await acts(Origin="null")
            assert 415 == await acts(**{"Content-Type": "text/plain"})
            assert 401 == await acts(**{"webhook-signature": "v1,AAAA"})
            assert 422 == await post("/ops/escalation/acknowledge", own, sent(by="eve"))
            async with http.get("/ops/escalation/incident?key=db-7") as answer:
                assert "open" == (await answer.json())["incident"]["state"]

            assert 200 == await acts()

            async with http.get("/ops/escalation/incident?key=db-7") as answer:
                assert "ada" == (await answer.json())["incident"]["acknowledged_by"]
            token = cookie.value
            assert 200 == await post("/logout", own, b"")
            assert 401 == await acts(Cookie=f"__Host-session={token}")
