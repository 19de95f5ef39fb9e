-- The engine's own tables, beside the host's incidents. escalation_events may be there already: the row-at-a-time worker that
-- this library replaces wrote it (ADR 0039).

CREATE TABLE IF NOT EXISTS {schema}.escalation_migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Facts about this installation, for example the table that it is attached to and the names of its columns.
CREATE TABLE IF NOT EXISTS {schema}.escalation_meta (
    name text PRIMARY KEY,
    value jsonb NOT NULL
);

CREATE TABLE IF NOT EXISTS {schema}.escalation_events (
    id bigserial PRIMARY KEY,
    incident_key text NOT NULL,
    level int NOT NULL,
    unique_hash text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    episode int NOT NULL DEFAULT 1
);
ALTER TABLE {schema}.escalation_events ADD COLUMN IF NOT EXISTS episode int NOT NULL DEFAULT 1;

-- The outbox. due_at depends on the state: a pending page may be sent then, a leased page's lease ends then, and a settled
-- page was settled then.
CREATE TABLE {schema}.escalation_pages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_key text NOT NULL,
    episode int NOT NULL,
    level int NOT NULL,
    target text NOT NULL,
    dedup_key text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'leased', 'cancelling', 'delivered', 'cancelled', 'dead')),
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    fence int NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    tried_for interval NOT NULL DEFAULT '0',
    reason text,
    UNIQUE (incident_key, episode, level, target)
);
CREATE INDEX escalation_pages_due ON {schema}.escalation_pages (target, due_at)
    WHERE state IN ('pending', 'leased', 'cancelling');
CREATE INDEX escalation_pages_dead ON {schema}.escalation_pages (id) WHERE state = 'dead';
CREATE INDEX escalation_pages_settled ON {schema}.escalation_pages (due_at)
    WHERE state IN ('delivered', 'cancelled', 'dead');

-- Targets that asked for fewer pages.
CREATE TABLE {schema}.escalation_targets (
    target text PRIMARY KEY,
    held_until timestamptz NOT NULL
);

-- Incidents whose rows could not be read or planned, and were deferred.
CREATE TABLE {schema}.escalation_unreadable (
    incident_key text PRIMARY KEY,
    attempts int NOT NULL,
    fault text NOT NULL,
    seen_at timestamptz NOT NULL
);

-- The audit: what people and engines did, except escalations and settled pages, which have their own tables.
CREATE TABLE {schema}.escalation_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    action text NOT NULL,
    incident_key text,
    episode int,
    level int,
    actor text,
    reason text,
    target text
);
CREATE INDEX escalation_audit_at ON {schema}.escalation_audit (at);
CREATE INDEX escalation_audit_key ON {schema}.escalation_audit (incident_key);
CREATE UNIQUE INDEX escalation_audit_exhausted ON {schema}.escalation_audit (incident_key, episode, level)
    WHERE action = 'exhausted';

CREATE TABLE {schema}.escalation_workers (
    worker text PRIMARY KEY,
    ticked_at timestamptz NOT NULL,
    version text NOT NULL
);

CREATE TABLE {schema}.escalation_recalc (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    requested_at timestamptz,
    cursor text,
    visited bigint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    fingerprint text
);
INSERT INTO {schema}.escalation_recalc DEFAULT VALUES;
