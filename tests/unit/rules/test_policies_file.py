"""Tests of the reader of policies files."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given

from escalation_core import Policies, PoliciesError
from escalation_core.errors import MAX_PROBLEM_LINES, Problem
from escalation_core.rules.policies_file import MAX_VALUES, read_version
from escalation_core.rules.policy import Anchor, OnExpiry

from . import policy_files

MINUTE = timedelta(minutes=1)
HOURS: dict[str, Any] = {"zone": "Europe/Berlin", "windows": [{"days": "mon-fri", "from": "09:00", "to": "17:00"}]}
WHOLE = {
    "policies": {
        "ops": {
            "levels": [
                {"after": "0m", "to": ["slack:ann"]},
                {"after": "5m", "to": ["slack:bob", "slack:ops", "slack:bob"], "deliver": "office"},
                {"after": "15m", "to": "slack:managers"},
            ],
            "repeat": {"times": "2", "after": "30m"},
            "anchor": "first_seen",
            "min_gap": "90s",
            "clock": "office",
            "ack_timeout": "2h",
            "on_ack_expiry": "restart",
        },
        "default": {"levels": [{"after": "3d"}]},
    },
    "hours": {"office": HOURS | {"closed": ["2026-12-25"]}},
    "assign": [
        {"severity": "critical", "labels": {"team": "db"}, "policy": "ops"},
        {"severity": "low", "policy": "builtin"},
    ],
}


def problems(mapping: object) -> Mapping[str, Problem]:
    """Return the problems of a mapping."""
    with pytest.raises(PoliciesError) as caught:
        Policies.from_mapping(mapping)
    return caught.value.problems


def of_policy(**fields: Any) -> dict[str, str]:
    """Return the problems of a policy with these fields, by the path within it."""
    found = problems({"policies": {"p": {"levels": [{"after": "5m"}]} | fields}, "hours": {"office": HOURS}})
    return {path.removeprefix("policies.p."): str(problem) for path, problem in found.items()}


def of_hours(**fields: Any) -> dict[str, str]:
    """Return the problems of hours with these fields, by the path within them."""
    found = problems({"policies": {"p": {"levels": [{"after": "5m"}]}}, "hours": {"h": HOURS | fields}})
    return {path.removeprefix("hours.h."): str(problem) for path, problem in found.items()}


def test_every_field_is_read() -> None:
    """Each field of the file becomes a field of the policies."""
    read = Policies.from_mapping(WHOLE)

    ops, default = read.policies["ops"], read.policies["default"]
    assert [timedelta(), 5 * MINUTE, 15 * MINUTE] == [level.after for level in ops.levels]
    assert [("slack:ann",), ("slack:bob", "slack:ops"), ("slack:managers",)] == [level.to for level in ops.levels]
    office = read.hours["office"]
    assert [None, office, None] == [level.deliver for level in ops.levels]
    assert (2, 30 * MINUTE, 9) == (ops.repeat.times, ops.repeat.after, ops.total)
    assert (Anchor.FIRST_SEEN, 1.5 * MINUTE, office) == (ops.anchor, ops.min_gap, ops.clock)
    assert (120 * MINUTE, OnExpiry.RESTART) == (ops.ack_timeout, ops.on_ack_expiry)
    assert ("Europe/Berlin", frozenset({date(2026, 12, 25)})) == (office.zone, office.closed)
    assert [(frozenset(range(5)), time(9), time(17))] == [(each.days, each.start, each.end) for each in office.windows]
    assert [("critical", {"team": "db"}, "ops"), ("low", {}, "builtin")] == [
        (each.severity, each.labels, each.policy) for each in read.assignments
    ]
    assert (0, None, Anchor.PREVIOUS, None) == (
        default.repeat.times,
        default.repeat.after,
        default.anchor,
        default.min_gap,
    )
    assert (None, None, OnExpiry.RESUME) == (default.clock, default.ack_timeout, default.on_ack_expiry)
    assert ({}, ()) == (
        Policies.from_mapping({"policies": {"a": {"levels": [{"after": "1m"}]}}}).hours,
        default.levels[0].to,
    )


@pytest.mark.parametrize(
    ("written", "days"),
    [
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("sat,sun", {5, 6}),
        ("mon-tue, fri", {0, 1, 4}),
        ("sat-mon", {5, 6, 0}),
        ("wed", {2}),
        (["mon", "wed-thu"], {0, 2, 3}),
        ("mon-sun", set(range(7))),
    ],
)
def test_days(written: object, days: set[int]) -> None:
    """Days are names, ranges, which may go on after Sunday, or a list of those."""
    window = {"days": written, "from": "09:00", "to": "17:00"}
    mapping = {"policies": {"p": {"levels": [{"after": "5m"}]}}, "hours": {"h": HOURS | {"windows": [window]}}}

    assert days == Policies.from_mapping(mapping).hours["h"].windows[0].days


@pytest.mark.parametrize(
    ("begin", "end", "span"),
    [
        ("00:00", "24:00", 24 * 60),
        ("22:00", "06:00", 8 * 60),
        ("09:00", "09:00", 24 * 60),
        ("09:00:30", "09:01:30", 1),
        (time(9), time(10), 60),
    ],
)
def test_times(begin: object, end: object, span: int) -> None:
    """A window may end on the next day, may last 24 hours, and may have TOML's times."""
    hours = HOURS | {"windows": [{"from": begin, "to": end}]}
    read = Policies.from_mapping({"policies": {"p": {"levels": [{"after": "5m"}]}}, "hours": {"h": hours}})

    assert span * MINUTE == read.hours["h"].windows[0].span
    assert frozenset(range(7)) == read.hours["h"].windows[0].days


def test_a_date_may_be_tomls() -> None:
    """A closed date may be a date."""
    hours = HOURS | {"closed": [date(2026, 12, 25)]}
    read = Policies.from_mapping({"policies": {"p": {"levels": [{"after": "5m"}]}}, "hours": {"h": hours}})

    assert {date(2026, 12, 25)} == read.hours["h"].closed


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"levels": [{"after": "5m"}, {"after": "5 minutes"}]}, "levels[1].after", 'is "5 minutes"; write 5m'),
        ({"levels": [{"after": "10"}]}, "levels[0].after", 'is "10"; write a number and its unit'),
        ({"levels": [{"after": 10}]}, "levels[0].after", "is 10; write a number and its unit"),
        ({"levels": [{"after": "-5m"}]}, "levels[0].after", 'is "-5m"; write a number and its unit'),
        ({"levels": [{"after": "400d"}]}, "levels[0].after", 'is "400d"; write at most 365d'),
        ({"levels": [{"after": "31536001s"}]}, "levels[0].after", 'is "31536001s"; write at most 365d'),
        ({"levels": [{"after": "\N{ARABIC-INDIC DIGIT FIVE}m"}]}, "levels[0].after", "is"),
        ({"levels": [{"after": None}]}, "levels[0].after", "is empty; write a number and its unit"),
        ({"levels": [{"after": float("nan")}]}, "levels[0].after", "is nan; write a number and its unit"),
        ({"levels": [{"after": True}]}, "levels[0].after", "is true; write a number and its unit"),
        ({"levels": [{"after": {}}]}, "levels[0].after", "is a mapping; write a number and its unit"),
        ({"levels": [{}]}, "levels[0].after", "is missing; write it"),
        ({"levels": [{"after": "5m", "til": "x"}]}, "levels[0].til", 'is the field "til", which is not known; the ne'),
        ({"levels": [{"after": "5m", "to": []}]}, "levels[0].to", "has 0 targets; write 1 to 100"),
        ({"levels": [{"after": "5m", "to": ["a"] * 101}]}, "levels[0].to", "has 101 targets; write 1 to 100"),
        ({"levels": [{"after": "5m", "to": ["a", ""]}]}, "levels[0].to[1]", "is empty"),
        ({"levels": [{"after": "5m", "to": ["a", 5]}]}, "levels[0].to[1]", "is 5; write text"),
        ({"levels": [{"after": "5m", "to": "a\nb"}]}, "levels[0].to", "is not a valid target name"),
        ({"levels": [{"after": "5m", "to": ["oncall:a b"]}]}, "levels[0].to[0]", '"a b" is not a valid name; write 1'),
        ({"levels": [{"after": "5m", "to": "oncall:"}]}, "levels[0].to", '"" is not a valid name; write 1'),
        ({"levels": [{"after": "5m", "deliver": "ofice"}]}, "levels[0].deliver", 'names the hours "ofice", which is n'),
        ({"levels": []}, "levels", "has 0 levels; write 1 to 50"),
        ({"levels": [{"after": "5m"}] * 51}, "levels", "has 51 levels; write 1 to 50"),
        ({"levels": [{"after": "5m"}] * 10_000}, "levels", "has 10000 levels; write 1 to 50"),
        ({"levels": "5m"}, "levels", 'is "5m"; write a list of levels'),
        ({"levels": {"after": "5m"}}, "levels", "is a mapping; write a list of levels"),
        ({"levels": ["5m"]}, "levels[0]", 'is "5m"; write a mapping of after, to, deliver'),
        ({"levels": None}, "levels", "is empty; write a list of levels"),
        ({"repeat": 2}, "repeat", "is 2; write a mapping of times, after"),
        ({"repeat": {"times": "-1"}}, "repeat.times", 'is "-1"; write a whole number in digits'),
        ({"repeat": {"times": 100}}, "repeat.times", "is 100; write 0 to 99"),
        ({"repeat": {"times": -1}}, "repeat.times", "is -1; write 0 to 99"),
        ({"repeat": {"times": "two"}}, "repeat.times", 'is "two"; write a whole number in digits'),
        ({"repeat": {"times": 1.0}}, "repeat.times", "is 1.0; write a whole number in digits"),
        ({"repeat": {"times": True}}, "repeat.times", "is true; write a whole number in digits"),
        ({"repeat": {"times": "9" * 5000}}, "repeat.times", "is"),
        (
            {"levels": [{"after": "5m"}] * 34, "repeat": {"times": 2}},
            "repeat.times",
            "is 2: 34 levels in 3 rounds are 1",
        ),
        (
            {"levels": [{"after": "0m"}], "repeat": {"times": 1}},
            "repeat.after",
            "is missing, and the first level's aft",
        ),
        ({"anchor": "last"}, "anchor", 'is "last"; write previous or first_seen'),
        (
            {"anchor": "first_seen", "min_gap": "0m"},
            "min_gap",
            "is 0, and the anchor is first_seen; write a gap above 0",
        ),
        (
            {"anchor": "first_seen", "levels": [{"after": "0s"}]},
            "min_gap",
            "is missing, the anchor is first_seen, and a",
        ),
        ({"min_gap": "366d"}, "min_gap", "is"),
        ({"min_gap": None}, "min_gap", "is empty"),
        ({"clock": "Office"}, "clock", 'names the hours "Office", which is not known; the nearest is "office"'),
        ({"clock": ["office"]}, "clock", "is a list; write text"),
        ({"ack_timeout": "59s"}, "ack_timeout", "is shorter than a minute; write at least 1m"),
        ({"ack_timeout": "366d"}, "ack_timeout", 'is "366d"; write at most 365d'),
        ({"ack_timeout": ""}, "ack_timeout", 'is ""; write a number and its unit'),
        ({"on_ack_expiry": "stop"}, "on_ack_expiry", 'is "stop"; write resume or restart'),
        ({"name": "x"}, "name", 'is the field "name", which is not known'),
        ({"total": "x"}, "total", 'is the field "total", which is not known'),
        ({"acktimeout": "1h"}, "acktimeout", 'is the field "acktimeout", which is not known; the nearest is "ack_time'),
        ({"a.b": "1h"}, '["a.b"]', 'is the field "a.b", which is not known'),
    ],
)
def test_wrong_policy(fields: dict[str, Any], path: str, said: str) -> None:
    """A wrong field of a policy is refused with its path, the fault and the remedy, and nothing else is."""
    found = of_policy(**fields)

    assert [path] == [place.removeprefix("policies.p") for place in found]
    assert found.popitem()[1].startswith(said)


def closed(first: str, days: int) -> list[date]:
    """Return so many dates from the first."""
    return [date.fromordinal(date.fromisoformat(first).toordinal() + day) for day in range(days)]


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"zone": "Europe/Berln"}, "zone", 'is "Europe/Berln"; write an IANA name'),
        ({"zone": "../../etc/passwd"}, "zone", "is"),
        ({"zone": ""}, "zone", 'is ""; write an IANA name'),
        ({"zone": 1}, "zone", "is 1; write an IANA name"),
        ({"windows": []}, "windows", "has 0 windows; write 1 to 100"),
        ({"windows": HOURS["windows"] * 101}, "windows", "has 101 windows; write 1 to 100"),
        ({"windows": [{"from": "9:00", "to": "17:00"}]}, "windows[0].from", 'is "9:00"; write 09:00'),
        ({"windows": [{"from": 600, "to": "17:00"}]}, "windows[0].from", "is 600; write the time of day"),
        ({"windows": [{"from": "24:00", "to": "17:00"}]}, "windows[0].from", 'is "24:00"; write the time of day'),
        ({"windows": [{"from": "09:00", "to": "24:01"}]}, "windows[0].to", 'is "24:01"; write the time of day'),
        (
            {"windows": [{"from": "09:00", "to": time(9, tzinfo=UTC)}]},
            "windows[0].to",
            "is 09:00:00+00:00; write the t",
        ),
        ({"windows": [{"from": "09:00"}]}, "windows[0].to", "is missing; write it"),
        (
            {"windows": [{"from": "09:00", "to": "10:00", "start": "x"}]},
            "windows[0].start",
            'is the field "start", whic',
        ),
        (
            {"windows": [{"days": "mon-fry", "from": "09:00", "to": "10:00"}]},
            "windows[0].days",
            '"mon-fry" is not a val',
        ),
        ({"windows": [{"days": "Mon", "from": "09:00", "to": "10:00"}]}, "windows[0].days", '"Mon" is not a valid day'),
        ({"windows": [{"days": [], "from": "09:00", "to": "10:00"}]}, "windows[0].days", "is a list; write days"),
        ({"windows": [{"days": [1], "from": "09:00", "to": "10:00"}]}, "windows[0].days", "1 is not a valid day"),
        ({"windows": [{"days": 1, "from": "09:00", "to": "10:00"}]}, "windows[0].days", "is 1; write days"),
        ({"closed": ["2026-02-29"]}, "closed[0]", '"2026-02-29" does not exist; write a day of the calendar'),
        ({"closed": ["25.12.2026"]}, "closed[0]", 'is "25.12.2026"; write a date, for example 2026-12-25'),
        ({"closed": [datetime(2026, 12, 25, tzinfo=UTC)]}, "closed[0]", "is 2026-12-25 00:00:00+00:00; write a date"),
        ({"closed": ["1969-12-31"]}, "closed[0]", 'is "1969-12-31"; write a year from 1970 to 2199'),
        ({"closed": "2026-12-25"}, "closed", 'is "2026-12-25"; write a list of dates'),
        ({"closed": closed("2026-01-01", 370)}, "", "do not open for a whole year; leave out closed dates"),
        ({"colsed": []}, "colsed", 'is the field "colsed", which is not known; the nearest is "closed"'),
    ],
)
def test_wrong_hours(fields: dict[str, Any], path: str, said: str) -> None:
    """A wrong field of hours is refused with its path, the fault and the remedy, and nothing else is."""
    found = of_hours(**fields)

    assert [path] == [place.removeprefix("hours.h") for place in found]
    assert found.popitem()[1].startswith(said)


def test_closed_for_a_year() -> None:
    """Hours that are closed for 51 weeks are valid and for 52 weeks are not, whichever day it is today."""
    sundays = {"zone": "UTC", "windows": [{"days": "sun", "from": "09:00", "to": "10:00"}]}

    def read(weeks: int) -> Policies:
        hours = sundays | {"closed": closed("2100-01-01", 7 * weeks)}
        return Policies.from_mapping({"policies": {"p": {"levels": [{"after": "5m"}]}}, "hours": {"h": hours}})

    assert read(51).hours
    with pytest.raises(PoliciesError, match=r"hours.h: do not open for a whole year"):
        read(52)


def test_gaps_that_do_not_end() -> None:
    """Under a clock, a gap that may last more than five years is refused; one that just ends is not."""
    hours = {"zone": "UTC", "windows": [{"days": "sun", "from": "09:00", "to": "10:00"}]}

    def read(gap: str, **fields: Any) -> Policies:
        levels = {"levels": [{"after": "1m"}, {"after": gap}], "clock": "h"}
        return Policies.from_mapping({"policies": {"p": levels}, "hours": {"h": hours | fields}})

    assert read("260h").hours  # 260 Sundays lie in any five years
    with pytest.raises(PoliciesError, match=r"policies.p.levels\[1\].after: may not end within 5 years"):
        read("261h")
    with pytest.raises(PoliciesError, match=r"policies.p.levels\[1\].after: may not end within 5 years"):
        read("260h", closed=["2150-01-04"])


def test_gaps_through_very_many_windows() -> None:
    """A gap that runs through thousands of windows is refused: a tick computes it for each of its incidents."""
    times = [f"{minute // 60:02}:{minute % 60:02}" for minute in range(1000)]
    windows = [{"from": times[minute], "to": times[minute + 2]} for minute in range(0, 990, 10)]

    def read(gap: str) -> Policies:
        levels = {"levels": [{"after": gap}], "clock": "h"}
        return Policies.from_mapping({"policies": {"p": levels}, "hours": {"h": {"zone": "UTC", "windows": windows}}})

    assert read("4000m").policies  # 2,000 windows of two minutes
    said = r"policies.p.levels\[0\].after: runs through more than 2000 windows of h, which takes long to compute"
    with pytest.raises(PoliciesError, match=said):
        read("4001m")


def test_a_number_of_very_many_digits() -> None:
    """Python writes no number of more than 4,300 digits."""
    with pytest.raises(PoliciesError, match=r"policies\.p\.repeat\.times: is a very large number; write 0 to 99"):
        Policies.from_mapping({"policies": {"p": {"levels": [{"after": "1m"}], "repeat": {"times": 16**4000}}}})


@pytest.mark.parametrize(
    ("mapping", "path", "said"),
    [
        ({}, "policies", "is missing; name at least one policy"),
        ({"policies": {}}, "policies", "is empty; name at least one policy"),
        ({"policies": []}, "policies", "is a list; write a mapping of names"),
        ({"policies": {"p": None}}, "policies.p", "is empty; write a mapping of fields"),
        ({"policies": {"p": []}}, "policies.p", "is a list; write a mapping of fields"),
        (None, "the file", "is empty; write a mapping with the key policies"),
        ([], "the file", "is a list; write a mapping with the key policies"),
        ("policies", "the file", 'is "policies"; write a mapping with the key policies'),
        ({5: {}}, "the file", "has the key 5, which is not text; write it in quotes"),
        ({"policies": {True: {}}}, "the file", "has the key true, which is not text"),
        (WHOLE | {"polices": {}}, "polices", 'is the field "polices", which is not known; the nearest is "policies"'),
        (WHOLE | {"schedules": []}, "schedules", "is a list; write a mapping of names"),
        (WHOLE | {"people": []}, "people", "is a list; write a mapping of people to targets"),
        (WHOLE | {"hours": []}, "hours", "is a list; write a mapping of names"),
        (WHOLE | {"assign": {}}, "assign", "is a mapping; write a list of assignments"),
        (WHOLE | {"assign": [[]]}, "assign[0]", "is a list; write a mapping of severity, labels, policy"),
        (
            WHOLE | {"assign": [{"policy": "opps"}]},
            "assign[0].policy",
            'names the policy "opps", which is not known; th',
        ),
        (WHOLE | {"assign": [{"severity": "x"}]}, "assign[0].policy", "is missing; write it"),
        (WHOLE | {"assign": [{"policy": "ops", "severity": ""}]}, "assign[0].severity", "is empty; write text"),
        (WHOLE | {"assign": [{"policy": "ops", "severity": None}]}, "assign[0].severity", "is empty; write text"),
        (WHOLE | {"assign": [{"policy": "ops", "severity": 1}]}, "assign[0].severity", "is 1; write text"),
        (WHOLE | {"assign": [{"policy": "ops", "severity": "a\0"}]}, "assign[0].severity", "holds a NUL character"),
        (WHOLE | {"assign": [{"policy": "ops", "labels": {"a": 1}}]}, "assign[0].labels.a", "is 1; write text"),
        (WHOLE | {"assign": [{"policy": "ops", "labels": ["a"]}]}, "assign[0].labels", "is a list; write a mapping"),
        (
            WHOLE | {"assign": [{"policy": "ops", "min_level": 2}]},
            "assign[0].min_level",
            'is the field "min_level", whi',
        ),
    ],
)
def test_wrong_file(mapping: Any, path: str, said: str) -> None:
    """A wrong file is refused with the path, the fault and the remedy."""
    if isinstance(mapping, dict) and "hours" in mapping and mapping["hours"] == []:
        mapping = {"policies": {"p": {"levels": [{"after": "1m"}]}}, "hours": []}
    found = dict(problems(mapping))

    assert [path] == list(found)
    assert str(found[path]).startswith(said)


@pytest.mark.parametrize("name", ["", "a b", "a" * 61, "ä", "a/b", "a\n", "@"])
def test_names(name: str) -> None:
    """Names of policies and hours have 1 to 60 ASCII letters, digits, hyphens, underscores and dots."""
    policy = {"levels": [{"after": "5m"}]}

    for found in (
        problems({"policies": {name: policy}}),
        problems({"policies": {"p": policy}, "hours": {name: HOURS}}),
    ):
        [problem] = found.values()
        assert problem.fault.endswith("is not a valid name")
    assert Policies.from_mapping({"policies": {"a.B-_9" * 10: policy}}).policies


def test_names_that_differ_in_case() -> None:
    """Two names that differ only in case are refused, and so is the name of the built-in policy."""
    policy = {"levels": [{"after": "5m"}]}

    assert ["policies.Ops"] == list(problems({"policies": {"ops": policy, "Ops": policy}}))
    hours = problems({"policies": {"p": policy}, "hours": {"day": HOURS, "DAY": HOURS}})
    assert 'differs from "day" only in case; choose another name' == hours["hours.DAY"]
    assert ["policies.builtin"] == list(problems({"policies": {"builtin": policy}}))


def test_all_problems_at_once() -> None:
    """Problems in hours, policies and assignments are reported together, and a fault causes no second one."""
    found = problems(
        {
            "hours": {"office": HOURS | {"zone": "Mars"}},
            "policies": {"p": {"levels": [{"after": "x", "deliver": "office"}, {"to": 5}], "clock": "offce"}, "q": 5},
            "assign": [{"policy": "q"}, {"policy": "r"}],
            "peple": {},
        }
    )

    assert [
        "peple",
        "hours.office.zone",
        "policies.p.levels[0].after",
        "policies.p.levels[1].after",
        "policies.p.levels[1].to",
        "policies.p.clock",
        "policies.q",
        "assign[1].policy",
    ] == list(found)


def test_bounds() -> None:
    """A file with too many values, with too deep ones or with a cycle is refused at once."""
    cycle: list[object] = []
    cycle.append(cycle)
    wide = {"policies": {"p": {"levels": [{"after": "1m"}] * MAX_VALUES}}}
    bomb: Any = ["x"] * 10
    for _ in range(6):
        bomb = [bomb] * 10
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]

    assert "has more than 50000 values" == problems(wide)["the file"].fault
    assert "has more than 50000 values" == problems({"policies": {"p": bomb}})["the file"].fault
    assert "has more than 10 levels of nesting, or a cycle" == problems({"policies": cycle})["the file"].fault
    assert "has more than 10 levels of nesting, or a cycle" == problems({"policies": deep})["the file"].fault
    while deep:  # Python frees a deep list level by level, and a long chain of them overflows its stack
        deep = deep.pop()


def test_a_long_message_is_cut() -> None:
    """The message lists 50 problems and counts the others; ``problems`` has all."""
    with pytest.raises(PoliciesError) as caught:
        Policies.from_mapping({"policies": {f"p{number}": 5 for number in range(60)}})

    assert 60 == len(caught.value.problems)
    assert MAX_PROBLEM_LINES + 2 == len(str(caught.value).splitlines())
    assert str(caught.value).endswith("and 10 more")


SECRET = "https://hooks.example/s3cret"


@pytest.mark.parametrize(
    "mapping",
    [
        {"policies": {SECRET: {"levels": [{"after": "1m"}]}}},
        {"policies": {"p": {"levels": [{"after": SECRET}]}}},
        {"policies": {"p": {"levels": [{"after": "1m", "to": SECRET}]}}},
        {"policies": {"p": {"levels": [{"after": "1m", "to": [SECRET]}]}}},
        {"policies": {"p": {"levels": [{"after": "1m", "deliver": SECRET}]}}},
        {"policies": {"p": {"levels": [{"after": "1m", SECRET: "x"}]}}},
        {"policies": {"p": {"levels": [{"after": "1m"}], "anchor": SECRET}}},
        WHOLE | {SECRET: "x"},
        WHOLE | {"assign": [{"policy": SECRET}]},
        WHOLE | {"assign": [{"policy": "ops", "labels": {SECRET: 1}}]},
        WHOLE | {"hours": {"office": HOURS | {"zone": SECRET}}},
        WHOLE | {"hours": {"office": HOURS | {"closed": [SECRET]}}},
        WHOLE | {"hours": {"office": HOURS | {"windows": [{"days": SECRET, "from": SECRET, "to": SECRET}]}}},
    ],
)
def test_no_message_has_a_url(mapping: Any) -> None:
    """A URL in the wrong place is not quoted: the URL of a target is a secret."""
    with pytest.raises(PoliciesError) as caught:
        Policies.from_mapping(mapping)

    assert "s3cret" not in str(caught.value)


@given(policy_files.files())
def test_a_version_reads_back(mapping: dict[str, Any]) -> None:
    """Each valid file is read, and the text of each of its policies reads back as the same policy."""
    read = Policies.from_mapping(mapping)

    assert mapping["policies"].keys() == read.policies.keys()
    for name, policy in read.policies.items():
        again = read_version(name, policy.text())
        assert policy == again
        assert policy.digest == again.digest
    whole = Policies.from_mapping(json.loads(json.dumps(read.as_mapping())))
    assert read == whole
    assert read.digest == whole.digest


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "x", '{"policy": 5, "hours": {}}', '{"policy": {"levels": [{"after": "1m"}]}, "hours": 5}']
)
def test_a_text_that_is_no_version(text: str) -> None:
    """A text that ``Policy.text`` did not write is refused."""
    with pytest.raises(PoliciesError):
        read_version("ops", text)


def checked(mapping: Mapping[str, Any], **limits: Any) -> Mapping[str, Problem]:
    """Return the problems that ``check`` reports."""
    policies = Policies.from_mapping(mapping)
    given_limits: dict[str, Any] = {"max_level": None, "tick_interval": MINUTE, "targets": None} | limits
    try:
        policies.check(**given_limits)
    except PoliciesError as error:
        return error.problems
    return {}


def test_check_of_windows() -> None:
    """A window shorter than two tick intervals is refused."""
    hours = HOURS | {"windows": [HOURS["windows"][0], {"from": "09:00", "to": "09:10"}]}
    mapping = {"policies": {"p": {"levels": [{"after": "5m"}]}}, "hours": {"h": hours}}

    assert {} == checked(mapping, tick_interval=5 * MINUTE)
    found = checked(mapping, tick_interval=5 * MINUTE + timedelta(seconds=1))
    assert ["hours.h.windows[1]"] == list(found)
    assert "is 0:10:00 long, shorter than two tick intervals of 0:05:01" == found["hours.h.windows[1]"].fault


def test_check_of_the_maximum_level() -> None:
    """A policy with more escalations than MAX_ESC_LEVEL is refused with both numbers."""
    assert {} == checked(WHOLE, max_level=9)
    found = checked(WHOLE, max_level=8)
    assert {"policies.ops": "has 9 escalations, and MAX_ESC_LEVEL is 8"} == {
        path: problem.fault for path, problem in found.items()
    }


def test_check_of_targets() -> None:
    """A target that is not known is refused with the nearest one."""
    known = {"slack:ann", "slack:bob", "slack:ops", "slack:manager"}

    assert {} == checked(WHOLE, targets=known | {"slack:managers"})
    found = checked(WHOLE, targets=known)
    said = (
        'names the target "slack:managers", which is not known; the nearest is "slack:manager";'
        " a notifier must serve it, for example that of ESC_TARGETS"
    )
    assert {"policies.ops.levels[2].to": said} == found
    assert ["policies.ops.levels[0].to", "policies.ops.levels[1].to", "policies.ops.levels[2].to"] == list(
        checked(WHOLE, targets=set())
    )


@pytest.mark.parametrize(
    ("policy", "places"),
    [
        ({"levels": [{"after": "1m", "deliver": "h"}]}, []),
        ({"levels": [{"after": "1m", "deliver": "h"}, {"after": "1m"}]}, ["policies.default.levels[0].deliver"]),
        (
            {"levels": [{"after": "1m", "deliver": "h"}], "repeat": {"times": 1}},
            ["policies.default.levels[0].deliver"],
        ),
        ({"levels": [{"after": "1m"}], "clock": "h", "anchor": "first_seen"}, []),
        (
            {"levels": [{"after": "1m"}], "clock": "h", "anchor": "first_seen", "ack_timeout": "1h"},
            ["policies.default.anchor"],
        ),
        ({"levels": [{"after": "1m"}]}, ["hours.h"]),
    ],
)
def test_warnings(policy: dict[str, Any], places: list[str]) -> None:
    """What is valid and probably not intended has a warning with its path."""
    read = Policies.from_mapping({"policies": {"default": policy}, "hours": {"h": HOURS}})

    assert places == [warning.partition(": ")[0] for warning in read.warnings]


def test_warning_of_an_unused_policy() -> None:
    """A policy that no assignment names has a warning; ``default`` needs none."""
    policy = {"levels": [{"after": "1m"}]}
    read = Policies.from_mapping(
        {"policies": {"a": policy, "b": policy, "default": policy}, "assign": [{"policy": "a"}]}
    )

    assert ["policies.b"] == [warning.partition(": ")[0] for warning in read.warnings]
