-- The incidents table: created here if the host has no such table, else extended by the missing columns. An added column
-- has no default or a constant one, so PostgreSQL rewrites no row and holds the lock only for a moment.

CREATE TABLE IF NOT EXISTS {incidents} (
    {incident_key} text PRIMARY KEY,
    {severity} text,
    {first_seen} timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE {incidents}
    ADD COLUMN IF NOT EXISTS {severity} text,
    ADD COLUMN IF NOT EXISTS {level} int NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS {episode} int NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS {last_escalated_at} timestamptz,
    ADD COLUMN IF NOT EXISTS {acknowledged_at} timestamptz,
    ADD COLUMN IF NOT EXISTS {acknowledged_by} text,
    ADD COLUMN IF NOT EXISTS {resolved_at} timestamptz,
    ADD COLUMN IF NOT EXISTS {snoozed_until} timestamptz,
    ADD COLUMN IF NOT EXISTS {next_due_at} timestamptz,
    ADD COLUMN IF NOT EXISTS {summary} text,
    ADD COLUMN IF NOT EXISTS {labels} jsonb;
