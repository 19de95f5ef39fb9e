-- What happened to paged incidents, and the notices that tell it. A tick makes notices of changes.

CREATE TABLE escalation_changes (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('acknowledged', 'resolved', 'ack_expired')),
    incident_key TEXT NOT NULL,
    episode INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT,
    first_seen INTEGER
);
CREATE INDEX escalation_changes_key ON escalation_changes (incident_key);

-- due_at depends on the state, as in escalation_pages.
CREATE TABLE escalation_notices (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('acknowledged', 'resolved', 'ack_expired')),
    incident_key TEXT NOT NULL,
    episode INTEGER NOT NULL,
    level INTEGER NOT NULL,
    target TEXT NOT NULL,
    dedup_key TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT,
    first_seen INTEGER,
    state TEXT NOT NULL CHECK (state IN ('pending', 'leased', 'delivered', 'dead', 'expired')),
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    bundle TEXT,
    -- Whether the target gets it only if it has threads; the worker that serves the target knows.
    for_threads INTEGER NOT NULL DEFAULT 0,
    UNIQUE (dedup_key, target)
);
CREATE INDEX escalation_notices_due ON escalation_notices (target, due_at) WHERE state IN ('pending', 'leased');
CREATE INDEX escalation_notices_key ON escalation_notices (incident_key);
CREATE INDEX escalation_notices_settled ON escalation_notices (due_at) WHERE state IN ('delivered', 'dead', 'expired');
-- A target learns once that an episode is resolved, however many changes there are.
CREATE UNIQUE INDEX escalation_notices_resolved ON escalation_notices (incident_key, episode, target)
    WHERE kind = 'resolved' AND state IN ('pending', 'leased', 'delivered');
