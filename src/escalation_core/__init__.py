"""Raise the level of incidents that nobody acknowledges, and page the next responder.

This package decides and does no I/O: what touches a database, a network or a clock lives in ``escalation_adapters``.
"""

from .delivery import Delivered, Outcome, Page, Rejected, Retry, RetryPolicy
from .engine import Engine
from .errors import (
    EscalationError,
    InvalidValue,
    SettingsError,
    StoreError,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
    TransitionRefused,
)
from .health import Health
from .keeping import Pruned
from .keys import canary_bucket, idempotency_key, in_canary
from .model import AuditEntry, Escalation, Incident, State
from .operators import Resumed
from .pause import PauseSchedule
from .pausing import Pause
from .plan import Escalate, Reschedule, Skip, plan
from .policy import EscalationPolicy
from .ports import Heartbeat, Notifier, Router, Store
from .proof import Proof
from .report import DeliveryReport, TickReport
from .routes import Route, SettingsRouter
from .settings import Settings
from .upcoming import HeldBy, Upcoming
from .version import VERSION as __version__
from .views import IncidentHistory

__all__ = [
    "AuditEntry",
    "Delivered",
    "DeliveryReport",
    "Engine",
    "Escalate",
    "Escalation",
    "EscalationError",
    "EscalationPolicy",
    "Health",
    "Heartbeat",
    "HeldBy",
    "Incident",
    "IncidentHistory",
    "InvalidValue",
    "Notifier",
    "Outcome",
    "Page",
    "Pause",
    "PauseSchedule",
    "Proof",
    "Pruned",
    "Rejected",
    "Reschedule",
    "Resumed",
    "Retry",
    "RetryPolicy",
    "Route",
    "Router",
    "Settings",
    "SettingsError",
    "SettingsRouter",
    "Skip",
    "State",
    "Store",
    "StoreError",
    "StoreNotReady",
    "StoreRefused",
    "StoreUnavailable",
    "TickReport",
    "TransitionRefused",
    "Upcoming",
    "__version__",
    "canary_bucket",
    "idempotency_key",
    "in_canary",
    "plan",
]
