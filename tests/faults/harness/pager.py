"""PagerDuty's test server as a receiver of a run: it records each event, and which worker sent it."""

import json
from collections.abc import Iterator
from time import time
from typing import Any

import attrs
from aiohttp import web

from escalation_core.testing.invariants.history import Request
from escalation_core.testing.invariants.notice_records import Told

from ...pagerduty_server import KEY, AlertState, PagerDutyServer

TARGET = "pager"
"""The name of the target."""


@attrs.define
class Pager(PagerDutyServer):
    """One service with an integration for each worker, so that an event shows who sent it. All share their alerts."""

    limit: int = 1_000_000
    requests: list[Request] = attrs.field(factory=list)
    told: list[Told] = attrs.field(factory=list)
    refuses: int = 0
    """How many of the next events it answers with 503, after it has accepted every second one of them."""
    _workers: dict[str, str] = attrs.field(factory=dict)

    def url_of(self, worker: str) -> str:
        """Return the URL through which a worker sends. The routing key is a secret."""
        name = f"{KEY[:20]}{len(self._workers):012}"
        self._workers[name] = worker
        return self.url(name)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no text of the run may have: a part of each routing key."""
        return (KEY[:20],)

    def take(self, body: bytes, content_type: str = "application/json") -> web.Response:
        """Act on an event as the server of the one service does, and record it."""
        event: dict[str, Any] = json.loads(body)
        worker = self._workers[event["routing_key"]]
        fails = self.refuses > 0
        self.refuses -= fails
        accepts = not fails or self.refuses % 2 == 0
        answer = web.Response(status=503)
        if accepts:
            answer = super().take(json.dumps({**event, "routing_key": KEY}).encode(), content_type)
            accepts = answer.status == 202
        self._record(event, worker, accepted=accepts, answered=not fails)
        return web.Response(status=503) if fails else answer

    def _record(self, event: dict[str, Any], worker: str, *, accepted: bool, answered: bool) -> None:
        now = time()
        if event["event_action"] == "trigger":
            key = event["payload"]["custom_details"]["dedup_key"]
            ended = now if answered else None
            self.requests.append(
                Request(dedup_key=key, target=TARGET, worker=worker, at=now, accepted=accepted, answered_at=ended)
            )
        else:
            self.told.append(
                Told(
                    dedup_key=event["dedup_key"],
                    target=TARGET,
                    worker=worker,
                    at=now,
                    accepted=accepted,
                    answered=answered,
                    kind={"acknowledge": "acknowledged", "resolve": "resolved"}[event["event_action"]],
                )
            )

    def unresolved(self) -> Iterator[str]:
        """Yield the keys of the threads that are not resolved."""
        yield from (key for (_, key), thread in self.threads.items() if thread.state is not AlertState.RESOLVED)
