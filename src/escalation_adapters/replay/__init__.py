"""Replay: drive the real engine with a log of host events, the log's times being the clock.

Rules: ``docs/reference/rules.md``, "Replay". At one instant host events come before escalations; escalations happen at
the exact instant at which they are due; after the last event nothing more is played.
"""

from .log import Event, Fault, UnreadableLog, read_events
from .play import KEEPABLE, Replay, replay, replay_settings, write_escalations

__all__ = [
    "KEEPABLE",
    "Event",
    "Fault",
    "Replay",
    "UnreadableLog",
    "read_events",
    "replay",
    "replay_settings",
    "write_escalations",
]
