"""The note beside the model is true: what it says that the steps stand for is there."""

import functools
import importlib
import re

import pytest

from .source import ROOT, SRC

MODEL = ROOT / "tests" / "model"
NOTE = (MODEL / "README.md").read_text(encoding="utf-8")
PROMELA = (MODEL / "page.pml").read_text(encoding="utf-8")
STATEMENTS = (SRC / "escalation_adapters" / "postgres" / "queries.sql").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(?P<step>\w+)` \| (?P<functions>`escalation_[^|]*) \| (?P<statements>[^|]*)\|$", re.MULTILINE)
STEPS = {row["step"]: row for row in ROW.finditer(NOTE)}
HELPERS = {"judge", "judge_record", "roll_back", "look", "settle", "land", "receive", "fault", "end_episode"}
"""Parts of steps, and what judges them."""


def named(text: str) -> list[str]:
    """Return what is written as code."""
    return re.findall("`([^`]+)`", text)


def test_every_step_is_in_the_note() -> None:
    """The note tells of each step of the model, and of no other one."""
    assert set(re.findall(r"^inline (\w+)\(", PROMELA, re.MULTILINE)) - HELPERS == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_functions_exist(step: str) -> None:
    """Each function that a step stands for is there, under the name that the note gives."""
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
    """Each statement that a step stands for is there."""
    known = re.findall(r"^-- name: (\w+)$", STATEMENTS, re.MULTILINE)
    assert [] == [statement for statement in named(STEPS[step]["statements"]) if statement not in known]


def test_every_invariant_is_in_the_note() -> None:
    """The note tells of each invariant that the model judges by, and of no other one."""
    told = set(re.findall(r"^\| (I[0-9]) \|", NOTE, re.MULTILINE))
    assert set(re.findall(r"assert\((I[0-9]) \|\|", PROMELA)) == told
