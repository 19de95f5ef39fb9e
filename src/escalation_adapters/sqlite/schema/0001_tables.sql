-- The engine's tables in an SQLite file. Instants are microseconds since 1970 in UTC, spans are microseconds.

CREATE TABLE incidents (
    incident_key TEXT PRIMARY KEY NOT NULL,
    severity TEXT,
    first_seen INTEGER,
    escalation_level INTEGER DEFAULT 0,
    episode INTEGER DEFAULT 1,
    last_escalated_at INTEGER,
    acknowledged_at INTEGER,
    acknowledged_by TEXT,
    resolved_at INTEGER,
    snoozed_until INTEGER,
    next_due_at INTEGER,
    summary TEXT,
    labels TEXT,
    canary_bucket INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX escalation_due ON incidents (next_due_at) WHERE next_due_at IS NOT NULL;
CREATE INDEX escalation_canary ON incidents (canary_bucket, next_due_at) WHERE next_due_at IS NOT NULL;

CREATE TABLE escalation_events (
    id INTEGER PRIMARY KEY,
    incident_key TEXT NOT NULL,
    level INTEGER NOT NULL,
    unique_hash TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    episode INTEGER NOT NULL DEFAULT 1,
    UNIQUE (incident_key, episode, level)
);
CREATE INDEX escalation_events_created ON escalation_events (created_at);

CREATE TABLE escalation_pages (
    id INTEGER PRIMARY KEY,
    incident_key TEXT NOT NULL,
    episode INTEGER NOT NULL,
    level INTEGER NOT NULL,
    target TEXT NOT NULL,
    dedup_key TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'leased', 'cancelling', 'delivered', 'cancelled', 'dead')),
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    tried_for INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    UNIQUE (incident_key, episode, level, target)
);
CREATE INDEX escalation_pages_due ON escalation_pages (target, due_at)
    WHERE state IN ('pending', 'leased', 'cancelling');
CREATE INDEX escalation_pages_dead ON escalation_pages (id) WHERE state = 'dead';
CREATE INDEX escalation_pages_settled ON escalation_pages (due_at) WHERE state IN ('delivered', 'cancelled', 'dead');

CREATE TABLE escalation_targets (target TEXT PRIMARY KEY NOT NULL, held_until INTEGER NOT NULL);

CREATE TABLE escalation_unreadable (
    incident_key TEXT PRIMARY KEY NOT NULL,
    attempts INTEGER NOT NULL,
    fault TEXT NOT NULL,
    seen_at INTEGER NOT NULL
);

CREATE TABLE escalation_audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    incident_key TEXT,
    episode INTEGER,
    level INTEGER,
    actor TEXT,
    reason TEXT,
    target TEXT
);
CREATE INDEX escalation_audit_at ON escalation_audit (at);
CREATE INDEX escalation_audit_key ON escalation_audit (incident_key);
CREATE UNIQUE INDEX escalation_audit_exhausted ON escalation_audit (incident_key, episode, level)
    WHERE action = 'exhausted';

CREATE TABLE escalation_workers (worker TEXT PRIMARY KEY NOT NULL, ticked_at INTEGER NOT NULL, version TEXT NOT NULL);

CREATE TABLE escalation_recalc (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    requested_at INTEGER,
    cursor TEXT,
    visited INTEGER NOT NULL DEFAULT 0,
    finished_at INTEGER,
    fingerprint TEXT
);
INSERT INTO escalation_recalc (one) VALUES (1);

CREATE TABLE escalation_meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL);
