"""The due instant of an incident: every branch of the rule, as a table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import BuiltinPolicy, InvalidValue

from ..kit import DAY, HOUR, MINUTE, SECOND, START, incident

POLICY = BuiltinPolicy()
END = datetime.max.replace(tzinfo=UTC)

# fields of an incident first seen at START, and its due instant: an offset from START, or None
DUE: list[tuple[str, dict[str, Any], timedelta | None]] = [
    ("critical waits 5 minutes", {}, 5 * MINUTE),
    ("warning waits 15", {"severity": "warning"}, 15 * MINUTE),
    ("one that is not configured waits 15", {"severity": "high"}, 15 * MINUTE),
    ("none at all waits 15", {"severity": None}, 15 * MINUTE),
    ("level 1 waits two windows", {"level": 1}, 10 * MINUTE),
    ("level 6 waits seven windows", {"level": 6}, 35 * MINUTE),
    ("at the maximum nothing is due", {"level": 7}, None),
    ("nor above it", {"level": 8}, None),
    ("nor when acknowledged", {"acknowledged_at": START}, None),
    ("nor when resolved", {"resolved_at": START}, None),
    ("nor when both", {"acknowledged_at": START, "resolved_at": START}, None),
    ("snooze counts from the last escalation", {"level": 1, "last_escalated_at": START + 5 * MINUTE}, 35 * MINUTE),
    ("the window wins over an early snooze", {"level": 6, "last_escalated_at": START}, 35 * MINUTE),
    ("the window wins by a second", {"level": 6, "last_escalated_at": START + 5 * MINUTE - SECOND}, 35 * MINUTE),
    ("the snooze wins by one", {"level": 6, "last_escalated_at": START + 5 * MINUTE + SECOND}, 35 * MINUTE + SECOND),
    ("a snooze until later wins", {"snoozed_until": START + HOUR}, HOUR),
    ("a snooze until earlier does not", {"snoozed_until": START + MINUTE}, 5 * MINUTE),
    ("a snooze in the past does not", {"snoozed_until": START - DAY}, 5 * MINUTE),
    (
        "the latest of the three wins",
        {"level": 1, "last_escalated_at": START + HOUR, "snoozed_until": START + 2 * HOUR},
        2 * HOUR,
    ),
    ("a snooze changes nothing at the maximum", {"level": 7, "snoozed_until": START + HOUR}, None),
]


@pytest.mark.parametrize(("fields", "due"), [case[1:] for case in DUE], ids=[case[0] for case in DUE])
def test_due(fields: dict[str, Any], due: timedelta | None) -> None:
    """The due instant is the latest of window, spacing and snooze; an ended or exhausted incident has none."""
    assert (None if due is None else START + due) == POLICY.next_due_at(incident(**fields))


def test_tick_interval_spaces_escalations_when_snooze_is_0() -> None:
    """With snooze 0, two escalations of an incident are one tick interval apart."""
    policy = BuiltinPolicy(snooze=timedelta(), tick_interval=90 * SECOND)
    late = incident(level=1, last_escalated_at=START + HOUR)
    assert START + HOUR + 90 * SECOND == policy.next_due_at(late)


def test_the_longer_of_snooze_and_tick_interval_counts() -> None:
    """A snooze shorter than the tick interval is lengthened to it; a longer snooze stays."""
    late = incident(level=1, last_escalated_at=START + HOUR)
    spans = [(MINUTE, 2 * MINUTE), (3 * MINUTE, 2 * MINUTE), (2 * MINUTE, 2 * MINUTE)]
    due = [BuiltinPolicy(snooze=snooze, tick_interval=tick).next_due_at(late) for snooze, tick in spans]
    assert [START + HOUR + 2 * MINUTE, START + HOUR + 3 * MINUTE, START + HOUR + 2 * MINUTE] == due


def test_last_escalation_in_the_future_counts_as_now() -> None:
    """A last_escalated_at in the future, from a clock that ran ahead, counts as now."""
    ahead = incident(level=1, last_escalated_at=START + 10 * DAY)
    assert START + HOUR + 30 * MINUTE == POLICY.next_due_at(ahead, START + HOUR)


def test_last_escalation_in_the_past_stays_with_now() -> None:
    """For a row without instants in the future, the argument ``now`` changes nothing."""
    sound = incident(level=1, last_escalated_at=START + 5 * MINUTE)
    assert POLICY.next_due_at(sound) == POLICY.next_due_at(sound, START + HOUR)


@pytest.mark.parametrize("fields", [{"first_seen": END}, {"last_escalated_at": END}, {"snoozed_until": END}])
def test_nothing_overflows_near_the_end_of_time(fields: dict[str, Any]) -> None:
    """Near the year 9999 the due instant is the last possible datetime."""
    assert END == BuiltinPolicy().next_due_at(incident(**fields))


def test_longest_ladder_does_not_overflow() -> None:
    """A hundred windows of a year each give a valid instant."""
    policy = BuiltinPolicy(windows={"critical": 365 * DAY}, max_level=100)
    assert START + 36500 * DAY == policy.next_due_at(incident(level=99))
    late = incident(level=99, first_seen=datetime(9950, 1, 1, tzinfo=UTC))
    assert END == policy.next_due_at(late)


@pytest.mark.parametrize("severity", ["critical", "CRITICAL", " Critical\t", "critical\n", "cRiTiCaL"])
def test_severity_matches_without_case_and_blanks(severity: str) -> None:
    """Severities match without regard to case and surrounding blanks."""
    assert (True, 5 * MINUTE) == (POLICY.configured(severity), POLICY.window(severity))


@pytest.mark.parametrize("severity", [None, "", " ", "crit", "critical!", "crit ical"])
def test_other_severities_are_unconfigured(severity: str | None) -> None:
    """Any other severity is unconfigured and gets the default window."""
    assert (False, 15 * MINUTE) == (POLICY.configured(severity), POLICY.window(severity))


def test_window_names_match_without_case_too() -> None:
    """Severities in settings match without regard to case and blanks too; the comparison folds case."""
    policy = BuiltinPolicy(windows={" HIGH ": HOUR, "Straße": 2 * HOUR})
    assert (HOUR, 2 * HOUR) == (policy.window("high"), policy.window("STRASSE"))


def test_default_window_may_differ_from_warning() -> None:
    """In code, the window of unconfigured severities is a separate setting."""
    policy = BuiltinPolicy(default_window=HOUR)
    assert (15 * MINUTE, HOUR) == (policy.window("warning"), policy.window("other"))


@given(
    level=st.integers(0, 7),
    last=st.none() | st.timedeltas(-HOUR, 5 * HOUR),
    snoozed=st.none() | st.timedeltas(-HOUR, 5 * HOUR),
    window=st.timedeltas(SECOND, HOUR),
    snooze=st.timedeltas(timedelta(), HOUR),
    tick=st.timedeltas(SECOND, 10 * MINUTE),
)
def test_due_is_the_rule_to_the_letter(
    level: int,
    last: timedelta | None,
    snoozed: timedelta | None,
    window: timedelta,
    snooze: timedelta,
    tick: timedelta,
) -> None:
    """next_due_at is max(first_seen + window * (level + 1), last + max(snooze, tick), snoozed_until)."""
    policy = BuiltinPolicy(windows={"critical": window}, snooze=snooze, tick_interval=tick)
    one = incident(
        level=level,
        last_escalated_at=None if last is None else START + last,
        snoozed_until=None if snoozed is None else START + snoozed,
    )
    terms = [START + window * (level + 1)]
    terms += [] if last is None else [START + last + max(snooze, tick)]
    terms += [] if snoozed is None else [START + snoozed]
    assert (None if level == 7 else max(terms)) == policy.next_due_at(one)


CHANGES: list[dict[str, Any]] = [
    {"windows": {"critical": 6 * MINUTE, "warning": 15 * MINUTE}},
    {"windows": {"critical": 5 * MINUTE + timedelta(milliseconds=1), "warning": 15 * MINUTE}},
    {"windows": {"critical": 5 * MINUTE, "warning": 15 * MINUTE, "high": 15 * MINUTE}},
    {"windows": {"critical": 5 * MINUTE}},
    {"default_window": 16 * MINUTE},
    {"default_window": timedelta(minutes=525_600)},
    {"default_window": timedelta(minutes=525_599)},
    {"max_level": 8},
    {"snooze": 31 * MINUTE},
    {"snooze": timedelta(minutes=525_599)},
    {"snooze": timedelta(minutes=525_598)},
    {"tick_interval": 61 * SECOND},
    {"tick_interval": 60 * SECOND + timedelta(microseconds=1)},
]


def test_fingerprint_changes_with_each_setting() -> None:
    """Every setting that can move a due instant changes the fingerprint, even by the smallest step."""
    prints = [BuiltinPolicy().fingerprint(), *(BuiltinPolicy(**change).fingerprint() for change in CHANGES)]
    assert len(prints) == len(set(prints))


def test_fingerprint_is_the_same_for_the_same_policy() -> None:
    """Case, blanks and order of severities move no due instant, so they do not change the fingerprint."""
    one = BuiltinPolicy(windows={"critical": MINUTE, "high": HOUR})
    other = BuiltinPolicy(windows={" HIGH": HOUR, "Critical": MINUTE})
    assert one.fingerprint() == other.fingerprint()


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"windows": {"a": timedelta()}}, "windows['a']"),
    ({"windows": {"a": -MINUTE}}, "windows['a']"),
    ({"windows": {"a": timedelta(minutes=525_600, microseconds=1)}}, "windows['a']"),
    ({"windows": {"a": 5}}, "windows['a']"),
    ({"windows": {"a": MINUTE, " A": MINUTE}}, "windows"),
    ({"windows": {7: MINUTE}}, "windows"),
    ({"default_window": timedelta()}, "default_window"),
    ({"default_window": "15"}, "default_window"),
    ({"default_window": 366 * DAY}, "default_window"),
    ({"snooze": -SECOND}, "snooze"),
    ({"snooze": 366 * DAY}, "snooze"),
    ({"snooze": 30}, "snooze"),
    ({"tick_interval": timedelta()}, "tick_interval"),
    ({"tick_interval": 60}, "tick_interval"),
    ({"max_level": 0}, "max_level"),
    ({"max_level": 101}, "max_level"),
    ({"max_level": True}, "max_level"),
    ({"max_level": 7.0}, "max_level"),
]


@pytest.mark.parametrize(("given_", "field"), LIMITS)
def test_limits_are_refused_by_name(given_: dict[str, Any], field: str) -> None:
    """A policy with a value outside its limits cannot be built, and the error names the field."""
    with pytest.raises(InvalidValue) as caught:
        BuiltinPolicy(**given_)
    assert field == caught.value.field


@pytest.mark.parametrize(
    "given_",
    [
        {"windows": {}},
        {"windows": {"a": timedelta(microseconds=1), "b": 365 * DAY}},
        {"snooze": timedelta()},
        {"snooze": 365 * DAY},
        {"max_level": 1},
        {"max_level": 100},
        {"tick_interval": timedelta(microseconds=1)},
    ],
)
def test_limits_themselves_are_legal(given_: dict[str, Any]) -> None:
    """The edges of the limits are valid values."""
    assert given_.items() <= attrs.asdict(BuiltinPolicy(**given_)).items()
