"""Nights of one incident through policies of a file: levels, hours, other policies, names, and rebind."""

import logging
from typing import Any

import pytest

from escalation_core import Engine, InvalidValue, Policies, TransitionRefused
from escalation_core.model import NEEDS_REPLAN, Pin
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import MINUTE, START, Named, row
from ..walking import CALM, LASTING, OPS, Night, policies

OFFICE: dict[str, Any] = {"office": {"zone": "UTC", "windows": [{"from": "09:00", "to": "17:00"}]}}


async def test_a_night_without_an_answer(night: Night) -> None:
    """The levels page at once, after 5, and after 15 minutes more; the second round follows after 30 minutes."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 100)
    assert [(0, 1), (5, 2), (20, 3), (50, 4), (55, 5), (70, 6)] == night.rises
    assert [(1, "ops", number) for number in range(1, 7)] == night.places
    told = [
        (1, "first"),
        (2, "second"),
        (2, "lead"),
        (3, "lead"),
        (4, "first"),
        (5, "second"),
        (5, "lead"),
        (6, "lead"),
    ]
    assert told == night.paged
    assert (None, "ops@now@critical", (None, None)) == (night.due, night.pin, night.walk)
    assert ["open", "exhausted"] == night.notes
    assert 1 == (await night.engine.health()).stats.exhausted


async def test_the_built_in_policy_of_a_file(night: Night) -> None:
    """A severity that no assignment names gets the built-in policy, which does what it does without a file."""
    await night.at(0).open("k", severity="warning")
    await night.ticks(0, 80)
    assert [(15, 1), (45, 2), (75, 3)] == night.rises
    assert [(1, "builtin", number) for number in (1, 2, 3)] == night.places
    assert [(level, "router") for level in (1, 2, 3)] == night.paged


async def test_a_level_without_targets_asks_the_router(store: MemoryStore, clock: ManualClock) -> None:
    """A level without ``to`` pages what the router names, and one with it does not."""
    file = policies(ops={"levels": [{"after": "0m"}, {"after": "5m", "to": ["first"]}]})
    night = Night(clock, store, file)
    night.engine = Engine(store, notifiers=[night.notifier], router=Named("second"), policies=file)
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    assert [(1, "second"), (2, "first")] == night.paged


async def test_the_same_target_twice_is_one_page(store: MemoryStore, clock: ManualClock) -> None:
    """A level that names a target twice sends it one page."""
    night = Night(clock, store, policies(ops={"levels": [{"after": "0m", "to": ["first", "lead", "first"]}]}))
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    assert [(1, "first"), (1, "lead")] == night.paged


async def test_an_outage_is_not_made_up_for(night: Night) -> None:
    """After an outage one level escalates, and the next one counts from then."""
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    await night.ticks(200, 216)
    assert [(0, 1), (200, 2), (215, 3)] == night.rises


# --- hours


async def test_a_level_is_put_off(store: MemoryStore, clock: ManualClock) -> None:
    """A tick after the level's hours records nothing outside them; after two of them health is not ok."""
    file = Policies.from_mapping(
        {
            "policies": {"ops": {"levels": [{"after": "0m", "to": ["first"], "deliver": "office"}]}},
            "assign": [{"policy": "ops"}],
            "hours": OFFICE,
        }
    )
    night = Night(clock, store, file)
    await night.at(600).open("k")
    assert 600 == night.due
    await night.tick(17 * 60)
    day = 24 * 60
    assert ([], day + 9 * 60, ["open", "put_off"]) == (night.rises, night.due, night.notes)
    assert (await night.engine.health()).ok
    report = await night.tick(day + 17 * 60)
    assert ({"put_off": 1}, {"not_due": 1}) == (dict(report.happened), dict(report.rescheduled))
    health = await night.engine.health()
    assert (False, 1) == (health.ok, health.policies.stats.put_off)
    assert "1 levels came due within their hours twice" in str(health.fault)
    assert str(health.fault).endswith("tick more often, or write longer hours")
    await night.tick(2 * day + 16 * 60 + 59)
    assert [(2 * day + 16 * 60 + 59, 1)] == night.rises
    assert (await night.engine.health()).ok


async def test_a_row_that_a_host_wrote_is_not_noted_as_put_off(store: MemoryStore, clock: ManualClock) -> None:
    """A row that needs a replan, and whose level is due outside its hours waits for them, as planned."""
    file = Policies.from_mapping(
        {
            "policies": {"ops": {"levels": [{"after": "0m", "to": ["first"], "deliver": "office"}]}},
            "assign": [{"policy": "ops"}],
            "hours": OFFICE,
        }
    )
    night = Night(clock, store, file)
    night.at(18 * 60)
    await store.host.insert("k", first_seen=START + 16 * 60 * MINUTE)
    await night.tick(18 * 60)
    assert ([], 33 * 60, []) == (night.rises, night.due, night.notes)


# --- another policy in mid-episode


async def test_a_severity_that_flaps(night: Night) -> None:
    """A severity that changes each minute, by verb or SQL, neither pushes a page away nor begins a walk again."""
    for by_sql in (False, True):
        key = f"k{by_sql}"
        night.restart(night.file)
        began = night.clock()
        await night.engine.open(key, severity="critical")
        await night.engine.tick(deliver=False)
        for number in range(1, 25):
            night.clock.advance(MINUTE)
            severity = "low" if number % 2 else "critical"
            if by_sql:
                await night.store.host.update(key, severity=severity)
            else:
                await night.engine.change_severity(key, severity)
            await night.engine.tick(deliver=False)
        rises = [
            ((one.created_at - began) / MINUTE, one.policy, one.position)
            for one in night.store.ledger.values()
            if one.incident_key == key
        ]
        # In minute 5 the severity is low, and calm is due 10 minutes after the last escalation; ops is due in minute 6.
        assert [(0, "ops", 1), (6, "ops", 2), (17, "calm", 1)] == rises


async def test_a_change_to_a_policy_and_back(night: Night) -> None:
    """The first policy goes on at its place, from the last escalation of the other."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    await night.at(6).change_severity("k", "low")
    assert ("calm@now@low", (2, 5), 15) == (night.pin, night.walk, night.due)
    await night.ticks(7, 15)
    await night.at(16).open("k", policy="ops")
    # Position 2 of ops at level 3: the walk began at level 1, and its third level follows 15 minutes after minute 15.
    assert ("ops@now@low", (1, 5), 30) == (night.pin, night.walk, night.due)
    await night.ticks(17, 30)
    assert [(1, "ops", 1), (1, "ops", 2), (1, "calm", 1), (1, "ops", 3)] == night.places


async def test_another_policy_on_an_acknowledged_row(store: MemoryStore, clock: ManualClock) -> None:
    """change_severity assigns at once, also on an acknowledged row, and gives it the new timeout."""
    night = Night(
        clock,
        store,
        Policies.from_mapping(
            {
                "policies": {"ops": OPS, "short": {**CALM, "ack_timeout": "10m"}},
                "assign": [{"severity": "critical", "policy": "ops"}, {"severity": "low", "policy": "short"}],
            }
        ),
    )
    await night.at(0).open("k", severity="critical")
    await night.at(1).acknowledge("k")
    assert [None] == [night.due]
    await night.at(2).change_severity("k", "low")
    # The text of ``short`` is kept since minute 2.
    assert ("short@now@low", 12) == (night.pin, night.due)
    assert night.file is not None
    assert {policy.digest for policy in night.file.policies.values()} == set(night.store.versions)


async def test_a_drain_keeps_the_walk(night: Night) -> None:
    """A drained row repeats its level in a new episode; a walk that began above it begins there."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    await night.at(6).drain("k")
    assert ((None, None), 10, 2) == (night.walk, night.due, row(night.store)["episode"])
    await night.ticks(7, 10)
    assert [(1, "ops", 1), (1, "ops", 2), (2, "ops", 2)] == night.places
    await night.at(11).change_severity("k", "low")
    assert (2, 10) == night.walk
    await night.engine.drain("k")
    assert (1, 10) == night.walk
    await night.store.host.update("k", level=0)
    assert (0, 10) == night.walk


async def test_an_incident_that_opens_again(night: Night) -> None:
    """A new episode forgets the walk: another severity, and the first level."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    await night.at(6).resolve("k")
    await night.at(7).open("k", severity="low")
    assert ("calm@now@low", (None, None), 17) == (night.pin, night.walk, night.due)


# --- names


async def test_open_names_a_policy(night: Night) -> None:
    """The named policy decides, and an unknown name is refused with the nearest one; nothing is written."""
    with pytest.raises(InvalidValue, match=r"^policy: 'clam' is not a known policy; .*'calm'$"):
        await night.at(0).open("k", policy="clam")
    assert {} == night.store.rows
    opened = await night.engine.open("k", severity="critical", policy="calm")
    assert ("calm", "calm@now@critical", 10) == (opened.policy, night.pin, night.due)
    await night.engine.open("k", policy="builtin")
    assert ("builtin@@critical", 5.0) == (night.pin, night.due)


async def test_an_unknown_name_of_a_host(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    """It escalates by the built-in policy, is noted and logged once, and gets its policy when that is known."""
    await night.store.host.insert("k", severity="critical", first_seen=START, policy="opps")
    caplog.set_level(logging.ERROR)
    await night.ticks(0, 6)
    assert ([(5, 1)], [(1, None, None)], [(1, "router")]) == (night.rises, night.places, night.paged)
    # Once when the row was written, and once with the escalation.
    assert 2 == night.notes.count("unknown_policy")
    assert 1 == caplog.text.count("names policy 'opps', which this engine does not know")
    health = await night.engine.health()
    assert {"opps": 1} == dict(health.policies.stats.unknown_policies)
    assert any("1 open incidents name policy 'opps'" in warning for warning in health.warnings)
    night.restart(policies(opps=CALM))
    await night.tick(7)
    assert ("opps@now@critical", (1, 5), 15) == (night.pin, night.walk, night.due)


# --- rebind


async def test_rebind(night: Night) -> None:
    """A rebound incident walks by the file's version from its position; the audit says who and which version."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    night.restart(policies(ops={"levels": [{"after": "0m"}, {"after": "1m"}, {"after": "8m", "to": ["second"]}]}))
    await night.at(6).rebind("k", by="ann", reason="shorter")
    assert ("ops@now@critical", (None, None), 13) == (night.pin, night.walk, night.due)
    note = list(night.store.notes.values())[-1]
    digest = str(Pin.parse(row(night.store)["policy_pin"]).digest)  # type: ignore[union-attr]
    assert ("rebind", "ann") == (note.action, note.actor)
    assert f"ops {digest[:12]}" in str(note.reason)
    await night.ticks(7, 13)
    assert [(3, "second")] == night.paged[3:]


async def test_rebind_that_begins_again(night: Night) -> None:
    """With restart the walk begins now, in a new episode, and unsent pages are cancelled."""
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    await night.at(3).rebind("k", restart=True)
    assert ((1, 3), 3, 2, ["cancelled"]) == (night.walk, night.due, row(night.store)["episode"], night.states)
    assert ["open", "rebind", "restart"] == night.notes


async def test_rebind_of_a_lost_version_that_begins_again(night: Night) -> None:
    """If the lost version's walk begins again in the file's version, unsent pages are cancelled as well."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    night.store.versions.clear()
    night.restart(policies(ops={"levels": [{"after": "0m", "to": ["first"]}]}))
    await night.at(6).rebind("k")
    assert ((2, 6), {"cancelled"}) == (night.walk, set(night.states))
    assert ["open", "rebind", "lost_version", "restart"] == night.notes


async def test_rebind_of_an_acknowledged_incident(night: Night) -> None:
    """A version that ends acknowledgements counts the timeout from the storing of its text."""
    await night.at(0).open("k", severity="critical")
    await night.engine.acknowledge("k")
    night.restart(LASTING)
    await night.at(100).rebind("k")
    assert ("ops@now@critical", 130) == (night.pin, night.due)
    await night.ticks(101, 130)
    assert [(130, 1)] == night.rises


async def test_rebind_to_the_same_version(night: Night) -> None:
    """A rebind that changes nothing leaves no trace."""
    await night.at(0).open("k", severity="critical")
    await night.engine.rebind("k")
    assert ["open"] == night.notes


async def test_rebind_is_refused(night: Night) -> None:
    """Refused: a resolved and an unknown incident, the built-in policy, and a policy that the file has not."""
    engine = night.at(0)
    for key, severity in (("resolved", "critical"), ("builtin", "other"), ("k", "critical")):
        await engine.open(key, severity=severity)
    await engine.resolve("resolved")
    for key, said in (("resolved", "it is resolved"), ("unknown", "it is unknown"), ("builtin", "it is not pinned")):
        with pytest.raises(TransitionRefused, match=said):
            await engine.rebind(key)
    night.restart(policies(calm=CALM))
    with pytest.raises(InvalidValue, match=r"^policy: 'ops' is not a known policy"):
        await night.engine.rebind("k")
    night.restart(None)
    with pytest.raises(InvalidValue, match=r"^policy: 'ops' is not known without a policies file"):
        await night.engine.rebind("k")
    with pytest.raises(TransitionRefused, match=r"it is not pinned"):
        await night.engine.rebind("builtin")


async def test_pinned(night: Night) -> None:
    """The incidents of a policy are listed by key, also those of old versions, without resolved ones."""
    engine = night.at(0)
    for key, severity in (("b", "critical"), ("a", "critical"), ("c", "low"), ("d", "critical"), ("e", "critical")):
        await engine.open(key, severity=severity)
    await engine.resolve("d")
    night.restart(policies(ops=CALM))
    assert ["a", "b", "e"] == [one.incident_key for one in await night.engine.pinned("ops")]
    assert ["b"] == [one.incident_key for one in await night.engine.pinned("ops", after="a", limit=1)]
    with pytest.raises(InvalidValue, match=r"^limit: "):
        await night.engine.pinned("ops", limit=1001)


async def test_an_engine_whose_file_could_not_be_loaded(night: Night) -> None:
    """It escalates by the built-in formula when due, and a worker with the file gives the row its policy."""
    file = night.file
    night.restart(None)
    night.engine._versions.file_named = True
    await night.at(0).open("k", severity="critical")
    assert NEEDS_REPLAN == row(night.store)["next_due_at"]
    await night.ticks(0, 6)
    assert ([(5, 1)], [(1, None, None)], 7) == (night.rises, night.places, night.due)
    night.restart(file)
    await night.tick(7)
    assert "builtin@@critical" == night.pin
    assert "unknown_policy" not in night.notes
