-- transaction: none
-- Index open rows without next_due_at: exhausted rows, rows that were left alone when the table was attached, and rows that were
-- written while the triggers were off. No claim finds the last kind, so workers search this index for them, by key.

CREATE INDEX CONCURRENTLY IF NOT EXISTS {ix_unseen} ON {incidents} ({incident_key})
    WHERE {next_due_at} IS NULL AND {acknowledged_at} IS NULL AND {resolved_at} IS NULL;
