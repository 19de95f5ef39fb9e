-- transaction: none
-- Indexes of the ledger, built without blocking writers: the table may be there already, with many rows. The first one lets the
-- database itself refuse a second escalation of the same key, episode and level.

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS escalation_events_level
    ON {schema}.escalation_events (incident_key, episode, level);
CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_events_created ON {schema}.escalation_events (created_at);
