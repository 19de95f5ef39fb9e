-- Columns for rows that the database refuses to write, for steps of the clock and for rows that were left alone when the
-- table was attached; and whether this installation has triggers.

-- The database refused even a later next_due_at for this row. Until passed_until no claim finds the row, as long as its
-- version is passed_version.
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
-- An installation from before this column may contain open rows that were left alone when it was attached.
UPDATE {schema}.escalation_recalc
SET held_before = (SELECT max(m.applied_at) FROM {schema}.escalation_migrations m WHERE m.version <= 4)
WHERE finished_at IS NULL;

INSERT INTO {schema}.escalation_meta (name, value)
VALUES ('triggers', to_jsonb(to_regprocedure('{schema}.escalation_host_update()') IS NOT NULL))
ON CONFLICT (name) DO NOTHING;
