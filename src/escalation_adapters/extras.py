"""The extras: the packages that each part of the adapters needs beyond the core's own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from escalation_core import EscalationError

EXTRAS: Mapping[str, Sequence[str]] = {
    "postgres": ("psycopg", "psycopg_pool"),
    "http": ("aiohttp",),
    "redis": ("limits",),
    "blocking": ("anyio",),
    "alembic": ("alembic", "sqlalchemy"),
    "django": ("django",),
    "yaml": ("yaml",),
    "ical": ("icalendar", "recurring_ical_events", "aiohttp"),
    "cli": ("click", "rich", "yaml"),
}
"""The packages that are imported, by the extra that installs them."""


class MissingExtra(EscalationError, ModuleNotFoundError):
    """A part of the library needs packages that are not installed; the message has the command that installs them.

    ``name`` is the first missing package, as in every ``ModuleNotFoundError``.
    """

    def __init__(self, part: str, extra: str, missing: Sequence[str]) -> None:
        packages = " and ".join(missing)
        super().__init__(f"{part} needs {packages}: pip install 'escalation-core[{extra}]'", name=missing[0])
        self.part = part
        self.extra = extra


def require(part: str, extra: str) -> None:
    """Check that the packages of an extra are installed. The check does not import them.

    Raises:
        MissingExtra: a package is not installed.
    """
    missing = [name for name in EXTRAS[extra] if not _installed(name)]
    if missing:
        raise MissingExtra(part, extra, missing)


@contextmanager
def needs(part: str, extra: str) -> Iterator[None]:
    """Check for the packages of an extra, and then run the imports of the ``with`` block.

    It catches nothing: a package that is installed and broken raises its own error.

    Raises:
        MissingExtra: a package is not installed.
    """
    require(part, extra)
    yield


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # the module is loaded, and was made without a spec
        return True
