"""The tests of stores and databases on each supported version of PostgreSQL and Python: ``nox -s matrix``."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


class NotFound(Exception):
    """A version of PostgreSQL or Python is not on this machine and cannot be installed."""
