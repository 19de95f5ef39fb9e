"""Nights of one incident, by figures worked out by hand from the rules of policies."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .ladder import Settings
from .night import Night, play
from .records import EPOCH

OFFICE = {"zone": "Europe/Berlin", "windows": [{"days": "mon-fri", "from": "09:00", "to": "17:00"}]}
EVENING = datetime(2026, 3, 2, 20, tzinfo=UTC)
"""A Monday; the office is closed."""
MINUTE = timedelta(minutes=1)
OPS: dict[str, Any] = {
    "levels": [
        {"after": "0m", "to": ["oncall:primary"]},
        {"after": "10m", "to": ["oncall:secondary"]},
        {"after": "15m", "to": ["slack:lead", "slack:ops"]},
    ],
    "repeat": {"times": 1, "after": "15m"},
    "ack_timeout": "30m",
}
"""Primary at once, secondary after 10 minutes, lead and channel after 15 more, twice over; acknowledgements expire."""
DAYTIME = OPS | {"levels": [level | {"deliver": "office"} for level in OPS["levels"]], "clock": "office"}
"""The same, but in office hours only."""
FILE: dict[str, Any] = {
    "policies": {"ops": OPS, "daytime": DAYTIME},
    "hours": {"office": OFFICE},
    "assign": [{"policy": "ops"}, {"severity": "sev3", "policy": "daytime"}],
}


def after(minutes: float, begin: datetime = EVENING) -> datetime:
    return begin + minutes * MINUTE


def file(**policies: Any) -> dict[str, Any]:
    """Return a file that assigns the first of these policies."""
    return {"policies": policies, "hours": {"office": OFFICE}, "assign": [{"policy": next(iter(policies))}]}


def opened(file: Mapping[str, Any] | None = FILE, severity: str = "critical", at: datetime = EVENING) -> Night:
    night = Night(file=file)
    night.open(at, severity=severity)
    return night


def ticks(night: Night, begin: float, end: float, each: float = 1, since: datetime = EVENING) -> None:
    """Tick from one minute to another, both included."""
    minutes = begin
    while minutes <= end:
        night.tick(after(minutes, since))
        minutes += each


def pages(night: Night, since: datetime = EVENING) -> list[tuple[float, int, int]]:
    """Return minute, level and position of each escalation."""
    return [((each.at - since) / MINUTE, each.level, each.position) for each in night.planner.escalations]


def notes(night: Night) -> list[str]:
    return [each.what for each in night.planner.notes]


def test_the_night_of_the_first_policy() -> None:
    """Primary at once, secondary after 10 minutes, lead and channel after 15 more; then all of it again."""
    night = opened()
    ticks(night, 0, 120)
    assert pages(night) == [(0, 1, 1), (10, 2, 2), (25, 3, 3), (40, 4, 4), (50, 5, 5), (65, 6, 6)]
    assert [each.targets for each in night.planner.escalations[:3]] == [
        ("oncall:primary",),
        ("oncall:secondary",),
        ("slack:lead", "slack:ops"),
    ]
    assert (night.snapshot()["next_due_at"], notes(night)) == (None, ["exhausted"])


def test_an_acknowledgement_expires() -> None:
    """Acknowledged in minute 12, it expires in minute 42; the third level was due in minute 25, and pages at once."""
    night = opened()
    ticks(night, 0, 11)
    night.acknowledge(after(12))
    assert night.snapshot()["next_due_at"] == after(42)
    ticks(night, 12, 60)
    assert pages(night) == [(0, 1, 1), (10, 2, 2), (42, 3, 3), (57, 4, 4)]
    assert notes(night) == ["ack_expired"]
    assert [(each.episode, each.level) for each in night.planner.cancelled] == [(1, 1), (1, 2)]


def test_office_hours_over_the_weekend_of_the_spring_change() -> None:
    """The gap of 10 minutes fills the rest of Friday's office; the page waits for Monday, an hour earlier in UTC."""
    friday = datetime(2026, 3, 27, 15, 50, tzinfo=UTC)
    night = opened(severity=" SEV3", at=friday)
    night.tick(friday)
    monday = datetime(2026, 3, 30, 7, tzinfo=UTC)
    assert night.snapshot()["next_due_at"] == monday
    assert night.snapshot()["policy_pin"].startswith("daytime@")
    assert night.snapshot()["policy_pin"].endswith("@sev3")
    ticks(night, 0, 20, since=monday)
    assert pages(night, monday)[1:] == [(0, 2, 2), (15, 3, 3)]


def test_a_first_level_waits_for_the_office() -> None:
    """A first level that is delivered in the office waits for its opening, though its gap of 0 ended in the evening."""
    night = opened(severity="sev3")
    assert night.snapshot()["next_due_at"] == datetime(2026, 3, 3, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "begin", "window", "due"),
    [
        # 60 minutes in 01:30 to 03:30: half an hour each before and after the skipped hour.
        ("Europe/Berlin", "2026-03-29T00:00", ("01:30", "03:30"), "2026-03-29T01:30"),
        # 02:10 to 02:50 twice: 40 minutes, then 20 more.
        ("Europe/Berlin", "2026-10-25T00:00", ("02:10", "02:50"), "2026-10-25T01:30"),
        ("America/New_York", "2026-03-08T06:00", ("01:30", "03:30"), "2026-03-08T07:30"),
        ("America/New_York", "2026-11-01T05:00", ("01:10", "01:50"), "2026-11-01T06:30"),
        # 01:45 to 02:45 lacks the half hour from 02:00 on; the rest comes a day later.
        ("Australia/Lord_Howe", "2026-10-03T15:00", ("01:45", "02:45"), "2026-10-04T15:15"),
        ("Australia/Lord_Howe", "2026-04-04T14:00", ("01:30", "02:00"), "2026-04-04T15:30"),
        # From Thursday 16:30, over the day that does not exist, to Saturday 09:30.
        ("Pacific/Apia", "2011-12-30T02:30", ("09:00", "17:00"), "2011-12-30T19:30"),
    ],
)
def test_a_clock_in_a_night_of_change(zone: str, begin: str, window: tuple[str, str], due: str) -> None:
    """A gap of 60 minutes counts the readings that occur, as often as they occur."""
    policies = file(slow={"levels": [{"after": "60m"}], "clock": "night"})
    policies["hours"] = {"night": {"zone": zone, "windows": [{"from": window[0], "to": window[1]}]}}
    night = opened(policies, at=datetime.fromisoformat(begin).replace(tzinfo=UTC))
    assert night.snapshot()["next_due_at"] == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [("previous", [(0, 1, 1), (120, 2, 2), (135, 3, 3)]), ("first_seen", [(0, 1, 1), (120, 2, 2), (130, 3, 3)])],
)
def test_an_outage(anchor: str, expected: list[tuple[float, int, int]]) -> None:
    """After an outage the gaps begin anew, or the walk is made up for in steps of its smallest gap."""
    night = opened(file(ops={"levels": OPS["levels"], "anchor": anchor}))
    night.tick(EVENING)
    ticks(night, 120, 140)
    assert pages(night) == expected


def test_an_acknowledgement_expires_on_an_exhausted_ladder() -> None:
    """The walk begins again in a new episode, counted from the expiry, though the tick was late."""
    night = opened(file(one={"levels": [{"after": "2m"}], "ack_timeout": "30m"}))
    ticks(night, 0, 2)
    assert (notes(night), night.snapshot()["next_due_at"]) == (["exhausted"], None)
    night.acknowledge(after(5))
    night.tick(after(36))
    row = night.snapshot()
    assert (row["episode"], row["level"], row["policy_level"], row["policy_since"]) == (2, 1, 1, after(35))
    assert (row["next_due_at"], row["first_seen"], row["last_escalated_at"]) == (after(37), EVENING, after(2))
    ticks(night, 37, 40)
    assert pages(night) == [(2, 1, 1), (37, 2, 1)]
    assert notes(night) == ["exhausted", "ack_expired", "restart", "exhausted"]


def test_a_walk_that_restarts_on_expiry() -> None:
    """With ``restart`` the first level pages again, also if the walk was not over."""
    night = opened(file(ops=OPS | {"on_ack_expiry": "restart"}))
    ticks(night, 0, 11)
    night.acknowledge(after(12))
    ticks(night, 12, 60)
    assert pages(night) == [(0, 1, 1), (10, 2, 2), (42, 3, 1), (52, 4, 2)]
    assert night.snapshot()["policy_since"] == after(42)


def test_a_persons_unacknowledgement() -> None:
    """It restarts an exhausted ladder from its own instant, and leaves any other where it is."""
    night = opened()
    ticks(night, 0, 3)
    night.acknowledge(after(4))
    night.unacknowledge(after(6))
    assert (night.snapshot()["episode"], night.snapshot()["next_due_at"]) == (1, after(10))
    ticks(night, 7, 70)
    night.acknowledge(after(71))
    night.unacknowledge(after(75))
    row = night.snapshot()
    assert (row["episode"], row["level"], row["policy_since"], row["next_due_at"]) == (2, 6, after(75), after(75))


def test_an_unacknowledgement_by_sql() -> None:
    """The trigger puts one ``!`` before the pin. A recalc leaves it; a tick removes it, and restarts the ladder."""
    night = opened()
    ticks(night, 0, 70)
    pin = night.snapshot()["policy_pin"]
    night.host_write(after(71), acknowledged_at=after(71))
    assert night.snapshot()["next_due_at"] == EPOCH
    night.tick(after(72))
    assert night.snapshot()["next_due_at"] == after(101)
    night.host_write(after(73), acknowledged_at=None)
    night.host_write(after(73), severity="major")
    night.recalc(after(74))
    assert (night.snapshot()["policy_pin"], night.snapshot()["next_due_at"]) == (f"!{pin}", EPOCH)
    night.tick(after(75))
    assert night.snapshot()["policy_since"] == after(75)
    assert (night.snapshot()["policy_pin"], pages(night)[-1]) == (pin.replace("critical", "major"), (75, 7, 1))


def test_acknowledging_again() -> None:
    """With a timeout, an acknowledgement begins anew, and the first person stays."""
    night = opened()
    night.acknowledge(after(1), by="ann")
    night.acknowledge(after(20), by="bob")
    row = night.snapshot()
    assert (row["acknowledged_at"], row["acknowledged_by"], row["next_due_at"]) == (after(20), "ann", after(50))


def test_a_severity_that_flaps() -> None:
    """A severity that changes each minute neither pushes the second level away nor begins the walk again."""
    night = opened(
        FILE
        | {"assign": [{"policy": "ops"}, {"severity": "low", "policy": "slow"}]}
        | {"policies": {"ops": OPS, "slow": {"levels": [{"after": "1h"}]}}}
    )
    for minute in range(30):
        night.change_severity(after(minute), "critical" if minute % 2 == 0 else "low")
        night.tick(after(minute))
    assert pages(night) == [(0, 1, 1), (10, 2, 2), (26, 3, 3)]
    assert {each.policy for each in night.planner.escalations} == {"ops"}


def test_a_drain() -> None:
    """A drain repeats the position of the level that it takes back, in a new episode."""
    night = opened()
    ticks(night, 0, 10)
    night.deliver(after(10))
    night.drain(after(15))
    row = night.snapshot()
    assert (row["level"], row["episode"], row["next_due_at"]) == (1, 2, after(20))
    ticks(night, 16, 20)
    assert pages(night)[-1] == (20, 2, 2)
    assert night.planner.cancelled == []


def test_a_new_file_and_a_rebind() -> None:
    """An incident keeps its version until it is rebound; the position stays."""
    night = opened()
    night.tick(EVENING)
    pin = night.snapshot()["policy_pin"]
    short = OPS | {"levels": [OPS["levels"][0], OPS["levels"][1] | {"after": "5m"}]}
    night.file(after(1), FILE | {"policies": FILE["policies"] | {"ops": short}})
    night.tick(after(1))
    assert (night.snapshot()["policy_pin"], night.snapshot()["next_due_at"]) == (pin, after(10))
    night.rebind(after(2))
    assert night.snapshot()["policy_pin"] != pin
    assert night.snapshot()["next_due_at"] == after(5)
    assert night.snapshot()["episode"] == 1


def test_a_rebind_past_the_end() -> None:
    """A rebind to a shorter walk restarts it; an exhausted one stays exhausted, but for ``restart``."""
    one = file(ops={"levels": [{"after": "3m"}]})
    night = opened()
    ticks(night, 0, 10)
    night.file(after(11), one)
    night.rebind(after(12))
    row = night.snapshot()
    assert (row["episode"], row["policy_level"], row["policy_since"]) == (2, 2, after(12))
    assert row["next_due_at"] == after(15)
    night.tick(after(15))
    night.rebind(after(16))
    assert night.snapshot()["next_due_at"] is None
    night.rebind(after(17), restart=True)
    assert night.snapshot()["next_due_at"] == after(20)


def test_a_policy_that_is_gone() -> None:
    """A pinned row goes on by its own text: with a file that lacks the policy, and without a file."""
    night = opened()
    night.tick(EVENING)
    night.file(after(1), None)
    ticks(night, 1, 10)
    night.file(after(11), file(other=OPS))
    ticks(night, 11, 25)
    assert pages(night) == [(0, 1, 1), (10, 2, 2), (25, 3, 3)]
    assert play(night, [{"do": "rebind", "at": after(26)}])[0]["refused"]


def test_an_unknown_name_by_sql() -> None:
    """The built-in policy plans the row, which is claimed again each minute; a file that knows the name takes over."""
    night = Night(file=FILE)
    night.host_write(EVENING, severity="critical", policy="late")
    night.tick(EVENING)
    assert night.snapshot()["next_due_at"] == after(1)
    ticks(night, 1, 5)
    row = night.snapshot()
    assert (pages(night), row["policy_pin"], row["next_due_at"]) == ([(5, 1, 1)], None, after(6))
    night.file(after(6), FILE | {"policies": FILE["policies"] | {"late": OPS}})
    night.tick(after(6))
    assert (night.snapshot()["policy_level"], night.snapshot()["policy_since"]) == (1, after(5))
    assert pages(night) == [(5, 1, 1), (6, 2, 1)]
    assert notes(night) == ["unknown policy"]


def test_the_built_in_policy() -> None:
    """Without a file the formula is that of the settings, and the columns of policies stay NULL."""
    night = Night(Settings(max_level=2, snooze=3 * MINUTE))
    night.open(EVENING, severity="critical")
    ticks(night, 0, 8)
    assert pages(night) == [(5, 1, 1)]
    ticks(night, 60, 62)
    assert pages(night) == [(5, 1, 1), (60, 2, 2)]
    row = night.snapshot()
    assert [row[name] for name in ("next_due_at", "policy", "policy_pin", "policy_since")] == [None] * 4


def test_switches() -> None:
    """Nothing escalates or expires while a switch is against it; without V1 a row written by SQL gets its instant."""
    night = opened()
    for switches in ({"enabled": False}, {"paused": True}, {"dry_run": True}, {"inside": False}, {"v1": False}):
        night.switch(EVENING, **switches)
        night.tick(after(3))
        assert pages(night) == []
        night.switch(EVENING, **{name: not value for name, value in switches.items()})
    night.acknowledge(after(3))
    night.switch(after(3), v1=False)
    night.host_write(after(4), severity="major")
    night.tick(after(40))
    assert (night.snapshot()["state"], night.snapshot()["next_due_at"]) == ("acknowledged", after(33))
    night.switch(after(41), v1=True)
    night.tick(after(41))
    assert pages(night) == [(41, 1, 1)]


def test_a_clock_that_steps_back() -> None:
    """An escalation of the future counts as now; the recalc of the next tick writes so."""
    night = opened(file(ops={"levels": [{"after": "0m"}, {"after": "10m"}]}))
    night.tick(EVENING)
    night.tick(after(-60))
    assert (night.snapshot()["last_escalated_at"], night.snapshot()["next_due_at"]) == (after(-60), after(-50))


def test_a_reopened_key() -> None:
    """A new episode begins, and the policy is assigned anew; the host's word stays."""
    night = opened()
    night.open(after(1), policy="daytime")
    night.resolve(after(2))
    night.open(after(3))
    row = night.snapshot()
    assert (row["episode"], row["level"], row["first_seen"], row["policy"]) == (2, 0, after(3), "daytime")
    assert row["policy_pin"].startswith("daytime@")


def test_refusals() -> None:
    """A verb that the state does not allow changes nothing."""
    night = Night(file=FILE)
    steps: list[dict[str, Any]] = [{"do": verb, "at": EVENING} for verb in ("acknowledge", "resolve", "rebind")]
    steps += [{"do": "open", "at": EVENING, "policy": "unknown"}]
    assert play(night, steps) == [{"refused": True}] * 4
    night.open(EVENING)
    assert play(night, [{"do": "drain", "at": EVENING}])[0]["refused"]
    night.resolve(EVENING)
    assert play(night, [{"do": "rebind", "at": EVENING}])[0]["refused"]
