"""The planner: which policy and which version decides about an incident, and what a planning ends or begins again."""

from datetime import datetime
from typing import Any

import attrs
import pytest

from escalation_core import BuiltinPolicy, Incident, Policies
from escalation_core.model import NEEDS_REPLAN
from escalation_core.rules.planner import Planner, Version
from escalation_core.rules.policy import Level, OnExpiry, Policy, Repeat
from escalation_core.rules.settled import Note, Settled

from ..kit import HOUR, MINUTE, START, incident
from ..walking import CALM, FILE, OPS, minutes

PLAN = Policies.from_mapping(FILE)
OPS_DIGEST, CALM_DIGEST = (PLAN.policies[name].digest for name in ("ops", "calm"))
NOW = START + 100 * MINUTE
LASTING = attrs.evolve(PLAN.policies["ops"], ack_timeout=30 * MINUTE)
"""The policy ops with acknowledgements that end after half an hour."""
OLD = Policy(name="ops", levels=(Level(after=7 * MINUTE),))
"""An older version of ops: one level."""


def planner(file: Policies | None = PLAN, *kept: Policy, kept_at: datetime = START, **fields: Any) -> Planner:
    """Return a planner with a file and kept versions."""
    versions = {one.digest: Version(one, kept_at) for one in kept}
    return Planner(builtin=BuiltinPolicy(), policies=file, versions=versions, **fields)


def settle(one: Planner, now: datetime = NOW, **fields: Any) -> Settled:
    """Settle an incident with these fields."""
    return one.settle(incident(**fields), now)


def expire(one: Planner, now: datetime = NOW, **fields: Any) -> Settled:
    """Settle an incident with these fields, and end its acknowledgement if it is over."""
    return one.settle(incident(**fields), now, may_expire=True)


def pinned(policy: Policy, severity: str = "critical", /, **fields: Any) -> dict[str, Any]:
    """Return the fields of an incident that is pinned to a policy."""
    return {"policy_pin": f"{policy.name}@{policy.digest}@{severity}", **fields}


def notes(found: Settled) -> list[Note]:
    """Return what happened."""
    return [note for note, _ in found.notes]


# --- assignment


@pytest.mark.parametrize(
    ("fields", "pin"),
    [
        ({}, f"ops@{OPS_DIGEST}@critical"),
        ({"severity": " LOW "}, f"calm@{CALM_DIGEST}@low"),
        ({"severity": None}, "builtin@@"),
        ({"severity": "other"}, "builtin@@other"),
        ({"severity": "ß" + "x" * 80}, "builtin@@ss" + "x" * 58),
        ({"policy": "calm"}, f"calm@{CALM_DIGEST}@critical"),
        ({"policy": "builtin"}, "builtin@@critical"),
        ({"policy": "  "}, f"ops@{OPS_DIGEST}@critical"),
    ],
)
def test_a_new_row_is_assigned(fields: dict[str, Any], pin: str) -> None:
    """The host's word decides, or else the assignments; the pin names policy, version and severity."""
    found = settle(planner(), **fields)
    assert pin == found.incident.policy_pin
    assert pin.partition("@")[0] == found.policy.name
    assert (None, None) == (found.incident.policy_level, found.incident.policy_since)
    assert (False, ()) == (found.unsure, found.notes)


def test_a_file_with_a_default() -> None:
    """If no assignment matches, the policy ``default`` of the file decides."""
    file = Policies.from_mapping({"policies": {"ops": OPS, "default": CALM}})
    assert "default" == settle(planner(file)).policy.name


def test_without_a_file_nothing_is_written() -> None:
    """Without a file a row without pin and word is as it was before, at each level."""
    for level in (0, 3):
        one = incident(level=level)
        found = planner(None).settle(one, NOW)
        assert found.incident is one
        assert ("builtin", False) == (found.policy.name, found.unsure)
    assert None is settle(planner(None), policy="builtin").incident.policy_pin


def test_a_row_from_before_the_file() -> None:
    """A row without a pin above level 0 stays with the built-in policy, as it stands."""
    found = settle(planner(), level=2, last_escalated_at=START + 35 * MINUTE)
    assert "builtin@@critical" == found.incident.policy_pin
    assert (None, None) == (found.incident.policy_level, found.incident.policy_since)
    assert 65 == minutes(found.rule(NOW))


def test_a_row_from_before_the_file_whose_host_names_a_policy() -> None:
    """The host's word counts above level 0 too: the row goes on with that policy, from its first level."""
    found = settle(planner(), level=2, last_escalated_at=START + 35 * MINUTE, policy="calm")
    assert f"calm@{CALM_DIGEST}@critical" == found.incident.policy_pin
    assert (2, 35) == (found.incident.policy_level, minutes(found.incident.policy_since))


def test_a_pin_that_fits_stays() -> None:
    """A pinned row whose severity and host's word are the same keeps its version, whatever the file says."""
    found = settle(planner(PLAN, OLD), **pinned(OLD))
    assert OLD == found.policy
    assert incident(**pinned(OLD)) == found.incident
    assert OLD == settle(planner(PLAN, OLD), **pinned(OLD, policy="ops", severity="CRITICAL")).policy


def test_a_word_that_was_cleared() -> None:
    """A host's word that was cleared is no other name."""
    fields: dict[str, Any] = {"level": 1, **pinned(PLAN.policies["calm"])}
    assert incident(**fields) == settle(planner(PLAN, PLAN.policies["calm"]), **fields).incident


def test_the_same_name_again() -> None:
    """If the assignment of another severity names the same policy, only the severity in the pin changes."""
    file = Policies.from_mapping({"policies": {"ops": OPS}, "assign": [{"policy": "ops"}]})
    found = settle(planner(file, OLD), level=1, **pinned(OLD, "low"))
    assert incident(level=1, **pinned(OLD)) == found.incident
    assert OLD == found.policy


def test_another_name_in_mid_episode_begins() -> None:
    """A policy without an escalation in this episode begins at its first level, from the last escalation on."""
    fields = pinned(PLAN.policies["calm"], "low", level=2, last_escalated_at=START + 20 * MINUTE)
    found = settle(planner(), **fields)
    assert f"ops@{OPS_DIGEST}@critical" == found.incident.policy_pin
    assert (2, 20) == (found.incident.policy_level, minutes(found.incident.policy_since))
    later = settle(planner(), **fields, policy_level=1, policy_since=START + 30 * MINUTE)
    assert (2, 30) == (later.incident.policy_level, minutes(later.incident.policy_since))
    never = settle(planner(), **fields | {"level": 0, "last_escalated_at": None})
    assert (0, None) == (never.incident.policy_level, never.incident.policy_since)


@pytest.mark.parametrize(("position", "level"), [(1, 7), (3, 5), (9, 2)])
def test_another_name_in_mid_episode_goes_on(position: int, level: int) -> None:
    """A policy with an escalation in this episode goes on at the position of its last one, at most at its end."""
    one = planner(positions={("k", 1): {"ops": position, "calm": 2}})
    fields = pinned(PLAN.policies["calm"], "low", level=8, last_escalated_at=START, policy_since=START + MINUTE)
    found = settle(one, **fields)
    # ops has six positions, so that position 9 of an older version counts as its end.
    assert (level, 1) == (found.incident.policy_level, minutes(found.incident.policy_since))


def test_which_rows_need_positions() -> None:
    """Positions are asked for if a row above level 0 may get another policy."""
    one = planner()
    assert not one.needs_positions(incident(policy_pin="ops@x@low"))
    assert one.needs_positions(incident(level=1, policy_pin="ops@x@low"))
    assert not one.needs_positions(incident(level=1, policy_pin="ops@x@critical"))
    assert one.needs_positions(incident(level=1, policy_pin="ops@x@critical", policy="calm"))
    assert one.needs_positions(incident(level=1, policy="calm"))
    assert not one.needs_positions(incident(level=1))
    assert not planner(None).needs_positions(incident(level=1, policy="calm"))


# --- what an engine cannot assign


@pytest.mark.parametrize("file", [None, PLAN])
def test_an_unknown_name(file: Policies | None) -> None:
    """An unknown name is noted, and the built-in formula decides; a row of a named policy goes on by its text."""
    found = settle(planner(file), policy="nope")
    assert ("builtin", True, ((Note.UNKNOWN_POLICY, "nope"),)) == (found.policy.name, found.unsure, found.notes)
    assert None is found.incident.policy_pin
    assert NEEDS_REPLAN == found.due(NOW)
    went_on = settle(planner(file, OLD), policy="nope", **pinned(OLD))
    assert (OLD, True) == (went_on.policy, went_on.unsure)


def test_a_name_with_blanks() -> None:
    """A name with blanks around it is unknown, as health's SQL reads it; blanks alone are no name."""
    assert ((Note.UNKNOWN_POLICY, " ops"),) == settle(planner(), policy=" ops").notes
    assert f"ops@{OPS_DIGEST}@critical" == settle(planner(), policy=" ").incident.policy_pin


@pytest.mark.parametrize("file", [None, Policies.from_mapping({"policies": {"calm": CALM}})])
def test_a_name_that_the_pin_bears(file: Policies | None) -> None:
    """A host's word that the pin bears is known, also with another severity, and to an engine whose file lacks it."""
    found = settle(planner(file, OLD), policy="ops", **pinned(OLD, "low"))
    assert (OLD, False, ()) == (found.policy, found.unsure, found.notes)
    assert pinned(OLD)["policy_pin"] == found.incident.policy_pin


def test_without_a_file_a_pinned_row_goes_on() -> None:
    """An engine without a file plans pinned rows by the kept text, and leaves to others what it cannot assign."""
    one = planner(None, OLD)
    assert (OLD, False) == ((found := settle(one, **pinned(OLD))).policy, found.unsure)
    changed = settle(one, **pinned(OLD, "low"))
    assert (OLD, True, ()) == (changed.policy, changed.unsure, changed.notes)
    assert pinned(OLD, "low")["policy_pin"] == changed.incident.policy_pin
    assert settle(one, policy="builtin", **pinned(OLD)).unsure


def test_without_the_content_of_a_file() -> None:
    """An engine whose file could not be loaded assigns nothing, and leaves rows without a pin to others as well."""
    found = planner(None, file_missing=True).settle(incident(), NOW)
    assert (None, "builtin", True, ()) == (found.incident.policy_pin, found.policy.name, found.unsure, found.notes)


def test_a_row_that_an_engine_is_unsure_about_comes_again() -> None:
    """A tick writes the row's due instant, at most a tick interval ahead."""
    found = settle(planner(None), policy="nope")
    assert NOW + MINUTE == found.until(NOW + HOUR, NOW)
    assert NOW + MINUTE == found.until(None, NOW)
    assert NOW + MINUTE / 2 == found.until(NOW + MINUTE / 2, NOW)
    sure = settle(planner())
    assert (NOW + HOUR, None) == (sure.until(NOW + HOUR, NOW), sure.until(None, NOW))


# --- lost versions

LOST: dict[str, Any] = {"policy_pin": f"ops@{'0' * 64}@critical"}


def test_a_lost_version_becomes_the_files_own() -> None:
    """A row whose version is lost goes on at its position in the file's version, and that is noted."""
    found = settle(planner(), level=2, last_escalated_at=NOW, next_due_at=NOW, **LOST)
    assert f"ops@{OPS_DIGEST}@critical" == found.incident.policy_pin
    assert (2, 1) == (found.incident.level, found.incident.episode)
    assert [Note.LOST_VERSION] == notes(found)
    assert None is found.cancel


@pytest.mark.parametrize("kept", [(), (LASTING,)])
def test_a_lost_version_ends_no_old_acknowledgement(kept: tuple[Policy, ...]) -> None:
    """The time of an acknowledgement counts from the keeping of the version that takes the lost one's place."""
    one = planner(Policies(policies={"ops": LASTING}), *kept, kept_at=NOW - 20 * MINUTE)
    found = expire(one, acknowledged_at=START, level=1, next_due_at=NOW, **LOST)
    assert [Note.LOST_VERSION] == notes(found)
    assert NOW + (10 if kept else 30) * MINUTE == found.rule(NOW)


def test_a_lost_version_whose_name_is_gone() -> None:
    """If the name is gone too, the built-in policy goes on."""
    found = settle(planner(), level=2, next_due_at=NOW, policy_pin=f"gone@{'0' * 64}@critical")
    assert ("builtin@@critical", [Note.LOST_VERSION]) == (found.incident.policy_pin, notes(found))


@pytest.mark.parametrize(("due", "begins_again"), [(NOW, True), (None, False)])
def test_a_lost_version_beyond_the_end(due: datetime | None, begins_again: bool) -> None:
    """Past the end of the file's version the walk begins again, unless it was over."""
    found = settle(planner(), level=8, next_due_at=due, **LOST)
    assert begins_again == (Note.RESTART in notes(found))
    assert (2 if begins_again else 1, 8 if begins_again else None) == (
        found.incident.episode,
        found.incident.policy_level,
    )


def test_a_lost_version_without_a_file() -> None:
    """An engine without a file plans by the built-in formula, and leaves the pin to others."""
    found = settle(planner(None), **LOST)
    assert (LOST["policy_pin"], True, [Note.LOST_VERSION]) == (found.incident.policy_pin, found.unsure, notes(found))
    assert 5 == minutes(found.rule(NOW))


@pytest.mark.parametrize("pin", ["", "ops", "ops@x", "@x@y", "!"])
def test_a_pin_that_is_no_pin(pin: str) -> None:
    """A text that is not a valid pin counts as none."""
    assert f"ops@{OPS_DIGEST}@critical" == settle(planner(), policy_pin=pin).incident.policy_pin
    assert "builtin@@critical" == settle(planner(), level=1, policy_pin=pin).incident.policy_pin


# --- acknowledgements that end

ACKED: dict[str, Any] = {"acknowledged_at": START + 50 * MINUTE, "acknowledged_by": "ann"}


def test_an_acknowledgement_ends() -> None:
    """At acknowledged_at plus ack_timeout, and not before, the acknowledgement ends; the walk goes on."""
    one = planner(PLAN, LASTING)
    fields = pinned(LASTING, level=1, last_escalated_at=START, **ACKED)
    assert 80 == minutes(settle(one, **fields).rule(NOW))
    assert () == expire(one, START + 80 * MINUTE - MINUTE / 60, **fields).notes
    found = expire(one, START + 80 * MINUTE, **fields)
    assert ([Note.ACK_EXPIRED], "acknowledgement expired") == (notes(found), found.cancel)
    assert "acknowledged at 2025-01-01 00:50:00+00:00 by ann" == found.notes[0][1]
    assert incident(**fields | {"acknowledged_at": None, "acknowledged_by": None}) == found.incident
    assert 5 == minutes(found.rule(NOW))
    assert () == settle(one, **fields).notes


def test_an_acknowledgement_from_before_the_text() -> None:
    """An acknowledgement that is older than the storing of the text counts from then."""
    one = planner(PLAN, LASTING, kept_at=START + 90 * MINUTE)
    assert 120 == minutes(settle(one, **pinned(LASTING, **ACKED)).rule(NOW))
    later: dict[str, Any] = {"acknowledged_at": START + 95 * MINUTE}
    assert 125 == minutes(settle(one, **pinned(LASTING, **later)).rule(NOW))


def test_an_acknowledgement_that_does_not_end() -> None:
    """Without ack_timeout an acknowledgement stands for ever."""
    fields = pinned(PLAN.policies["ops"], **ACKED)
    found = expire(planner(PLAN, PLAN.policies["ops"]), START + 9999 * HOUR, **fields)
    assert ((), None) == (found.notes, found.rule(NOW))


@pytest.mark.parametrize(("level", "on_expiry"), [(6, OnExpiry.RESUME), (2, OnExpiry.RESTART), (0, OnExpiry.RESTART)])
def test_an_expiry_that_begins_again(level: int, on_expiry: OnExpiry) -> None:
    """An exhausted walk, and any walk with restart, begins again at the instant of the expiry, in a new episode."""
    policy = attrs.evolve(LASTING, on_ack_expiry=on_expiry)
    fields = pinned(policy, level=level, last_escalated_at=START, **ACKED)
    found = expire(planner(PLAN, policy), **fields)
    assert [Note.ACK_EXPIRED, Note.RESTART] == notes(found)
    assert (2, level, level, 80) == (
        found.incident.episode,
        found.incident.level,
        found.incident.policy_level,
        minutes(found.incident.policy_since),
    )
    assert (START, START) == (found.incident.first_seen, found.incident.last_escalated_at)
    assert 80 == minutes(found.rule(NOW))


def test_an_expiry_is_decided_by_the_policy_before() -> None:
    """The policy that stood decides about the end; then the new severity gets its policy, which begins."""
    fields = pinned(LASTING, level=6, last_escalated_at=START + 40 * MINUTE, **ACKED) | {"severity": "low"}
    found = expire(planner(PLAN, LASTING), **fields)
    assert [Note.ACK_EXPIRED, Note.RESTART] == notes(found)
    assert (f"calm@{CALM_DIGEST}@low", 2, 6, 80) == (
        found.incident.policy_pin,
        found.incident.episode,
        found.incident.policy_level,
        minutes(found.incident.policy_since),
    )


def test_an_acknowledged_row_gets_a_policy_that_ends_it() -> None:
    """An acknowledgement may end by the policy that the row gets in the same planning."""
    file = attrs.evolve(PLAN, policies={**PLAN.policies, "ops": LASTING})
    found = expire(planner(file, LASTING), **ACKED)
    assert [Note.ACK_EXPIRED] == notes(found)


# --- acknowledgements that a host takes back


@pytest.mark.parametrize(("level", "begins_again"), [(5, False), (6, True)])
def test_taken_back_by_sql(level: int, begins_again: bool) -> None:
    """The planner removes the `!`; a walk that was over begins again now."""
    ops = PLAN.policies["ops"]
    fields: dict[str, Any] = {"level": level, "last_escalated_at": START, "policy_pin": f"!ops@{ops.digest}@critical"}
    found = settle(planner(PLAN, ops), **fields, next_due_at=NEEDS_REPLAN)
    assert f"ops@{ops.digest}@critical" == found.incident.policy_pin
    assert begins_again == (notes(found) == [Note.RESTART])
    assert ((2, level, 100) if begins_again else (1, None, None)) == (
        found.incident.episode,
        found.incident.policy_level,
        minutes(found.incident.policy_since),
    )


def test_taken_back_of_the_builtin_policy() -> None:
    """A built-in walk that is over stays so."""
    found = settle(planner(), level=7, last_escalated_at=START, policy_pin="!builtin@@critical")
    assert ("builtin@@critical", (), 1) == (found.incident.policy_pin, found.notes, found.incident.episode)


def test_taken_back_and_acknowledged_again() -> None:
    """While the row is acknowledged nothing begins again."""
    fields: dict[str, Any] = {"level": 6, "policy_pin": f"!ops@{OPS_DIGEST}@critical", **ACKED}
    found = settle(planner(), **fields)
    assert (f"ops@{OPS_DIGEST}@critical", ()) == (found.incident.policy_pin, found.notes)


# --- rebind


@pytest.mark.parametrize(
    ("level", "old", "new", "begin_again", "restarts", "due"),
    [
        pytest.param(1, 3, 2, False, False, 5, id="keeps its position"),
        pytest.param(2, 3, 2, False, True, 100, id="past the new end"),
        pytest.param(3, 3, 2, False, False, None, id="over stays over"),
        pytest.param(3, 3, 3, False, False, None, id="over, and the new one is as long"),
        pytest.param(3, 3, 4, False, False, 5, id="over, and the new one is longer"),
        pytest.param(1, 3, 3, True, True, 100, id="begins again on request"),
        pytest.param(3, 3, 2, True, True, 100, id="over, and begins again on request"),
    ],
)
def test_rebind(level: int, old: int, new: int, begin_again: bool, restarts: bool, due: int | None) -> None:
    """The position stays; a walk begins again past the new end and on request, and stays over unless it got longer."""
    before, after = (
        Policy(name="ops", levels=(Level(after=wait * MINUTE), *[Level(after=5 * MINUTE)] * (count - 1)))
        for count, wait in ((old, 1), (new, 0))
    )
    one = planner(attrs.evolve(PLAN, policies={"ops": after}), before, after)
    found = one.rebind(
        incident(level=level, last_escalated_at=START, **pinned(before)), after, NOW, begin_again=begin_again
    )
    assert pinned(after)["policy_pin"] == found.incident.policy_pin
    assert ([Note.RESTART] if restarts else []) == notes(found)
    assert (
        (2, level, 100)
        if restarts
        else (1, None, None)
        == (
            found.incident.episode,
            found.incident.policy_level,
            minutes(found.incident.policy_since),
        )
    )
    assert due == minutes(found.rule(NOW))


# --- instants


def test_a_clock_that_stepped_back() -> None:
    """Instants after the store's clock count as the clock."""
    one, ahead = planner(PLAN, LASTING), NOW + HOUR
    fields = pinned(LASTING, policy_level=0, policy_since=ahead, level=1, last_escalated_at=ahead)
    assert 105 == minutes(settle(one, **fields).rule(NOW))
    assert 100 == minutes(settle(one, **pinned(LASTING, policy_since=ahead)).rule(NOW))
    assert 130 == minutes(settle(one, **pinned(LASTING, acknowledged_at=ahead)).rule(NOW))


def test_the_forecast_of_an_acknowledged_row() -> None:
    """The next step of an acknowledged row comes after its acknowledgement ends; without an end there is none."""
    one = planner(PLAN, LASTING)
    coming = one.next_step(incident(**pinned(LASTING, level=6, last_escalated_at=START, **ACKED)), START + HOUR)
    assert coming is not None
    found, at = coming
    assert (80, 2, 0) == (minutes(at), found.incident.episode, found.policy.position(found.incident))
    assert None is one.next_step(incident(**pinned(PLAN.policies["ops"], **ACKED)), NOW)
    assert None is one.next_step(incident(resolved_at=NOW), NOW)
    assert None is one.next_step(incident(level=6, **pinned(LASTING)), NOW)


def test_a_resolved_row_shows_its_policy() -> None:
    """A resolved incident keeps the policy that it had, and is never due."""
    ended: Incident = incident(**pinned(OLD, "low"), level=1, resolved_at=NOW)
    found = planner(PLAN, OLD).settle(ended, NOW)
    assert (OLD, ended, None) == (found.policy, found.incident, found.rule(NOW))


def test_versions_with_one_text() -> None:
    """Two policies with the same content have one text, and each keeps its name."""
    same = Policies.from_mapping({"policies": {"a": CALM, "b": CALM}})
    assert same.policies["a"].digest == same.policies["b"].digest
    one = planner(same, same.policies["a"])
    assert "b" == settle(one, policy_pin=f"b@{same.policies['b'].digest}@critical").policy.name


def test_rounds_of_a_policy_in_the_repeat() -> None:
    """A walk of several rounds is exhausted at its last round."""
    twice = Policy(name="ops", levels=(Level(after=MINUTE), Level(after=MINUTE)), repeat=Repeat(times=1))
    one = planner(PLAN, twice)
    assert [False, True] == [settle(one, level=level, **pinned(twice)).exhausted() for level in (3, 4)]
