"""The note beside the models: the functions, statements and invariants that it names exist."""

import functools
import importlib
import re

import pytest

from .source import ROOT, SRC

MODEL = ROOT / "tests" / "model"
NOTE = (MODEL / "README.md").read_text(encoding="utf-8")
PROMELA = "".join(path.read_text(encoding="utf-8") for path in sorted(MODEL.glob("*.pml")))
STATEMENTS = (SRC / "escalation_adapters" / "postgres" / "queries.sql").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(?P<step>\w+)` \| (?P<functions>`escalation_[^|]*) \| (?P<statements>[^|]*)\|$", re.MULTILINE)
STEPS = {row["step"]: row for row in ROW.finditer(NOTE)}
HELPERS = {"judge", "judge_record", "roll_back", "look", "settle", "land", "receive", "fault", "end_episode"} | {
    "leave",
    "go_outside",
    "rest",
    "get_message",
    "get_half",
}
"""Parts of steps, and the checks of the invariants."""


def named(text: str) -> list[str]:
    """Return the parts of a text that are written as code."""
    return re.findall("`([^`]+)`", text)


def test_every_step_is_in_the_note() -> None:
    """The note lists each step of the models, and no other step."""
    assert set(re.findall(r"^inline (\w+)\(", PROMELA, re.MULTILINE)) - HELPERS == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_functions_exist(step: str) -> None:
    """Each function that a step stands for exists under the name in the note."""
    functions = named(STEPS[step]["functions"])
    assert functions
    for function in functions:
        package_name, _, rest = function.partition(".")
        package, *names = rest.split(".")
        parts = [package_name, package]
        while names and (SRC.joinpath(*parts) / f"{names[0]}.py").exists():
            parts.append(names.pop(0))
        assert callable(functools.reduce(getattr, names, importlib.import_module(".".join(parts)))), function


@pytest.mark.parametrize("step", STEPS)
def test_statements_exist(step: str) -> None:
    """Each statement that a step stands for exists."""
    known = re.findall(r"^-- name: (\w+)$", STATEMENTS, re.MULTILINE)
    assert [] == [statement for statement in named(STEPS[step]["statements"]) if statement not in known]


def test_every_invariant_is_in_the_note() -> None:
    """The note lists each invariant that the models assert, and no other invariant."""
    told = set(re.findall(r"^\| (I[0-9]) \|", NOTE, re.MULTILINE))
    assert set(re.findall(r"assert\((I[0-9]) \|\|", PROMELA)) == told
