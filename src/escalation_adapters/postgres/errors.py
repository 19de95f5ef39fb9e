"""Foreign errors are translated at the door: what the core sees of a database's troubles is temporary or permanent."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from escalation_core import StoreNotReady, StoreRefused, StoreUnavailable
from escalation_core.checks import visible
from escalation_core.errors import shortened

from .table import IncidentsTable

AGAIN = ("40001", "40P01")
"""Serialization failure and deadlock: the whole transaction may succeed when it is run again."""
_STANDBY = "25006"
_SERVERS = ("53", "57P", "58")
"""Resources, shutdowns, the system's errors."""
_RAISE = "exec_stmt_raise"
"""Where PostgreSQL's source raises what a PL/pgSQL function raises itself."""
# Connection, resources, conflicts, lock timeout, read-only standby, a session's own time limits, an operator's or a
# timeout's interruption, the system's errors. Who runs the engine must outlive every one of these.
_TEMPORARY = ("08", "53", "40", "55P03", "25006", "25P03", "25P04", "57", "58")
_CALLERS = (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError)
_NOT_MIGRATED = ("42P01", "42703", "3F000", "42883")
MIGRATE = "run: escalation migrate up"
BYPASS = (
    "rows that a policy hides would page nobody: give the role BYPASSRLS (ALTER ROLE name BYPASSRLS), or make it the"
    " table's owner without FORCE ROW LEVEL SECURITY"
)
IN_TRIGGER = (
    "a trigger of the host reads that table: let its function SET row_security = on, or give the role BYPASSRLS"
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of psycopg and of its pool into the store's own. No message holds a DSN."""
    try:
        yield
    except (PoolTimeout, TooManyRequests, PoolClosed) as error:
        raise StoreUnavailable(f"PostgreSQL gave no connection: {_line(error)}") from None
    except psycopg.Error as error:
        raise translate(error) from None


def translate(error: psycopg.Error) -> StoreUnavailable | StoreNotReady | StoreRefused:
    """Return the store's error for one of psycopg's."""
    state = error.sqlstate or ""
    if is_hidden(error):
        return StoreNotReady(f"{_line(error)}; {IN_TRIGGER if by_host(error) else BYPASS}")
    if state.startswith(_NOT_MIGRATED):
        return StoreNotReady(f"the database is not migrated ({_line(error)}); {MIGRATE}")
    # Errors without a state are the connection's: refused, reset, closed, and an error in the middle of a reply, which
    # makes two results of one (an InternalError). Only what a statement or its values are is the caller's.
    if state.startswith(_TEMPORARY) or (not state and not isinstance(error, _CALLERS)):
        unavailable = StoreUnavailable(f"PostgreSQL is not available: {_line(error)}")
        unavailable.by_host = by_host(error)
        return unavailable
    return refusal(error)


def by_host(error: psycopg.Error) -> bool:
    """Tell whether a function raised it: at run time the engine's statements call only those of the host's triggers."""
    return "PL/" in (error.diag.context or "")


def is_hidden(error: psycopg.Error) -> bool:
    """Tell whether a row security policy would have left out rows."""
    return error.sqlstate == "42501" and error.diag.source_function == "check_enable_rls"


def is_refused(error: psycopg.Error, *, of_host: bool) -> bool:
    """Tell whether a statement is to blame, and not the server, a standby or a hidden row.

    ``of_host`` tells whether it wrote the host's table: a trigger of the host may raise anything there, whatever it is
    called. On the engine's own tables an error means what it says.
    """
    state = error.sqlstate or ""
    if is_hidden(error) or state == _STANDBY:
        return False
    if state.startswith(_SERVERS) and error.diag.source_function != _RAISE:
        # A trigger that met it, and did not raise it itself, met what everybody meets.
        return False
    return (of_host and by_host(error)) or isinstance(translate(error), StoreRefused)


def refusal(error: psycopg.Error) -> StoreRefused:
    """Return the error of a statement that the database does not take, whatever it calls the reason."""
    return StoreRefused(f"PostgreSQL refuses: {_line(error)}")


def check_visible(hidden: bool, table: IncidentsTable) -> None:
    """Raise ``StoreNotReady`` if a row security policy hides incidents from the role that asks."""
    if hidden:
        raise StoreNotReady(f"row level security of {table.schema}.{table.name} applies to this role; {BYPASS}")


def _line(error: Exception) -> str:
    """Return the first line of a message, shortened: the rest quotes statements and values, and a trigger anything."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    line = (primary or str(error)).strip().partition("\n")[0]
    return shortened(visible(line)) or type(error).__name__
