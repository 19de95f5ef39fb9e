"""Replay: drive the real engine with a log of host events, whose times are the clock.

Rules: ``docs/reference/rules.md``, "Replay". At one instant, host events come before escalations. Each escalation
happens at the exact instant at which it is due. The replay ends at the instant of the last event.
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
