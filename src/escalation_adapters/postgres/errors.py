"""Translate errors of psycopg and its pool into the core's: unavailable, not ready, or refused."""

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
RETYPED = ("42804", "42704", "42883", "22P02")
"""A value is of another type than its column, a type, an operator or an enum's word is gone: the host may have changed
the type of a column since the mapping was read."""
_STANDBY = "25006"
_SERVERS = ("53", "57P", "58")
"""Classes of the server's own errors: resources, shutdowns, system errors."""
_RAISE = "exec_stmt_raise"
"""The function in PostgreSQL's source that raises the error of a RAISE in PL/pgSQL."""
# Connection errors, resources, conflicts, lock timeouts, a read-only standby, time limits of a session, interruption by
# an operator or a timeout, system errors. A worker must survive each of them.
_TEMPORARY = ("08", "53", "40", "55P03", "25006", "25P03", "25P04", "57", "58")
_CALLERS = (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError)
_NOT_MIGRATED = ("42P01", "42703", "3F000", "42883")
MIGRATE = "run: escalation migrate up"
STATUS = "run: escalation migrate status"
BYPASS = (
    "the engine would not page about rows that a policy hides: give the role BYPASSRLS (ALTER ROLE name BYPASSRLS), or"
    " make it the table's owner without FORCE ROW LEVEL SECURITY"
)
IN_TRIGGER = (
    "a trigger of the host reads that table: let its function SET row_security = on, or give the role BYPASSRLS"
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of psycopg and of its pool as the core's errors. No message holds a DSN."""
    try:
        yield
    except (PoolTimeout, TooManyRequests, PoolClosed) as error:
        raise StoreUnavailable(f"PostgreSQL gave no connection: {_line(error)}") from None
    except psycopg.Error as error:
        raise translate(error) from None


def translate(error: psycopg.Error) -> StoreUnavailable | StoreNotReady | StoreRefused:
    """Return the core's error for an error of psycopg."""
    state = error.sqlstate or ""
    if is_hidden(error):
        return StoreNotReady(f"{_line(error)}; {IN_TRIGGER if by_host(error) else BYPASS}")
    if state.startswith(_NOT_MIGRATED):
        return StoreNotReady(f"the database is not as this version and its mapping need it ({_line(error)}); {STATUS}")
    # An error without an SQLSTATE comes from the connection: it was refused, reset or closed, or it broke in the middle
    # of a reply, which gives two results for one statement (InternalError). Only a faulty statement or value is the
    # caller's error.
    if state.startswith(_TEMPORARY) or (not state and not isinstance(error, _CALLERS)):
        unavailable = StoreUnavailable(f"PostgreSQL is not available: {_line(error)}")
        unavailable.by_host = by_host(error)
        return unavailable
    return refusal(error)


def by_host(error: psycopg.Error) -> bool:
    """Return True if a PL function raised the error: the engine's statements reach such functions by triggers only."""
    return "PL/" in (error.diag.context or "")


def is_hidden(error: psycopg.Error) -> bool:
    """Return True if the statement failed because a row security policy would hide rows."""
    return error.sqlstate == "42501" and error.diag.source_function == "check_enable_rls"


def is_refused(error: psycopg.Error, *, of_host: bool) -> bool:
    """Return True if the statement caused the error, and not the server, a standby or a row security policy.

    ``of_host`` is True if the statement wrote the host's table. A host's trigger may raise any SQLSTATE there, so its
    error counts as a refusal. On the engine's own tables the SQLSTATE decides.
    """
    state = error.sqlstate or ""
    if is_hidden(error) or state == _STANDBY:
        return False
    if state.startswith(_SERVERS) and error.diag.source_function != _RAISE:
        # No trigger raised this error itself: it is a fault of the server, which any statement would meet.
        return False
    return (of_host and by_host(error)) or isinstance(translate(error), StoreRefused)


def refusal(error: psycopg.Error) -> StoreRefused:
    """Return ``StoreRefused`` for a statement that the database refuses, whatever the SQLSTATE."""
    return StoreRefused(f"PostgreSQL refuses: {_line(error)}")


def check_visible(hidden: bool, table: IncidentsTable) -> None:
    """Raise ``StoreNotReady`` if ``hidden``: a row security policy of this table applies to the connection's role."""
    if hidden:
        raise StoreNotReady(f"row level security of {table.schema}.{table.name} applies to this role; {BYPASS}")


def _line(error: Exception) -> str:
    """Return the first line of a message, shortened. Other lines quote statements and values, or text of a trigger."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    line = (primary or str(error)).strip().partition("\n")[0]
    return shortened(visible(line)) or type(error).__name__
