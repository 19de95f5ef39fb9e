"""The store on an SQLite file: the embedded default. It needs only the standard library."""

from .store import SQLiteStore

__all__ = ["SQLiteStore"]
