"""The nouns: records that the engine, the rules, stores and notifiers pass one another. No rule lives here."""

from .audit import AuditEntry, By, Position, Source, position_of
from .incident import LOOK_AGAIN, MOST_LABELS, MOST_LABELS_AT_ONCE, MOST_NAME, MOST_SUMMARY, Escalation, Incident, State
from .keys import canary_bucket, escalation_hash, idempotency_key, in_canary
from .page import MOST_REASON, Delivered, NewPage, Outcome, Page, PageRecord, PageState, Rejected, Retry
from .pause import Pause, Paused
from .store import Beat, Claimed, ClaimedPage, Outlook, Proof, PutBack, RecalcState, Recorded, Stats, Unseen, Walked

__all__ = [
    "LOOK_AGAIN",
    "MOST_LABELS",
    "MOST_LABELS_AT_ONCE",
    "MOST_NAME",
    "MOST_REASON",
    "MOST_SUMMARY",
    "AuditEntry",
    "Beat",
    "By",
    "Claimed",
    "ClaimedPage",
    "Delivered",
    "Escalation",
    "Incident",
    "NewPage",
    "Outcome",
    "Outlook",
    "Page",
    "PageRecord",
    "PageState",
    "Pause",
    "Paused",
    "Position",
    "Proof",
    "PutBack",
    "RecalcState",
    "Recorded",
    "Rejected",
    "Retry",
    "Source",
    "State",
    "Stats",
    "Unseen",
    "Walked",
    "canary_bucket",
    "escalation_hash",
    "idempotency_key",
    "in_canary",
    "position_of",
]
