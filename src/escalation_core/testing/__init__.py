"""The kit for tests: of services that embed the engine, and of stores and notifiers that others write.

Nothing here imports a test framework.
"""

from .clock import Clock, ManualClock
from .host import HostTable
from .memory import MemoryStore
from .notifier import RecordingNotifier

__all__ = ["Clock", "HostTable", "ManualClock", "MemoryStore", "RecordingNotifier"]
