-- transaction: none
-- An index of the notes about walks, which health counts, built without blocking writers.

CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_audit_walks ON {schema}.escalation_audit (action, at)
    WHERE action IN ('ack_expired', 'rebind', 'lost_version', 'unknown_policy', 'put_off');
