-- What the engine keeps beside the incidents: rows that the database refuses to write, what was left alone when the
-- table was attached, and whether hosts have triggers here.

-- Until then no claim finds the row, which could not even be given a later next_due_at, for as long as it is the version of
-- the row that was refused.
ALTER TABLE {schema}.escalation_unreadable
    ADD COLUMN IF NOT EXISTS passed_until timestamptz,
    ADD COLUMN IF NOT EXISTS passed_version text;
CREATE INDEX IF NOT EXISTS escalation_unreadable_passed ON {schema}.escalation_unreadable (passed_until)
    WHERE passed_until IS NOT NULL;

ALTER TABLE {schema}.escalation_recalc
    ADD COLUMN IF NOT EXISTS due_only boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS ahead timestamptz,
    ADD COLUMN IF NOT EXISTS skipped boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS held_before timestamptz;
-- An installation that is older than this column may hold open rows that were left alone when it was attached.
UPDATE {schema}.escalation_recalc
SET held_before = (SELECT max(m.applied_at) FROM {schema}.escalation_migrations m WHERE m.version <= 4)
WHERE finished_at IS NULL;

INSERT INTO {schema}.escalation_meta (name, value)
VALUES ('triggers', to_jsonb(to_regprocedure('{schema}.escalation_host_update()') IS NOT NULL))
ON CONFLICT (name) DO NOTHING;
