"""All lists of the supported versions are the same."""

import re

import pytest

from ..architecture.source import ROOT
from ..matrix import postgresql, pythons

PAGE = (ROOT / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("software", "versions"), [("Python (CPython)", pythons.VERSIONS), ("PostgreSQL", tuple(postgresql.VERSIONS))]
)
def test_the_page_lists_the_versions_that_are_tested(software: str, versions: tuple[str, ...]) -> None:
    """The page of supported versions lists the versions of the session ``matrix``."""
    [row] = re.findall(rf"^\| {re.escape(software)} \| ([^|]*) \|", PAGE, re.MULTILINE)
    assert versions == tuple(row.split(", "))


def test_the_package_names_the_same_pythons() -> None:
    """The classifiers of the package name the Pythons of the session ``matrix``."""
    assert pythons.VERSIONS == tuple(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT))


def test_the_workflow_runs_every_version() -> None:
    """The workflow runs each Python, and each PostgreSQL except the newest, which its containers have."""
    [postgres] = re.findall(r"postgres: \[(.*)\]", WORKFLOW)
    assert [*re.findall(r"\d+", postgres), postgresql.NEWEST] == list(postgresql.VERSIONS)
    lists = {tuple(re.findall(r"3\.\d+", line)) for line in re.findall(r"python: \[(.*)\]", WORKFLOW)}
    assert pythons.VERSIONS in lists
