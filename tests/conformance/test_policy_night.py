"""A policy of a file does what it says, through a night in which the clocks change, on every store."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from escalation_adapters.policies_file import load_policies
from escalation_adapters.timeline import svg, track
from escalation_core import Engine
from escalation_core.testing import ManualClock, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness

from .harnesses import opened

POLICIES = """
policies:
  ops:
    levels:
      - {after: 0m, to: [slack:primary]}
      - {after: 10m, to: [slack:secondary]}
      - {after: 15m, to: [slack:lead, slack:channel]}
    repeat: {times: 1, after: 30m}
    ack_timeout: 30m
  office-ops:
    levels:
      - {after: 0m, to: [slack:primary], deliver: office}
      - {after: 10m, to: [slack:secondary], deliver: office}
      - {after: 15m, to: [slack:lead, slack:channel], deliver: office}
    repeat: {times: 1, after: 30m}
    ack_timeout: 30m
hours:
  office: {zone: Europe/Berlin, windows: [{days: mon-fri, from: "09:00", to: "17:00"}]}
assign:
  - {policy: ops}
  - {severity: sev3, policy: office-ops}
"""
TARGETS = ("slack:primary", "slack:secondary", "slack:lead", "slack:channel")
MINUTE = timedelta(minutes=1)
EVENING = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)  # Saturday, 00:30 in Berlin; the clocks go back at 01:00 UTC
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "policy-night.svg"
BOTH = ("slack:lead", "slack:channel")


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    async with opened(request, tmp_path) as made:
        yield made


async def test_a_night_with_a_clock_change(harness: StoreHarness, tmp_path: Path) -> None:
    """Primary at once, secondary after 10 minutes, lead and channel after 15 more, twice over; sev3 in office hours.

    An acknowledgement expires after 30 minutes, also across the hour that comes twice.
    """
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES)
    clock, pages = ManualClock(EVENING), RecordingNotifier(*TARGETS)
    engine = Engine(await harness.open(clock), policies=load_policies(file), notifiers=[pages])

    async def until(minute: int, step: timedelta = MINUTE) -> None:
        while clock() < EVENING + minute * MINUTE:
            clock.advance(step)
            await engine.tick()

    def told(key: str) -> list[tuple[int, int, str]]:
        return [
            (found[page.level], page.level, page.target) for page in pages.pages if page.incident.incident_key == key
        ]

    await engine.open("shop/checkout", severity="critical")
    await engine.open("wiki/search", severity="sev3")
    await engine.tick()
    await until(130)  # 02:40 in Berlin, summer time: 00:40 UTC; then ann acknowledges, and falls asleep
    await engine.acknowledge("shop/checkout", by="ann")
    await until(240)
    await engine.resolve("shop/checkout")
    await until(33 * 60, timedelta(hours=1))  # Monday, 07:30 UTC, after a Sunday with a tick each hour
    await until(35 * 60)

    histories = [await engine.history(key) for key in ("shop/checkout", "wiki/search")]
    found = {each.level: (each.created_at - EVENING) // MINUTE for each in histories[0].escalations}
    # Two rounds: 0, 10, 25, and half an hour later 55, 65, 80. The walk is over before ann acknowledges; her
    # acknowledgement expires 30 minutes later, and the walk begins again.
    assert [0, 10, 25, 55, 65, 80, 160, 170, 185, 215, 225, 240] == list(found.values())
    assert [
        (0, 1, "slack:primary"),
        (10, 2, "slack:secondary"),
        *((25, 3, target) for target in BOTH),
        (55, 4, "slack:primary"),
        (65, 5, "slack:secondary"),
        *((80, 6, target) for target in BOTH),
        (160, 7, "slack:primary"),
        (170, 8, "slack:secondary"),
        *((185, 9, target) for target in BOTH),
        (215, 10, "slack:primary"),
        (225, 11, "slack:secondary"),
        *((240, 12, target) for target in BOTH),
    ] == told("shop/checkout")

    # Nothing on Sunday: Monday 09:00 in Berlin is 08:00 UTC again.
    monday = datetime(2026, 10, 26, 8, tzinfo=UTC)
    expected = [monday + minutes * MINUTE for minutes in (0, 10, 25, 55, 65, 80)]
    assert expected == [each.created_at for each in histories[1].escalations]

    line = track(histories[0], "shop/checkout", EVENING + 245 * MINUTE)
    assert ["open", "acknowledged", "open", "resolved"] == [span.state for span in line.spans]
    drawn = svg([line], title="Two rounds, an acknowledgement that expires, and the walk begins again")
    if os.environ.get("ESCALATION_DRAW"):
        PICTURE.write_text(drawn)
    assert PICTURE.read_text() == drawn
    await engine.aclose()
