"""The PagerDuty notifier, with a server that speaks its protocol: alerts, and the outcome of each answer."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import attrs
import pytest

from escalation_adapters.channels.pagerduty import THROTTLE, PagerDutyNotifier
from escalation_adapters.channels.pagerduty_budget import pagerduty_budgets
from escalation_core import (
    Budget,
    Delivered,
    Engine,
    InvalidValue,
    Notice,
    NoticeKind,
    Notifier,
    Outcome,
    Page,
    Rejected,
    Retry,
    Settings,
    TellsNotices,
    idempotency_key,
)
from escalation_core.testing import ManualClock, MemoryStore

from ..pagerduty_server import KEY, AlertState, PagerDutyServer, Thread
from ..unit.adapters.channels.slack_page import INSTANT, page

pytestmark = pytest.mark.asyncio
TARGET = "pagerduty:ops"
THREAD = idempotency_key("db-7/disk", 0)


@pytest.fixture
async def server() -> AsyncIterator[PagerDutyServer]:
    """Start a server, whose events must all have been valid in the end."""
    made = PagerDutyServer()
    await made.accept()
    yield made
    await made.aclose()
    assert [] == made.errors


@pytest.fixture
async def notifier(server: PagerDutyServer) -> AsyncIterator[PagerDutyNotifier]:
    """Return a notifier of the server's integration."""
    made = PagerDutyNotifier({TARGET: server.url()}, allow_http=True)
    yield made
    await made.aclose()


def level(number: int, **fields: Any) -> Page:
    """Return a page of a level to the tests' target."""
    return attrs.evolve(page(**fields), target=TARGET, level=number)


def notice(kind: NoticeKind, episode: int = 1) -> Notice:
    """Return a notice about the incident of the tests' pages."""
    return Notice(
        kind=kind, incident_key="db-7/disk", episode=episode, level=2, at=INSTANT, target=TARGET, dedup_key="n" * 64,
    )  # fmt: skip


async def test_levels_are_one_alert(server: PagerDutyServer, notifier: PagerDutyNotifier) -> None:
    """All levels of an episode trigger one alert, which notifies once. Another episode opens another alert."""
    assert [Delivered()] * 3 == [await notifier.send(level(number)) for number in (1, 2, 3)]
    thread = server.thread(THREAD)
    assert (AlertState.OPEN, 1, 3, 1) == (thread.state, thread.opened, thread.triggers, thread.notified)
    assert Delivered() == await notifier.send(attrs.evolve(level(3), episode=2))
    assert 2 == len(server.threads)


async def test_resolve_and_acknowledge(server: PagerDutyServer, notifier: PagerDutyNotifier) -> None:
    """A notice acknowledges or resolves the alert. After an acknowledgement later pages notify no one."""
    await notifier.send(level(1))
    assert Delivered() == await notifier.tell(notice(NoticeKind.ACKNOWLEDGED))
    assert AlertState.ACKNOWLEDGED is server.thread(THREAD).state
    await notifier.send(level(2))
    assert 1 == server.thread(THREAD).notified
    assert [Delivered()] * 2 == [await notifier.tell(notice(NoticeKind.RESOLVED)) for _ in range(2)]
    assert (AlertState.RESOLVED, 1) == (server.thread(THREAD).state, server.dropped)


async def test_a_page_sent_twice_is_one_alert(server: PagerDutyServer, notifier: PagerDutyNotifier) -> None:
    """A second attempt of a page that arrived adds to its alert, and notifies no one again."""
    await notifier.send(level(1))
    await notifier.send(attrs.evolve(level(1), attempt=2))
    assert (1, 1) == (len(server.threads), server.thread(THREAD).notified)


@attrs.define
class Night:
    """An engine whose incident pages this server, on a clock that the test sets."""

    engine: Engine
    clock: ManualClock

    async def after(self, minutes: int) -> None:
        """Let time pass, and tick."""
        self.clock.advance(timedelta(minutes=minutes))
        await self.engine.tick()


@asynccontextmanager
async def night(server: PagerDutyServer, **settings: Any) -> AsyncIterator[Night]:
    """Open an incident, and page about its first level."""
    clock = ManualClock()
    notifier = PagerDutyNotifier({TARGET: server.url()}, allow_http=True)
    async with Engine(MemoryStore(clock), settings=Settings(**settings), notifiers=[notifier]) as engine:
        await engine.open("db-7/disk", severity="critical", summary="Disk nearly full")
        made = Night(engine, clock)
        await made.after(5)
        yield made


async def test_an_incident_is_an_alert_from_page_to_resolution(server: PagerDutyServer) -> None:
    """All levels belong to one alert. It notifies once, and it is resolved with the incident."""
    async with night(server) as one:
        await one.after(30)
        assert ["Disk nearly full (level 1)", "Disk nearly full (level 2)"] == [
            event["payload"]["summary"] for event in server.events
        ]
        await one.engine.resolve("db-7/disk", by="ann")
        await one.after(1)
    assert {(KEY, THREAD): Thread(state=AlertState.RESOLVED, opened=1, triggers=2, notified=1)} == server.threads


async def test_an_acknowledgement_is_sent_on_request_alone(server: PagerDutyServer) -> None:
    """Without the setting, the alert stays open while the incident is acknowledged."""
    for asked, state in (((), AlertState.OPEN), (NoticeKind, AlertState.ACKNOWLEDGED)):
        server.threads.clear()
        notices = {TARGET: frozenset(asked)} if asked else {}
        async with night(server, notices=notices) as one:
            await one.engine.acknowledge("db-7/disk", by="ann")
            await one.after(1)
        assert state is server.thread(THREAD).state


async def test_each_episode_is_an_alert_and_the_resolution_ends_all(server: PagerDutyServer) -> None:
    """A drain begins an episode, which opens another alert of PagerDuty. Resolving the incident resolves both."""
    async with night(server) as one:
        await one.engine.drain("db-7/disk", by="ann", reason="again from the first level")
        await one.after(30)
        assert [AlertState.OPEN] * 2 == [thread.state for thread in server.threads.values()]
        await one.engine.resolve("db-7/disk", by="ann")
        await one.after(1)
    assert [AlertState.RESOLVED] * 2 == [thread.state for thread in server.threads.values()]
    assert 0 == server.dropped


async def outcome(server: PagerDutyServer, status: int, body: str = "", **headers: str) -> Outcome:
    """Return the notifier's outcome for this answer."""
    server.answer(status, body, headers)
    notifier = PagerDutyNotifier({TARGET: server.url()}, allow_http=True)
    try:
        return await notifier.send(level(1))
    finally:
        await notifier.aclose()


@pytest.mark.parametrize("status", [200, 202])
async def test_success_is_delivered(server: PagerDutyServer, status: int) -> None:
    """An answer with the status success is a delivery, whatever else it says."""
    assert Delivered() == await outcome(server, status, '{"status": "success", "message": "Event processed"}')


@pytest.mark.parametrize(
    "body",
    ["", "success", '"success"', '["success"]', "{}", '{"status": "Success"}', '{"status": ["success"]}', "[" * 60_000,
     '{"status": "success"', "<html>log in</html>", '{"status": "success"}' + " " * 70_000, '{"status": "\udcff"}'],
)  # fmt: skip
async def test_any_other_answer_is_tried_again(server: PagerDutyServer, body: str) -> None:
    """A 2xx without the status success is a Retry, and its reason does not quote the answer."""
    body = body.encode("utf-8", "surrogateescape").decode("latin-1")
    assert Retry("HTTP 202 without PagerDuty's success") == await outcome(server, 202, body)


@pytest.mark.parametrize(
    ("errors", "whole_target"),
    [
        (["Invalid routing key"], True),
        (["Length of 'routing_key' is incorrect (should be 32 characters)"], True),
        (["'summary' is too long (maximum is 1024 characters)", "Invalid Routing Key."], True),
        (["'payload.severity' is missing or blank"], False),
        ([f"Invalid routing key {KEY}"], False),
        ([7, None, ["Invalid routing key"]], False),
        ("Invalid routing key", True),
        ({"Invalid routing key": 1}, False),
    ],
)
async def test_a_refused_key_concerns_every_event(server: PagerDutyServer, errors: object, whole_target: bool) -> None:
    """PagerDuty says by its text whether it refuses the event or the routing key. Any other text is about the event."""
    answer = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
    reason = "HTTP 400: PagerDuty refuses the routing key" if whole_target else "HTTP 400"
    assert Rejected(reason, whole_target) == await outcome(server, 400, json.dumps(answer))


async def test_an_integration_that_was_deleted(server: PagerDutyServer, notifier: PagerDutyNotifier) -> None:
    """The real answer to a routing key that no integration has."""
    server.keys.clear()
    assert Rejected("HTTP 400: PagerDuty refuses the routing key", True) == await notifier.send(level(1))
    assert ["Invalid routing key"] == server.errors
    server.errors.clear()


@pytest.mark.parametrize(
    ("headers", "after"),
    [({}, THROTTLE), ({"Retry-After": "7"}, timedelta(seconds=7)), ({"Retry-After": "x"}, THROTTLE)],
)
async def test_throttled(server: PagerDutyServer, headers: dict[str, str], after: timedelta) -> None:
    """A 429 throttles the target, for the time that PagerDuty's documentation suggests if the answer gives none."""
    assert Retry("HTTP 429", after, throttled=True) == await outcome(server, 429, "Request Limit Exceeded", **headers)


async def test_the_servers_limit(server: PagerDutyServer, notifier: PagerDutyNotifier) -> None:
    """The limit of events a minute counts the last 60 seconds."""
    now = 0.0
    server.clock, server.limit = lambda: now, 3
    first = [await notifier.send(level(number)) for number in range(1, 5)]
    assert [Delivered()] * 3 + [Retry("HTTP 429", THROTTLE, throttled=True)] == first
    now = 60.0
    assert Delivered() == await notifier.send(level(4))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (302, Rejected("redirect")),
        (401, Rejected("HTTP 401")),
        (403, Rejected("HTTP 403")),
        (413, Rejected("HTTP 413")),
        (408, Retry("HTTP 408")),
        (500, Retry("HTTP 500")),
        (503, Retry("HTTP 503")),
    ],
)
async def test_other_statuses_are_those_of_every_channel(
    server: PagerDutyServer, status: int, expected: Outcome
) -> None:
    """The one table of all channels decides."""
    assert expected == await outcome(server, status, '{"status": "success"}')


async def test_vanished_and_back(server: PagerDutyServer, notifier: PagerDutyNotifier) -> None:
    """If PagerDuty is out of reach, the outcome is a Retry; once it is back, the same notifier works."""
    await server.vanish()
    gone = await notifier.send(level(1))
    assert isinstance(gone, Retry)
    assert gone.unanswered
    await server.accept()
    assert Delivered() == await notifier.send(level(1))


async def test_a_timeout(server: PagerDutyServer) -> None:
    """An attempt without an answer ends with the notifier's timeout."""
    server.stall()
    notifier = PagerDutyNotifier({TARGET: server.url()}, allow_http=True, timeout=timedelta(milliseconds=100))
    assert Retry("timed out", unanswered=True) == await notifier.send(level(1))
    await notifier.aclose()


async def test_what_it_declares() -> None:
    """The notifier has threads and tells two kinds of notices. By itself it asks for one of them."""
    notifier: Notifier = PagerDutyNotifier({"a": KEY, "b": f"pagerduty://{'k' * 32}@events.eu.pagerduty.com"})
    assert isinstance(notifier, TellsNotices)
    found = notifier.abilities  # type: ignore[attr-defined]
    assert (True, False) == (found.threads, found.bundles)
    assert {NoticeKind.RESOLVED, NoticeKind.ACKNOWLEDGED} == found.notices
    assert {NoticeKind.RESOLVED} == found.asked
    assert {"a": Budget(rate=1.5, burst=30), "b": Budget(rate=1.5, burst=30)} == found.budgets
    assert ("pagerduty", ("a", "b")) == (notifier.channel, notifier.targets)
    assert "PagerDutyNotifier(['a', 'b'])" == repr(notifier)


async def test_targets_with_one_key_share_its_budget() -> None:
    """PagerDuty counts by routing key. A process without an HTTP client knows the same budgets."""
    urls = {"a": f"pagerduty://{KEY}", "b": f"pagerduty://{KEY}@eu.example", "c": f"pagerduty://{'k' * 32}"}
    share, whole = Budget(rate=0.75, burst=15), Budget(rate=1.5, burst=30)
    assert {"a": share, "b": share, "c": whole} == PagerDutyNotifier(urls).abilities.budgets
    assert {"a": share, "b": share, "c": whole} == pagerduty_budgets(
        {**urls, "d": "https://x.example", "e": "pagerduty://"}
    )


@pytest.mark.parametrize(
    "url",
    ["", "k" * 31, "k" * 33, f"{'k' * 31}-", "https://hooks.example/x", "pagerduty://", f"pagerduty:{KEY}", f"pagerduty://{KEY}@",
     f"pagerduty://{KEY}@h/path", f"pagerduty://{KEY}:x@h", f"pagerduty://{KEY}@me@h", f"pagerduty://{KEY}@h:99999",
     f"pagerduty://{KEY}@[::1", f"pagerduty://{KEY}@h h", f"pagerduty://{KEY}?x", f"pagerduty://{KEY}\n", f"pagerduty+http://{KEY}",
     f"pagerduty+https://{KEY}", f"{KEY[:-1]}\u0663", None, 7],
)  # fmt: skip
async def test_bad_keys_and_urls_are_refused_by_the_targets_name(url: Any) -> None:
    """The notifier refuses what is no routing key with a host. The error names the target, and shows nothing of it."""
    with pytest.raises(InvalidValue, match="'pagerduty:ops'") as caught:
        PagerDutyNotifier({"good": KEY, TARGET: url})
    assert "R0UT1NG" not in str(caught.value)
    assert "kkk" not in str(caught.value)
    assert None is caught.value.__cause__
    assert caught.value.__context__ is None or "R0UT1NG" not in repr(caught.value.__context__)


async def test_bad_severities_are_refused() -> None:
    """A severity that PagerDuty does not have would cost every page, so it is refused at once."""
    with pytest.raises(InvalidValue, match="maps 'sev1' to 'Critical'"):
        PagerDutyNotifier({"a": KEY}, severities={"sev1": "Critical"})
