"""Tests of the policies file that means the same as the settings."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import BuiltinPolicy, Incident, InvalidValue, Policies
from escalation_core.rules.builtin_file import file_of, span_text

NOON = datetime(2026, 3, 28, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MINUTES = st.integers(1, 525_600).map(lambda count: count * MINUTE) | st.integers(1, 60).map(lambda n: n * MINUTE)
SEVERITIES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=70).map(
    lambda text: text.strip().casefold()
)
BUILTINS = st.builds(
    BuiltinPolicy,
    windows=st.dictionaries(
        SEVERITIES.filter(bool) | st.sampled_from(["critical", "builtin", "default", "sev 1", "sev/1", "sev-1"]),
        MINUTES,
        max_size=6,
    ),
    default_window=MINUTES,
    max_level=st.integers(1, 100),
    snooze=st.just(timedelta()) | MINUTES,
    tick_interval=st.integers(1000, 600_000).map(lambda count: timedelta(milliseconds=count)),
)


@given(BUILTINS, st.data())
def test_the_file_gives_the_same_instants(builtin: BuiltinPolicy, data: st.DataObject) -> None:
    """Each incident is due at the same instants by the file as by the built-in policy, whatever happened to it."""
    policies = Policies.from_mapping(file_of(builtin))
    policies.check(max_level=builtin.max_level, tick_interval=builtin.tick_interval, targets=frozenset())
    severity = data.draw(st.sampled_from([*builtin.windows, " CRITICAL ", "another", None]))
    instants = st.none() | st.integers(0, 10_000).map(lambda count: NOON + count * MINUTE)
    incident = Incident(incident_key="k", severity=severity, first_seen=NOON, snoozed_until=data.draw(instants))

    named = policies.policies[policies.choose(incident)]
    assert builtin.rhythm(severity) == named.rhythm(builtin.tick_interval)
    level, last = data.draw(st.integers(0, 101)), data.draw(instants)
    walk = builtin.walk(severity)
    assert walk.next_due_at(incident, level, last, builtin.tick_interval) == named.next_due_at(
        incident, level, last, builtin.tick_interval
    )


def test_names_of_policies() -> None:
    """A policy has its severity's name, without what a name may not have, and no two names are equal."""
    windows = dict.fromkeys(["Critical", "sev 1", "sev/1", "sev-1", "builtin", "default", "ä", "x" * 100], MINUTE)
    mapping = file_of(BuiltinPolicy(windows=windows))

    assert [
        *("critical", "sev-1", "sev-1-2", "sev-1-3", "builtin-2", "default-2", "severity", "x" * 55, "default"),
    ] == list(mapping["policies"])
    assert [("sev/1", "sev-1-2")] == [
        (each["severity"], each["policy"]) for each in mapping["assign"] if each["severity"] == "sev/1"
    ]


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0m"),
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=5), "5m"),
        (timedelta(hours=36), "36h"),
        (timedelta(days=365), "365d"),
    ],
)
def test_spans(span: timedelta, text: str) -> None:
    """A span has the largest unit in which it is whole."""
    assert text == span_text(span)


def test_a_span_finer_than_a_second() -> None:
    """A window that a file cannot say is refused."""
    with pytest.raises(InvalidValue, match="with a part of a second"):
        file_of(BuiltinPolicy(default_window=timedelta(milliseconds=1500)))
