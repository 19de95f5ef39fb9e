-- The walks of incidents through policies of a file. `migrate up` also adds the columns of a walk to the host's table.

ALTER TABLE {schema}.escalation_events ADD COLUMN IF NOT EXISTS policy text;
ALTER TABLE {schema}.escalation_events ADD COLUMN IF NOT EXISTS position int;

-- The texts of the versions that pins name. The digest has no unique key: a worker that pins an incident would wait for the
-- transaction of another one that keeps the same text, which may be a host's, and long. Then the text is there twice.
CREATE TABLE {schema}.escalation_policies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest text NOT NULL,
    text text NOT NULL,
    kept_at timestamptz NOT NULL
);
CREATE INDEX escalation_policies_digest ON {schema}.escalation_policies (digest);

-- The digest of the policies file that a worker runs; empty without a file.
ALTER TABLE {schema}.escalation_workers ADD COLUMN policies text;

-- When an operator last asked the workers to read their policies file again.
ALTER TABLE {schema}.escalation_recalc ADD COLUMN reload_requested_at timestamptz;
