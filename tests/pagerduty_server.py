"""A server that speaks PagerDuty's Events API v2: its checks of an event, its limits, and its alerts.

What it checks: https://github.com/PagerDuty/developer-docs/blob/main/docs/events-API-v2. It is stricter than PagerDuty
where that is not documented, so that a wrong event fails a test: it refuses fields that the documentation does not
name, and counts a summary in units of UTF-16.
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import attrs
from aiohttp import web

KEY = "R0UT1NGK3Y0000000000000000000HUS"
"""The routing key of an integration that every server has."""
PATH = "/v2/enqueue"
MAX_EVENT_BYTES = 512_000
MAX_SUMMARY_CHARS = 1024
MAX_DEDUP_KEY_CHARS = 255
MAX_EVENTS_A_MINUTE = 120
SEVERITIES = ("critical", "error", "warning", "info")
ACTIONS = ("trigger", "acknowledge", "resolve")
EVENT = {"routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"}
PAYLOAD = {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}


class AlertState(StrEnum):
    """The state of an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@attrs.define
class Thread:
    """All alerts of one routing key and one dedup key, of which at most one is not resolved."""

    state: AlertState = AlertState.OPEN
    opened: int = 1
    """How many alerts it had."""
    triggers: int = 1
    notified: int = 1
    """How often a person was notified: by each trigger that opens an alert. Later triggers only add to its log."""


@attrs.define
class PagerDutyServer:
    """The server. ``accept``, ``answer``, ``stall`` and ``vanish`` set what it does with the next events."""

    keys: set[str] = attrs.field(factory=lambda: {KEY})
    """The routing keys of its integrations."""
    limit: int = MAX_EVENTS_A_MINUTE
    """How many events of a routing key it takes within a minute."""
    clock: Callable[[], float] = monotonic
    """Returns seconds."""
    events: list[Mapping[str, Any]] = attrs.field(factory=list)
    """The events that it accepted."""
    errors: list[str] = attrs.field(factory=list)
    """What was wrong with the events that it refused."""
    threads: dict[tuple[str, str], Thread] = attrs.field(factory=dict)
    """The alerts, by routing key and dedup key."""
    dropped: int = 0
    """How many acknowledgements and resolutions met no alert that was open."""
    port: int = 0
    _behave: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    _recent: dict[str, deque[float]] = attrs.field(factory=dict)
    _runner: web.AppRunner | None = None
    _waiting: "set[asyncio.Future[None]]" = attrs.field(factory=set)

    @property
    def host(self) -> str:
        """The host and the port."""
        return f"127.0.0.1:{self.port}"

    def url(self, key: str = KEY) -> str:
        """Return the URL of a target for ESC_TARGETS."""
        return f"pagerduty+http://{key}@{self.host}"

    async def accept(self) -> None:
        """Speak the protocol. Listen, on the same port as before if there was one."""
        self._behave = None
        if self._runner is None:
            app = web.Application(client_max_size=2 * MAX_EVENT_BYTES)
            app.router.add_post(PATH, self._take)
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
            self.port = self._runner.addresses[0][1]

    def answer(self, status: int, body: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer each event with this reply, and take none."""

        async def reply(_: web.Request) -> web.Response:
            return web.Response(status=status, text=body or None, headers=headers)

        self._behave = reply

    def stall(self) -> None:
        """Answer no event."""

        async def wait(_: web.Request) -> web.Response:
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(never)
            await never
            raise AssertionError("it has no result")

        self._behave = wait

    async def vanish(self) -> None:
        """Reset every connection, and refuse new ones until ``accept``."""
        runner, self._runner = self._runner, None
        waiting, self._waiting = self._waiting, set()
        for never in waiting:
            never.cancel()
        if runner is not None:
            for connection in [] if runner.server is None else list(runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def aclose(self) -> None:
        """End the server."""
        await self.vanish()

    def thread(self, dedup_key: str, key: str = KEY) -> Thread:
        """Return the alerts with a dedup key."""
        return self.threads[key, dedup_key]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        if self._behave is not None:
            return await self._behave(request)
        return self.take(await request.read(), request.content_type)

    def take(self, body: bytes, content_type: str = "application/json") -> web.Response:
        """Return the reply to an event, and act on it if it is valid."""
        try:
            event = json.loads(body)
        except ValueError:
            return self._refuse(["JSON parse error"], "Unrecognized object")
        found = list(faults(event, self.keys))
        if content_type != "application/json":
            found.append("the content type is not application/json")
        if len(body) > MAX_EVENT_BYTES:
            found.append("the event is larger than 512 KB")
        if found:
            return self._refuse(found)
        if not self._within_limit(event["routing_key"]):
            return web.Response(status=429, text="Request Limit Exceeded")
        self.events.append(event)
        self._act(event)
        answer = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
        return web.json_response(answer, status=202)

    def _refuse(self, found: Sequence[str], status: str = "invalid event") -> web.Response:
        self.errors.extend(found)
        answer = {"status": status, "message": "Event object is invalid", "errors": list(found)}
        return web.json_response(answer, status=400)

    def _within_limit(self, key: str) -> bool:
        recent, now = self._recent.setdefault(key, deque()), self.clock()
        while recent and recent[0] <= now - 60:
            recent.popleft()
        if len(recent) >= self.limit:
            return False
        recent.append(now)
        return True

    def _act(self, event: Mapping[str, Any]) -> None:
        """Open, acknowledge or resolve the alert. A trigger after a resolution opens another one."""
        name = event["routing_key"], event["dedup_key"]
        thread, action = self.threads.get(name), event["event_action"]
        over = thread is None or thread.state is AlertState.RESOLVED
        if thread is None or over:
            if action != "trigger":
                self.dropped += 1
            elif thread is None:
                self.threads[name] = Thread()
            else:
                thread.state = AlertState.OPEN
                thread.opened += 1
                thread.triggers += 1
                thread.notified += 1
        elif action == "trigger":
            thread.triggers += 1
        else:
            thread.state = AlertState.ACKNOWLEDGED if action == "acknowledge" else AlertState.RESOLVED


def faults(event: object, keys: set[str]) -> Iterator[str]:
    """Yield what is wrong with an event."""
    if not isinstance(event, dict):
        yield "the event is not an object"
        return
    yield from (f"'{name}' is not a field of an event" for name in sorted(set(event) - EVENT))
    key, action = event.get("routing_key"), event.get("event_action")
    if not isinstance(key, str) or not key.strip():
        yield "'routing_key' is missing or blank"
    elif len(key) != 32:
        yield "Length of 'routing_key' is incorrect (should be 32 characters)"
    elif not re.fullmatch("[A-Za-z0-9]+", key):
        yield "'routing_key' cannot contain non-alphanumeric characters."
    elif key not in keys:
        yield "Invalid routing key"
    if action not in ACTIONS:
        yield "'event_action' is not trigger, acknowledge or resolve"
    yield from _text(event, "dedup_key", MAX_DEDUP_KEY_CHARS)
    yield from (fault for name in ("client", "client_url") if name in event for fault in _text(event, name))
    yield from _links(event.get("links", []))
    if action == "trigger" or "payload" in event:
        yield from _payload(event.get("payload"))


def _payload(payload: object) -> Iterator[str]:
    if not isinstance(payload, dict):
        yield "'payload' is missing or blank"
        return
    yield from (f"'payload.{name}' is not a field of a payload" for name in sorted(set(payload) - PAYLOAD))
    yield from _text(payload, "summary", MAX_SUMMARY_CHARS)
    yield from _text(payload, "source")
    if payload.get("severity") not in SEVERITIES:
        yield "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')"
    yield from (fault for name in ("component", "group", "class") if name in payload for fault in _text(payload, name))
    if not isinstance(payload.get("custom_details", {}), dict):
        yield "'payload.custom_details' is not an object"
    if "timestamp" in payload:
        try:
            aware = datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
        except (TypeError, ValueError):
            aware = False
        if not aware:
            yield "'payload.timestamp' is not an ISO 8601 timestamp"


def _links(links: object) -> Iterator[str]:
    if not isinstance(links, list):
        yield "'links' is not a list"
        return
    for link in links:
        if not isinstance(link, dict) or set(link) - {"href", "text"}:
            yield "a link is not an object with href and text"
        elif not _is_url(link.get("href")):
            yield "'href' is not a URL"
        elif "text" in link:
            yield from _text(link, "text")


def _is_url(value: object) -> bool:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _text(holder: Mapping[str, Any], name: str, most: int | None = None) -> Iterator[str]:
    value = holder.get(name)
    if not isinstance(value, str) or not value.strip():
        yield f"'{name}' is missing or blank"
    elif most is not None and len(value.encode("utf-16-le", "surrogatepass")) // 2 > most:
        yield f"'{name}' is too long (maximum is {most} characters)"
