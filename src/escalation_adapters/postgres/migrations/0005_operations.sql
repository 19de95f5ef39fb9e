-- Operators' pauses, and the ids of their signed requests, so that no worker accepts a request twice.

-- A pause. With lifts_schedule the row ends a scheduled pause early: the schedule does not count until ends_at.
CREATE TABLE IF NOT EXISTS {schema}.escalation_pauses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at >= starts_at),
    actor text,
    reason text,
    lifts_schedule boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS escalation_pauses_ends ON {schema}.escalation_pauses (ends_at);

CREATE TABLE IF NOT EXISTS {schema}.escalation_requests (
    message_id text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS escalation_requests_expires ON {schema}.escalation_requests (expires_at);

-- Counts of requests to the operators' endpoints. Unlogged: a crash empties the table, and the counts start again.
CREATE UNLOGGED TABLE IF NOT EXISTS {schema}.escalation_rate_limits (
    key text PRIMARY KEY,
    hits timestamptz[] NOT NULL,
    allowed boolean NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS escalation_rate_limits_expires ON {schema}.escalation_rate_limits (expires_at);

-- Each role with rights on escalation_audit gets the same rights on the new tables: a worker may have its own role.
DO $body$
DECLARE
    entry record;
BEGIN
    FOR entry IN
        SELECT given.grantee, given.privilege_type
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) AS given
        WHERE c.oid = '{schema}.escalation_audit'::regclass AND given.grantee <> c.relowner
    LOOP
        EXECUTE 'GRANT ' || entry.privilege_type
            || ' ON {schema}.escalation_pauses, {schema}.escalation_requests, {schema}.escalation_rate_limits TO '
            || CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE entry.grantee::regrole::text END;
    END LOOP;
END
$body$;
