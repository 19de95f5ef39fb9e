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

-- A detach that drops the engine's tables leaves this one, if it was there before.
INSERT INTO {schema}.escalation_meta (name, value)
SELECT 'keep escalation_events', 'true' WHERE to_regclass({schema_name} || '.escalation_events') IS NOT NULL
ON CONFLICT (name) DO NOTHING;

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
    seen_at timestamptz NOT NULL,
    -- The database refused even a later next_due_at for this row. Until passed_until no claim finds the row, as long as its
    -- version is passed_version.
    passed_until timestamptz,
    passed_version text
);
CREATE INDEX escalation_unreadable_passed ON {schema}.escalation_unreadable (passed_until) WHERE passed_until IS NOT NULL;

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
    fingerprint text,
    -- For steps of the clock.
    due_only boolean NOT NULL DEFAULT false,
    ahead timestamptz,
    skipped boolean NOT NULL DEFAULT false,
    -- Open rows first seen before it were left alone when the table was attached.
    held_before timestamptz
);
INSERT INTO {schema}.escalation_recalc DEFAULT VALUES;

-- A pause. With lifts_schedule the row ends a scheduled pause early: the schedule does not count until ends_at.
CREATE TABLE {schema}.escalation_pauses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at >= starts_at),
    actor text,
    reason text,
    lifts_schedule boolean NOT NULL DEFAULT false
);
CREATE INDEX escalation_pauses_ends ON {schema}.escalation_pauses (ends_at);

CREATE TABLE {schema}.escalation_requests (
    message_id text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX escalation_requests_expires ON {schema}.escalation_requests (expires_at);

-- Counts of requests to the operators' endpoints. Unlogged: a crash empties the table, and the counts start again.
CREATE UNLOGGED TABLE {schema}.escalation_rate_limits (
    key text PRIMARY KEY,
    hits timestamptz[] NOT NULL,
    allowed boolean NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX escalation_rate_limits_expires ON {schema}.escalation_rate_limits (expires_at);

-- Values of columns that a detach dropped from the host's table, so that a later attach restores them.
CREATE TABLE {schema}.escalation_detached (
    incident_key text PRIMARY KEY,
    kept jsonb NOT NULL
);

-- Autovacuum settings. By default autovacuum waits until a fifth of a table is dead. With millions of pages, claims would read
-- over many settled pages long before that.

-- Each page is written three times: when it is recorded, leased and settled.
ALTER TABLE {schema}.escalation_pages SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 5000
);

-- These rows are written once, and read by index.
ALTER TABLE {schema}.escalation_events SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE {schema}.escalation_audit SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);

-- Record the highest id of the escalations that another program recorded here before the engine's first page. They have no
-- pages, so `escalation prove` must distinguish them from escalations that lost their pages.
INSERT INTO {schema}.escalation_meta (name, value)
SELECT 'adopted', to_jsonb(coalesce(max(e.id), 0)) FROM {schema}.escalation_events e
WHERE e.created_at < coalesce((SELECT min(p.created_at) FROM {schema}.escalation_pages p), 'infinity')
ON CONFLICT (name) DO NOTHING;
