"""``escalation test-page``, against a real HTTP server: what became of the page, the exit code, and no secret."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ..pagerduty_server import KEY, PATH, PagerDutyServer
from .console import Console, Said, one_line, program

SECRET = "T0HUSH-B0HUSH-xHUSHx"
REPLIES: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "ok": (200, b"ok", {}),
    "login": (200, b"<html>", {}),
    "gone": (404, b"no_service", {}),
    "forbidden": (403, b"", {}),
    "moved": (302, b"", {"Location": f"https://127.0.0.1:1/{SECRET}"}),
    "busy": (429, b"", {"Retry-After": "30"}),
    "broken": (500, b"", {}),
}
FACES = {
    "ok": (0, "delivered", None),
    "login": (6, "failed", "HTTP 200 without the receiver's ok"),
    "gone": (3, "rejected", "HTTP 404"),
    "forbidden": (3, "rejected", "HTTP 403"),
    "moved": (3, "rejected", "redirect"),
    "busy": (4, "throttled", "HTTP 429"),
    "broken": (6, "failed", "HTTP 500"),
    "refused": (5, "unreachable", "ClientConnectorError (ConnectionRefusedError)"),
}
PAGERDUTY = {"pagerduty:ops": KEY, "pagerduty:old": f"{KEY[:-3]}0LD"}
"""The routing keys of an integration, and of one that was deleted."""


class Receiver(ThreadingHTTPServer):
    """A receiver of Slack's format; the target's name in the path selects the reply."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: list[dict[str, Any]] = []
        self.pagerduty = PagerDutyServer()

    @property
    def targets(self) -> str:
        """The value of ESC_TARGETS: a target for each reply, and one whose port is closed."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            urls = {name: f"http://127.0.0.1:{self.server_port}/{name}/{SECRET}" for name in REPLIES}
            return json.dumps(urls | {"refused": f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}"})


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == PATH:
            answer = self.server.pagerduty.take(body, self.headers["Content-Type"])
            assert isinstance(answer.body, bytes)
            return self.reply(answer.status, answer.body, {})
        self.server.pages.append(json.loads(body) | {"path": self.path})
        return self.reply(*REPLIES[self.path.split("/")[1]])

    def reply(self, status: int, reply: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def paging(console: Console, receiver: Receiver) -> Console:
    """The command line with these targets, and without a database."""
    console.env |= {"ESC_TARGETS": receiver.targets, "ESC_ALLOW_HTTP": "true"}
    return console


def no_secret(said: Said) -> Said:
    assert SECRET not in said.out + said.err
    return said


@pytest.mark.parametrize("target", FACES)
def test_each_outcome_is_told_apart(target: str, paging: Console) -> None:
    """Each reply of a receiver has its word, its reason and its exit code, and no output has the URL."""
    code, verdict, reason = FACES[target]
    said = no_secret(paging("test-page", target, "--json"))
    assert (code, []) == (said.code, said.complaints)
    after = 30 if target == "busy" else None
    expected = {"target": target, "channel": "slack", "verdict": verdict, "reason": reason, "after": after}
    assert [expected] == said.json
    plain = no_secret(paging("test-page", target))
    assert (code, 1) == (plain.code, len(plain.lines))
    assert plain.out.startswith(f"{target}: {verdict}")
    assert target != "busy" or "a real page would wait 30 s" in plain.out


def test_pagerduty(console: Console, receiver: Receiver) -> None:
    """A test page to PagerDuty opens an alert that says so. No output has a routing key, refused or not."""
    urls = {name: f"pagerduty+http://{key}@127.0.0.1:{receiver.server_port}" for name, key in PAGERDUTY.items()}
    said = console("test-page", "--all", "--json", ESC_TARGETS=json.dumps(urls), ESC_ALLOW_HTTP="true")
    reason = "HTTP 400: PagerDuty refuses the routing key"
    assert (3, []) == (said.code, said.complaints)
    assert [("pagerduty:ops", "delivered", None), ("pagerduty:old", "rejected", reason)] == [
        (one["target"], one["verdict"], one["reason"]) for one in said.json
    ]
    assert not [key for key in PAGERDUTY.values() if key in said.out + said.err]
    (event,) = receiver.pagerduty.events
    assert event["payload"]["summary"].startswith("TEST: nothing is wrong. ")


def test_page_says_that_it_is_a_test(paging: Console, receiver: Receiver) -> None:
    """The receiver sees that the page is a test, who sent it and why; each page has a dedup key of its own."""
    for _ in range(2):
        assert 0 == paging("test-page", "ok", "--by", "ada", "--reason", "new webhook").code
    first, second = receiver.pages
    assert first["text"].startswith("TEST: nothing is wrong. ada tests the target ok: new webhook\n")
    assert first["dedup_key"] != second["dedup_key"]


def test_all_targets(paging: Console, receiver: Receiver) -> None:
    """--all tests each target of the settings once, also if some fail; the first failure decides the exit code."""
    said = no_secret(paging("test-page", "--all", "--json"))
    assert (6, []) == (said.code, said.complaints)
    assert {name: face[1] for name, face in FACES.items()} == {one["target"]: one["verdict"] for one in said.json}
    assert len(REPLIES) == len(receiver.pages)
    assert [0, 4] == [paging("test-page", "ok", "ok").code, paging("test-page", "ok", "busy", "gone").code]


def test_wrong_targets_send_nothing(paging: Console, receiver: Receiver) -> None:
    """A target that does not exist, or a URL, is refused before any page is sent; the error lists the targets."""
    line = one_line(no_secret(paging("test-page", "ok", "opps")))
    assert line == f"target: 'opps' is unknown; give one of: log, {', '.join(FACES)}"
    assert "has a URL where a name belongs" in one_line(no_secret(paging("test-page", f"https://x.example/{SECRET}")))
    for words in ((), ("ok", "--all")):
        assert 2 == paging("test-page", *words).code
    assert [] == receiver.pages


def test_log_target(console: Console) -> None:
    """Without targets the log gets the page, and the command says that it reaches no person."""
    said = program("test-page", "--all")
    assert (0, "log: delivered, to the log of this process alone: it reaches no person\n") == (said.code, said.out)
    assert "TEST: nothing is wrong" in said.err
    assert 0 == console("test-page", "log", ESC_DRY_RUN="true", ESCALATION_WORKER_ENABLED="false").code


def test_audit_keeps_the_test(escalation: Console, receiver: Receiver) -> None:
    """With a database the audit has a note with the result, and there is no incident, escalation or page."""
    escalation.env |= {"ESC_TARGETS": receiver.targets, "ESC_ALLOW_HTTP": "true"}
    assert 0 == no_secret(escalation("test-page", "ok", "--by", "ada")).code
    assert 3 == no_secret(escalation("test-page", "gone", "--by", "ada", "--reason", "why")).code
    entries = escalation("audit", "--json").json
    assert [("test page", "ada", "gone rejected: HTTP 404: why"), ("test page", "ada", "ok delivered")] == [
        (entry["action"], entry["actor"], entry["reason"]) for entry in entries
    ]
    proof = escalation("prove", "--json").json
    assert ({}, 0) == (proof["pages"], proof["escalations"])


@pytest.mark.parametrize(
    "url", [f"postgresql://u:{SECRET}@127.0.0.1:1/x", "sqlite:////nowhere/escalation.db", "mysql://x"]
)
def test_works_while_the_database_is_down(url: str, paging: Console, receiver: Receiver) -> None:
    """The page is sent and its result told if the database is out of reach; one line says what the audit lacks."""
    said = no_secret(paging("test-page", "ok", ESC_DATABASE_URL=url))
    assert (0, "ok: delivered\n", 1) == (said.code, said.out, len(receiver.pages))
    [line] = said.err.splitlines()
    assert line.startswith("escalation: the audit has no note of this test: ")
