"""The page of the policies file says what the reader does."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from escalation_adapters.calendars import child, expand, fetch, ical
from escalation_adapters.policies_file import load_policies
from escalation_adapters.policies_file.load import MAX_BYTES
from escalation_core import BuiltinPolicy, Policies, PoliciesError
from escalation_core.rules.assignment import Assignment
from escalation_core.rules.builtin_file import file_of
from escalation_core.rules.hours import Hours, Window
from escalation_core.rules.layer import Layer
from escalation_core.rules.policies_converter import field_names
from escalation_core.rules.policies_file import MAX_DEPTH, MAX_VALUES
from escalation_core.rules.policy import Level, Policy, Repeat
from escalation_core.rules.schedules_file import WrittenOverride, WrittenSchedule

from .pages import DOCS, Block, all_blocks, blocks, code, table

PAGE = DOCS / "reference/policies.md"
FILES = [block for block in all_blocks("yaml", "toml") if "policies" in block.text and "levels" in block.text]


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.name)
def test_example_is_valid(block: Block, tmp_path: Path) -> None:
    """Each policies file in the documentation is valid."""
    path = tmp_path / f"policies.{block.language}"
    path.write_text(block.text, encoding="utf-8")

    load_policies(path)


def test_first_example_says_what_the_page_says(tmp_path: Path) -> None:
    """The first example escalates at the times that the page gives in words."""
    path = tmp_path / "policies.yaml"
    path.write_text(blocks(PAGE, "yaml")[0].text, encoding="utf-8")
    policies = load_policies(path).policies

    assert [0, 10, 25, 55, 65, 80] == minutes(policies["ops"])
    assert [10, 20, 30, 40, 50, 60] == minutes(policies["default"])


def minutes(policy: Policy) -> list[int]:
    """Return the minutes after which each escalation comes."""
    return [span // timedelta(minutes=1) for span in policy.rhythm(timedelta(minutes=1))]


def test_the_file_of_the_defaults_is_printed() -> None:
    """The page has the file of the default settings."""
    [text] = [block.text for block in blocks(PAGE, "yaml") if "critical:\n" in block.text]

    assert file_of(BuiltinPolicy()) == yaml.safe_load(text)


def test_fields_are_all_there() -> None:
    """The tables have each field of the file, in the code's order, and name those that are required."""
    rows = table(PAGE, first="field")
    fields = [code(row[0])[0] for row in rows]
    required = {code(row[0])[0] for row in rows if row[1] == "required"}

    kinds = (Policy, Level, Repeat, Hours, Assignment, WrittenSchedule)
    expected = [name for kind in kinds for name in field_names(kind)]
    assert ["policies", "hours", "assign", "schedules", "people", *expected] == fields
    assert {"policies", "levels", "after", "zone", "windows", "policy"} == required
    for kind, what in ((Window, "a window"), (Layer, "a layer"), (WrittenOverride, "an override")):
        assert list(field_names(kind)) == [code(row[0])[0] for row in table(PAGE, first=f"field of {what}")]


BEYOND = {
    "0m": "-1m",
    "1m": "59s",
    "1h": "3599s",
    "365d": "31536001s",
    "0": "-1",
    "99": "100",
    "00:00": "-0:01",
    "23:59:59": "24:00",
    "24:00": "24:01",
}
"""The next value beyond each end of a range."""


def read(section: str, field: str, value: object) -> Policies:
    """Read a file with a value in a field of a section of the page."""
    level: dict[str, Any] = {"after": "5m"}
    window: dict[str, Any] = {"from": "09:00", "to": "17:00"}
    repeat: dict[str, Any] = {}
    policy: dict[str, Any] = {"levels": [level], "repeat": repeat}
    layer: dict[str, Any] = {"zone": "UTC", "start": "2026-01-05T09:00", "turn": "7d", "people": ["ann"]}
    sections = {"A policy": policy, "A level": level, "Further rounds": repeat, "Hours": window, "Schedules": layer}
    sections[section][field] = value
    hours = {"h": {"zone": "UTC", "windows": [window]}}
    return Policies.from_mapping({"policies": {"p": policy}, "hours": hours, "schedules": {"s": {"rotation": layer}}})


def test_limits_are_the_readers() -> None:
    """Both ends of each range in the tables are valid, and what lies beyond each end is refused."""
    checked = 0
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        title = section.partition("\n")[0]
        for field, *ends in re.findall(r"^\| `(\w+)` \|[^|]*\| `?([\w:]+)`? to `?([\w:]+)`? \|", section, re.MULTILINE):
            for end in ends:
                read(title, field, end)
                with pytest.raises(PoliciesError):
                    read(title, field, BEYOND[end])
                checked += 1
    assert 16 == checked


def test_numbers_in_the_text() -> None:
    """The page names the limits of the whole file."""
    text = PAGE.read_text(encoding="utf-8")

    assert f"at most {MAX_BYTES // 1024} KiB long" in text
    assert f"{MAX_VALUES:,} values, and {MAX_DEPTH} levels of nesting" in " ".join(text.split())


def test_the_limits_of_calendars_are_the_codes() -> None:
    """The page about calendars has the limits that the code has."""
    page = (DOCS / "how-to" / "on-call-from-a-calendar.md").read_text(encoding="utf-8")
    said = (
        f"from {ical.BEFORE.days} days ago to {ical.AHEAD.days} days ahead",
        f"| size | {fetch.MAX_BYTES // 1024**2} MiB, uncompressed |",
        f"| time | {fetch.MAX_SECONDS:g} seconds for the server, {child.MAX_SECONDS:g} seconds to read the calendar",
        f"and {ical.MAX_SECONDS:g} seconds for all calendars of one",
        f"| memory | {child.MAX_MEMORY_BYTES // 1024**2} MiB, in a process of its own |",
        f"| occurrences | {expand.MAX_OCCURRENCES:,} within the window |",
        f"| redirects | {fetch.MAX_REDIRECTS}, all of them to https |",
    )
    assert [] == [one for one in said if one not in page]
