"""The store on PostgreSQL 14 or newer, and the migrations that prepare a schema for it."""

from ..extras import needs

with needs(__name__, "postgres"):
    from . import migrate
    from .existing import ExistingIncidents
    from .host_table import CannotAttach
    from .mapping import StatusMapping
    from .store import PostgresStore

__all__ = ["CannotAttach", "ExistingIncidents", "PostgresStore", "StatusMapping", "migrate"]
