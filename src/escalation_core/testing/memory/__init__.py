"""MemoryStore, the reference implementation of a store."""

from .store import MemoryStore

__all__ = ["MemoryStore"]
