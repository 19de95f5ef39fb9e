-- transaction: none
-- Indexes, built without blocking writers. The first two contain only rows with next_due_at. The third one lets the database
-- itself refuse a second escalation of the same key, episode and level.

CREATE INDEX CONCURRENTLY IF NOT EXISTS {ix_due} ON {incidents} ({next_due_at}) WHERE {next_due_at} IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS {ix_canary} ON {incidents} (({bucket}), {next_due_at})
    WHERE {next_due_at} IS NOT NULL;
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS escalation_events_level
    ON {schema}.escalation_events (incident_key, episode, level);
CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_events_created ON {schema}.escalation_events (created_at);
