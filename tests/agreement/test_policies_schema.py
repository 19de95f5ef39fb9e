"""The JSON Schema of the policies file says what the reader does, as far as a schema can."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import escalation_adapters.policies_file
from escalation_core import Policies, PoliciesError
from tests.unit.rules import policy_files

SCHEMA = json.loads(
    (Path(escalation_adapters.policies_file.__file__).parent / "policies.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
BEYOND_A_SCHEMA = (
    "names the (hours|policy) .*, which is not known",
    "differs from .* only in case",
    "is .*; write at most 365d",
    "is shorter than a minute",
    r"is \d+: \d+ levels in \d+ rounds are \d+ escalations",
    "is missing, and the first level's after is 0",
    "is 0, and the anchor is first_seen",
    "is missing, the anchor is first_seen, and all gaps are 0",
    "is .*; write an IANA name",
    '".*" does not exist; write a day',
    "do not open for a whole year",
    "may not end within 5 years",
    "is not a valid target name",
    "holds a NUL character",
    r"is \d+\.0; write a whole number",
    "is empty; write text, or leave",
    "is not a valid person",
    "holds a character that is not printable",
    "is .*; give 1 hour to 365 days",
    "is not after (start|from)",
    "never applies",
    "names the person .*, which is not known",
)
"""The problems that a JSON Schema does not find; ``docs/reference/policies.md`` lists them."""
JUNK: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        1,
        99,
        100,
        -1,
        2.0,
        2.5,
        [],
        {},
        ["a"],
        {"a": "b"},
        [5],
        [None],
        "",
        " ",
        "x",
        "default",
        "builtin",
    ),
    *("0m", "5m", "5 minutes", "59s", "365d", "400d", "53w", "99999999w", "999999999s", "-5m", "5 m", "m", "99", "100"),
    *("007", "-1", "first_seen", "restart", "oncall:x", "oncall", "https://x/y", "a" * 60, "a" * 61, "a" * 201, "ä"),
    *("mon-fri", "mon-fry", "Mon", "mon,,tue", " mon , sat-sun ", "09:00", "9:00", "24:00", "24:01", "09:00:00"),
    *("23:59:60", "2026-12-25", "2026-02-30", "1969-12-31", "2199-12-31", "2200-01-01", "Mars/Olympus", "\x1f", "a\0"),
    *("2026-01-05T09:00", "2026-01-05 09:00:30", "2026-01-05T09:00Z", "2026-01-05T09:00+01:00", "2026-02-30T09:00"),
    *("2026-01-05T9:00", "2026-01-05T09:00+24:00", "1969-12-31T09:00", "2026-01-05T09:00:00.5", " ann", "ann"),
    *("oncall:", "oncall:a b", "http://x/y", "rota.ics", "1h", "12h", ["ann", "ann"], ["ann", "bob"]),
)
KEYS = (
    "policies",
    "hours",
    "assign",
    "levels",
    "after",
    "to",
    "deliver",
    "repeat",
    "times",
    "clock",
    "x",
    "name",
    "a b",
    *("schedules", "people", "rotation", "layers", "ical", "overrides", "until", "person"),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container within a value with each of its keys or indices."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield value, key
        yield from places(each)


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, Any]:
    """Return a file in which a value is replaced, left out, added or repeated, up to three times."""
    mapping = copy.deepcopy(draw(policy_files.files()))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(mapping))
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace", "replace", "replace", "drop", "add", "repeat"]))
        if change == "replace":
            container[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        elif change == "drop":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from([*JUNK, container[key]])))
        elif isinstance(container[key], list):
            container[key] = container[key] * draw(st.sampled_from([2, 51, 101]))
    return mapping


def beyond_a_schema(problem: str) -> bool:
    """Return whether a JSON Schema cannot find this problem."""
    return any(re.match(pattern, problem) for pattern in BEYOND_A_SCHEMA)


def problems(mapping: object) -> list[str]:
    """Return the problems that the reader finds."""
    try:
        Policies.from_mapping(mapping)
    except PoliciesError as error:
        return list(error.problems.values())
    return []


def assert_agreement(mapping: object) -> None:
    """Check that the schema takes exactly what the reader takes, except for what no schema can refuse."""
    found = problems(mapping)
    if VALIDATOR.is_valid(mapping):
        assert [] == [problem for problem in found if not beyond_a_schema(problem)], mapping
    else:
        assert found, mapping


def test_the_schema_is_valid() -> None:
    """The schema is a schema of draft 2020-12."""
    assert jsonschema_rs.meta.is_valid(SCHEMA)


@given(policy_files.files())
def test_valid_files_pass_both(mapping: dict[str, Any]) -> None:
    """A valid file passes the reader and the schema."""
    assert [] == problems(mapping)
    VALIDATOR.validate(mapping)


@given(mutants())
def test_the_schema_refuses_what_the_reader_refuses(mapping: dict[str, Any]) -> None:
    """The schema refuses nothing that the reader takes, and takes nothing else but what no schema can refuse."""
    assert_agreement(mapping)


@pytest.mark.parametrize(
    "path",
    [
        *(("policies",), ("policies", "p"), ("policies", "p", "levels"), ("policies", "p", "levels", 0)),
        *(("policies", "p", "levels", 0, field) for field in ("after", "to", "deliver", "x")),
        *(
            ("policies", "p", field)
            for field in ("anchor", "min_gap", "clock", "ack_timeout", "on_ack_expiry", "repeat")
        ),
        *(("policies", "p", "repeat", field) for field in ("times", "after", "x")),
        *(("hours",), ("hours", "h"), ("hours", "h", "zone"), ("hours", "h", "windows"), ("hours", "h", "closed")),
        *(("hours", "h", "windows", 0), ("hours", "h", "closed", 0)),
        *(("hours", "h", "windows", 0, field) for field in ("days", "from", "to", "x")),
        *(("assign",), ("assign", 0)),
        *(("assign", 0, field) for field in ("severity", "labels", "policy", "x")),
        *(("schedules",), ("schedules", "r"), ("schedules", "x"), ("people",), ("people", "ann"), ("people", "a\nb")),
        *(("schedules", "r", field) for field in ("rotation", "layers", "ical", "overrides", "x")),
        *(
            ("schedules", "r", "rotation", field)
            for field in ("zone", "start", "turn", "people", "hours", "until", "x")
        ),
        *(("schedules", "r", "rotation", "people", 0), ("schedules", "r", "overrides", 0), ("schedules", "c", "ical")),
        *(("schedules", "r", "overrides", 0, field) for field in ("from", "to", "person", "x")),
    ],
)
def test_each_value_in_each_place(path: tuple[Any, ...]) -> None:
    """Reader and schema agree about each of these values in each place of a file."""
    for value in JUNK:
        mapping: Any = {
            "policies": {"p": {"levels": [{"after": "5m"}], "repeat": {"times": 1}}},
            "hours": {"h": {"zone": "UTC", "windows": [{"from": "09:00", "to": "17:00"}], "closed": ["2026-12-25"]}},
            "assign": [{"policy": "p"}],
            "schedules": {
                "r": {
                    "rotation": {"zone": "UTC", "start": "2026-01-05T09:00", "turn": "7d", "people": ["ann"]},
                    "overrides": [{"from": "2026-01-05T09:00", "to": "2026-01-06T09:00Z", "person": "ann"}],
                },
                "c": {"ical": "rota.ics"},
            },
            "people": {"ann": "slack:@ann"},
        }
        container = mapping
        for key in path[:-1]:
            container = container[key]
        container[path[-1]] = copy.deepcopy(value)
        assert_agreement(mapping)
