-- Levels whose schedules name no one, and who was on call when a page was recorded. New columns rewrite no row.

ALTER TABLE {schema}.escalation_events ADD COLUMN IF NOT EXISTS outcome text;
ALTER TABLE {schema}.escalation_pages ADD COLUMN IF NOT EXISTS via text;
ALTER TABLE {schema}.escalation_pages ADD COLUMN IF NOT EXISTS schedule_digest text;

-- Who is on call instead of whom a schedule names, until an instant.
CREATE TABLE {schema}.escalation_overrides (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule text NOT NULL,
    person text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    made_at timestamptz NOT NULL,
    actor text,
    reason text,
    -- The engine must be able to read each row: neither infinity nor a year that Python does not know.
    CHECK (starts_at > '0001-01-02 00:00+00' AND ends_at > starts_at AND ends_at < '9999-12-31 00:00+00'),
    CHECK (made_at > '0001-01-02 00:00+00' AND made_at < '9999-12-31 00:00+00')
);
CREATE INDEX escalation_overrides_ends ON {schema}.escalation_overrides (ends_at);
