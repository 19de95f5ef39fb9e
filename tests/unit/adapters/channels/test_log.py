"""The log notifier: one line for a page, of bounded length, without control characters for a terminal."""

import asyncio
import logging

import pytest

from escalation_adapters.channels.log import LogNotifier
from escalation_core import Delivered, Incident, Page

from ...kit import START


def page(**fields: object) -> Page:
    incident = Incident(incident_key="db-7/disk", severity="critical", first_seen=START, **fields)  # type: ignore[arg-type]
    return Page(incident=incident, episode=1, level=2, target="log", dedup_key="d" * 64, at=incident.first_seen)


@pytest.mark.asyncio
async def test_log_notifier_writes_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A page is one WARNING line with key, level, summary and dedup key; line feeds of the host do not break it."""
    notifier = LogNotifier()
    outcome = await notifier.send(page(summary="full\nINFO all is well", labels={"host": "a\nb"}))
    await notifier.aclose()
    (record,) = caplog.records
    message = record.getMessage()
    assert Delivered() == outcome
    assert logging.WARNING == record.levelno
    assert 1 == len(message.splitlines())
    assert all(part in message for part in ("db-7/disk", "level 2", "full", "d" * 64))


@pytest.mark.asyncio
async def test_log_notifier_uses_the_given_name_and_logger(caplog: pytest.LogCaptureFixture) -> None:
    """The host chooses the target's name and the logger."""
    notifier = LogNotifier("pager", logging.getLogger("host.pages"))
    await notifier.send(page())
    assert ("pager",) == tuple(notifier.targets)
    assert "log" == notifier.channel
    assert ["host.pages"] == [record.name for record in caplog.records]


def test_a_log_line_shows_it_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """The notifier writes one printable line: no character of a key or summary controls a terminal."""
    incident = Incident(incident_key="k\u202ek", first_seen=START, summary="a\nb\x1b[31m")
    page = Page(incident=incident, episode=1, level=1, target="t", dedup_key="d", at=incident.first_seen)
    asyncio.run(LogNotifier().send(page))
    (record,) = caplog.records
    assert record.getMessage().isprintable()


def test_a_page_is_one_line_of_bounded_length(caplog: pytest.LogCaptureFixture) -> None:
    """A page with very long texts becomes a log message of less than 4,000 characters."""
    huge = "\u202e" * 20_000
    incident = Incident(incident_key="k", first_seen=START, severity=huge, summary=huge, labels={huge: huge})
    asyncio.run(
        LogNotifier().send(
            Page(incident=incident, episode=1, level=1, target="t", dedup_key="d", at=incident.first_seen)
        )
    )
    (record,) = caplog.records
    assert len(record.getMessage()) < 4000
