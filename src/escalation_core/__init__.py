"""Escalate incidents that are not acknowledged in time: raise their level and page the next responder.

This package makes decisions and does no I/O. Code that uses a database, a network or a clock is in
``escalation_adapters``.
"""

from .engine.engine import Engine
from .engine.health import Health
from .engine.on_call import OnCallNow
from .engine.open_incidents import OpenIncident, OpenIncidents
from .engine.operators import Resumed
from .engine.page_test import send_test_page
from .engine.prune import Pruned
from .engine.report import DeliveryReport, TickReport
from .engine.views import IncidentHistory
from .errors import (
    EscalationError,
    InvalidValue,
    PoliciesError,
    SchedulesError,
    SettingsError,
    StoreError,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
    TransitionRefused,
)
from .model import (
    Abilities,
    AuditEntry,
    Budget,
    Bundle,
    Delivered,
    Escalation,
    Incident,
    Integrity,
    Notice,
    NoticeBundle,
    NoticeKind,
    Outcome,
    Page,
    Pause,
    Rejected,
    Retry,
    ShiftOverride,
    State,
    canary_bucket,
    idempotency_key,
    in_canary,
)
from .ports import (
    CalendarReader,
    Heartbeat,
    Notifier,
    Router,
    Schedule,
    ScheduleSource,
    SendsBundles,
    Store,
    TellsNoticeBundles,
    TellsNotices,
)
from .rules.builtin import BuiltinPolicy
from .rules.coverage import Cover, Handover, coverage, gaps, handovers
from .rules.hours import Hours, Window
from .rules.layer import Layer
from .rules.maintenance import PauseSchedule
from .rules.next_pages import NextPages
from .rules.page_test import PageTest, Verdict
from .rules.plan import Escalate, Reschedule, Skip, plan
from .rules.policies import Policies
from .rules.retry import RetryPolicy
from .rules.rotation import Override, Rotation
from .rules.routing import Conditions, Route, SettingsRouter
from .rules.shifts import Shift, Shifts
from .rules.upcoming import HeldBy, Upcoming
from .settings import Settings
from .version import VERSION as __version__

__all__ = [
    "Abilities",
    "Notice",
    "NoticeBundle",
    "NoticeKind",
    "TellsNoticeBundles",
    "TellsNotices",
    "AuditEntry",
    "Conditions",
    "Cover",
    "Delivered",
    "DeliveryReport",
    "Engine",
    "Escalate",
    "Escalation",
    "EscalationError",
    "Budget",
    "Bundle",
    "BuiltinPolicy",
    "CalendarReader",
    "Handover",
    "Health",
    "Heartbeat",
    "HeldBy",
    "Hours",
    "Incident",
    "IncidentHistory",
    "InvalidValue",
    "Layer",
    "NextPages",
    "Notifier",
    "OnCallNow",
    "OpenIncident",
    "OpenIncidents",
    "Outcome",
    "Override",
    "Page",
    "PageTest",
    "Pause",
    "PauseSchedule",
    "Policies",
    "PoliciesError",
    "Integrity",
    "Pruned",
    "Rejected",
    "Reschedule",
    "Resumed",
    "Retry",
    "RetryPolicy",
    "Rotation",
    "Route",
    "Router",
    "Schedule",
    "ScheduleSource",
    "SchedulesError",
    "SendsBundles",
    "Settings",
    "SettingsError",
    "SettingsRouter",
    "Shift",
    "ShiftOverride",
    "Shifts",
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
    "Verdict",
    "Window",
    "__version__",
    "canary_bucket",
    "coverage",
    "gaps",
    "handovers",
    "idempotency_key",
    "in_canary",
    "plan",
    "send_test_page",
]
