"""Tests of delivery end to end, from PostgreSQL to nginx, the kind of web server in front of real receivers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import sink

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, RetryPolicy, Settings
from escalation_core.model import PageState

pytestmark = pytest.mark.system("nginx")

LOCATIONS = """
        location = /ok { return 200 "ok"; }
        location = /login { return 200 "<html>please log in</html>"; }
        location = /moved { return 302 /ok; }
        location = /gone { return 410; }
        location = /busy { add_header Retry-After 7 always; return 429; }
        location = /down { return 503; }
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    """Start a web server for this test and yield its URL; its access log is in the test's folder."""
    log = f"log_format keys '$uri $http_x_dedup_key'; access_log {tmp_path}/access.log keys;"
    with sink.nginx(tmp_path, LOCATIONS, http=log) as url:
        yield url


async def test_three_hundred_pages_arrive_once_each(nginx: str, migrated_dsn: str, tmp_path: Path) -> None:
    """The engine records, sends and settles 300 due pages; nginx gets each dedup key once, and no page is left."""
    async with Engine(
        await PostgresStore.connect(migrated_dsn),
        notifiers=[SlackNotifier({"slack:ops": f"{nginx}/ok"}, allow_http=True)],
    ) as engine:
        now = (await engine.health()).at
        for number in range(300):
            seen = now - engine.settings.critical_window
            await engine.open(f"k{number}", severity="critical", first_seen=seen, summary="<b> & more")
        report = await engine.tick()
        assert report.delivery is not None
        assert 300 == report.escalated
        assert 300 == report.delivery.sent
        assert 300 == report.delivery.delivered
        health = await engine.health()
        assert ({}, 0) == (dict(health.stats.backlog), health.stats.dead)
        pages = await engine.store.read(lambda tx: tx.outbox.pages(limit=1000))
    seen_keys = sorted(line.split()[1] for line in (tmp_path / "access.log").read_text().splitlines())
    assert sorted(page.dedup_key for page in pages) == seen_keys
    assert 300 == len(set(seen_keys))


@pytest.mark.parametrize(
    ("path", "state", "reason"),
    [
        ("ok", PageState.DELIVERED, None),
        ("login", PageState.PENDING, "HTTP 200 without the receiver's ok"),
        ("moved", PageState.DEAD, "redirect"),
        ("gone", PageState.DEAD, "HTTP 410"),
        ("busy", PageState.PENDING, "HTTP 429"),
        ("down", PageState.PENDING, "HTTP 503"),
    ],
)
async def test_each_answer_has_its_end(
    path: str, state: PageState, reason: str | None, nginx: str, migrated_dsn: str, tmp_path: Path
) -> None:
    """The receiver's answer decides whether the page is delivered, pending or dead; the engine follows no redirect."""
    settings = Settings(retry=RetryPolicy(per_target=2))
    notifier = SlackNotifier({"slack:ops": f"{nginx}/{path}"}, allow_http=True)
    async with Engine(await PostgresStore.connect(migrated_dsn), settings=settings, notifiers=[notifier]) as engine:
        now = (await engine.health()).at
        await engine.open("k", severity="critical", first_seen=now - settings.critical_window)
        await engine.tick()
        (page,) = (await engine.history("k")).pages
    assert (state, reason) == (page.state, page.reason)
    assert 1 == len((tmp_path / "access.log").read_text().splitlines())
