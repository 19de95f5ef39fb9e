"""Test helpers for hosts that embed the engine, and for authors of stores and notifiers.

This package imports no test framework.
"""

from .clock import Clock, ManualClock
from .host import HostTable
from .memory import MemoryStore
from .notifier import RecordingNotifier

__all__ = ["Clock", "HostTable", "ManualClock", "MemoryStore", "RecordingNotifier"]
