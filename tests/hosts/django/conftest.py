"""The process that starts Django's programs."""

import os
from collections.abc import Iterator

import pytest

from .project import Project, environment
from .starter import starting


@pytest.fixture(scope="session", autouse=True)
def _starter() -> Iterator[None]:
    """Let projects run their programs in forks, where the system has them."""
    if not hasattr(os, "fork"):
        yield
        return
    with starting(environment()) as Project.starter:
        yield
    Project.starter = None
