"""The store on PostgreSQL 14 or newer, and the migrations that prepare a schema for it."""

from . import migrate
from .attach import CannotAttach, ExistingIncidents
from .store import PostgresStore

__all__ = ["CannotAttach", "ExistingIncidents", "PostgresStore", "migrate"]
