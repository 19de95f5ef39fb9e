"""MemoryStore: the reference of what a store does."""

from .store import MemoryStore

__all__ = ["MemoryStore"]
