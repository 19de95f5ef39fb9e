"""Test helpers for hosts that embed the engine, and for authors of stores, notifiers and sources of schedules.

This package imports no test framework.
"""

from .clock import Clock, ManualClock
from .host import HostTable
from .memory import MemoryStore
from .notifier import BundlingNotifier, RecordingNotifier, TellingNotifier

__all__ = [
    "BundlingNotifier",
    "Clock",
    "HostTable",
    "ManualClock",
    "MemoryStore",
    "RecordingNotifier",
    "TellingNotifier",
]
