-- transaction: none
-- An index of the escalations whose levels named no one, which health counts, built without blocking writers.

CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_events_default ON {schema}.escalation_events (created_at)
    WHERE outcome = 'default';
