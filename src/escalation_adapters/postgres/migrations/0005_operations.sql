-- What operators set at run time, and the ids of their signed requests, so that none is taken twice by any worker.

-- A pause, or with lifts_schedule a scheduled one that was ended early: then the schedule does not count meanwhile.
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

-- Knocks at the operators' endpoints. Unlogged: a crash empties it, which does no more than start the counts anew.
CREATE UNLOGGED TABLE IF NOT EXISTS {schema}.escalation_rate_limits (
    key text PRIMARY KEY,
    hits timestamptz[] NOT NULL,
    allowed boolean NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS escalation_rate_limits_expires ON {schema}.escalation_rate_limits (expires_at);

-- Whoever may work with the tables that were there before may work with these as well: a worker's role of its own.
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
