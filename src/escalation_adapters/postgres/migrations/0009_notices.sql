-- What happened to paged incidents, and the notices that tell it. The engine's verbs and the trigger write changes, and a tick makes
-- notices of them.

CREATE TABLE {schema}.escalation_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('acknowledged', 'resolved', 'ack_expired')),
    incident_key text NOT NULL,
    episode int NOT NULL,
    at timestamptz NOT NULL,
    actor text,
    first_seen timestamptz
);
CREATE INDEX escalation_changes_key ON {schema}.escalation_changes (incident_key, id);
-- A queue: each row is soon deleted, and every look reads past those that are not vacuumed.
ALTER TABLE {schema}.escalation_changes SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- due_at depends on the state, as in escalation_pages.
CREATE TABLE {schema}.escalation_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('acknowledged', 'resolved', 'ack_expired')),
    incident_key text NOT NULL,
    episode int NOT NULL,
    level int NOT NULL,
    target text NOT NULL,
    dedup_key text NOT NULL,
    at timestamptz NOT NULL,
    actor text,
    first_seen timestamptz,
    state text NOT NULL CHECK (state IN ('pending', 'leased', 'delivered', 'dead', 'expired')),
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    fence int NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    reason text,
    bundle text,
    -- Whether the target gets it only if it has threads; the worker that serves the target knows.
    for_threads boolean NOT NULL DEFAULT false,
    UNIQUE (dedup_key, target)
);
CREATE INDEX escalation_notices_due ON {schema}.escalation_notices (target, due_at, id) WHERE state IN ('pending', 'leased');
CREATE INDEX escalation_notices_key ON {schema}.escalation_notices (incident_key, id);
CREATE INDEX escalation_notices_settled ON {schema}.escalation_notices (due_at) WHERE state IN ('delivered', 'dead', 'expired');
-- A target learns once that an episode is resolved, however many changes and workers there are.
CREATE UNIQUE INDEX escalation_notices_resolved ON {schema}.escalation_notices (incident_key, episode, target)
    WHERE kind = 'resolved' AND state IN ('pending', 'leased', 'delivered');

-- A worker may do here what it may do with pages, so that an update of the library needs no new rights.
DO $$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role, a.privilege_type AS right
        FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = '{schema}.escalation_pages'::regclass
    LOOP
        EXECUTE format(
            'GRANT %s ON {schema}.escalation_changes, {schema}.escalation_notices TO %s', held.right, held.role);
    END LOOP;
END $$;
