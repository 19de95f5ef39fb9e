"""The database of the alias that ``ESCALATION`` names: whether a store can use it, and its URL for the library."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import load_backend

from escalation_core import EscalationError
from escalation_core.errors import Problem

_NAMES = {"mysql": "MySQL", "oracle": "Oracle"}
NO_PSYCOPG = (
    "is reached through psycopg2, and the engine needs psycopg 3",
    "run: pip install 'escalation-core[django,postgres]'; Django then uses psycopg 3 by itself",
)


class NotSupported(EscalationError):
    """The engine has no store for this database, or cannot use it; the message has the reason and the remedy."""

    def __init__(self, alias: str, problem: Problem) -> None:
        super().__init__(f"the database {alias!r}: {problem}")


def vendor(alias: str) -> str:
    """Return the kind of a database as Django names it: ``postgresql``, ``sqlite``, ``mysql``, ``oracle``, ..."""
    engine = connections.settings[alias].get("ENGINE", "")
    try:
        found: str = load_backend(engine).DatabaseWrapper.vendor
    except (ImproperlyConfigured, ImportError):  # the driver is not installed
        return "postgresql" if "postg" in engine else engine.rpartition(".")[2]
    return found


def find_problem(alias: str) -> Problem | None:
    """Return why the engine cannot use the database of this alias, None if it can."""
    kind = vendor(alias)
    if kind == "postgresql":
        return None if _has_psycopg() else Problem(*NO_PSYCOPG)
    if kind == "sqlite":
        return _sqlite_problem(alias)
    return Problem(
        f"is {_NAMES.get(kind, kind)}, and the engine has stores for PostgreSQL and SQLite alone: its tables need"
        " partial indexes, for example, and an attach needs DDL within a transaction",
        "use PostgreSQL, or add an alias with an SQLite file to DATABASES and name it in ESCALATION['database']",
    )


def check_supported(alias: str) -> None:
    """Raise NotSupported if the engine cannot use the database of this alias."""
    problem = find_problem(alias)
    if problem is not None:
        raise NotSupported(alias, problem)


def _has_psycopg() -> bool:
    try:
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        from .. import postgres  # noqa: F401 - whether it can be imported is the question
    except (ImportError, ImproperlyConfigured):
        return False
    return is_psycopg3


def _sqlite_problem(alias: str) -> Problem | None:
    remedy = "add an alias with an SQLite file to DATABASES and name it in ESCALATION['database']"
    others = [name for name in connections.settings if name != alias]
    own = path(alias)
    if alias == "default" or (own and own in [path(name) for name in others if vendor(name) == "sqlite"]):
        return Problem("is an SQLite file with tables of Django's, and the engine keeps a file of its own", remedy)
    if in_memory(alias):
        return Problem("is an SQLite database in memory, which workers cannot share", remedy)
    return None


def in_memory(alias: str) -> bool:
    """Return whether the alias is an SQLite database in memory, as in Django's tests."""
    return vendor(alias) == "sqlite" and path(alias) is None


def path(alias: str) -> Path | None:
    """Return the file of an SQLite alias, None if it is in memory."""
    name = os.fspath(connections.settings[alias].get("NAME") or ":memory:")
    return None if name == ":memory:" or name.startswith("file:") else Path(name).absolute()


def url(alias: str) -> str:
    """Return the URL for ``open_store``. It holds the password, if there is one.

    Raises:
        NotSupported: the engine cannot use this database.
    """
    check_supported(alias)
    if vendor(alias) == "sqlite":
        return f"sqlite:///{path(alias)}"
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    given = connections[alias].get_connection_params()
    parts = {name: str(value) for name, value in given.items() if name in known and value is not None}
    parts |= dict(_role(given, connections[alias].settings_dict))
    return f"postgresql:///{quote(parts.pop('dbname', ''), safe='')}?{urlencode(parts, quote_via=quote)}"


def _role(given: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the option that sets the role which Django assumes after it has connected."""
    role = settings["OPTIONS"].get("assume_role")
    if role:
        escaped = str(role).replace("\\", "\\\\").replace(" ", "\\ ")
        yield "options", f"{given.get('options') or ''} -c role={escaped}".strip()


def pooled(alias: str) -> bool:
    """Return whether the project says that a transaction pooler is in between: then Django keeps no cursor open."""
    return bool(connections[alias].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))
