-- Operators' pauses, and the ids of their signed requests.

CREATE TABLE escalation_pauses (
    id INTEGER PRIMARY KEY,
    starts_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL CHECK (ends_at >= starts_at),
    actor TEXT,
    reason TEXT,
    lifts_schedule INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX escalation_pauses_ends ON escalation_pauses (ends_at);

CREATE TABLE escalation_requests (message_id TEXT PRIMARY KEY NOT NULL, expires_at INTEGER NOT NULL);
CREATE INDEX escalation_requests_expires ON escalation_requests (expires_at);
