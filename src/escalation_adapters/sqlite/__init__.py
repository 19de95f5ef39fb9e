"""The engine on an SQLite file: the embedded default, from the standard library alone."""

from .store import SQLiteStore

__all__ = ["SQLiteStore"]
