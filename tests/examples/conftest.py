"""The examples' tests: a database of their own, a receiver of pages, and programs that run as a reader runs them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import escalation_core

from .hosting import Programs, Receiver, catalogue, receiving, url

FROM_WHEEL = "ESCALATION_FROM_WHEEL"
"""Set by the session that tests a built wheel."""


def pytest_sessionstart() -> None:
    """Refuse to test the source where the wheel is to be tested."""
    where = Path(str(escalation_core.__file__))
    if os.environ.get(FROM_WHEEL) == "1" and "site-packages" not in where.parts:
        raise pytest.UsageError(f"{FROM_WHEEL} is set, and escalation_core comes from {where.parent}")


@pytest.fixture
def database(pg_dsn: str) -> str:
    """The URL of an empty database of this test's own, on a real PostgreSQL."""
    return url(pg_dsn)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that records the pages that are posted to its ``url``."""
    with receiving() as made:
        yield made


@pytest.fixture
def run(tmp_path: Path) -> Programs:
    """Run programs: ``run.of("cron", DATABASE_URL=...)("tick.py")``; ``with run.beside(...)`` for one that goes on."""
    return Programs(tmp_path)


@pytest.fixture(name="catalogue")
def catalogue_of() -> Callable[[str], frozenset[str]]:
    """Return the objects of the database of a DSN, to compare."""
    return catalogue
