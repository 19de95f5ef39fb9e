-- transaction: none
-- Open rows without an instant: exhausted ones, those that were left alone when the table was attached, and those that
-- were written while the triggers were off, which nobody would ever page about. In this order workers look at them.

CREATE INDEX CONCURRENTLY IF NOT EXISTS {ix_unseen} ON {incidents} ({incident_key})
    WHERE {next_due_at} IS NULL AND {acknowledged_at} IS NULL AND {resolved_at} IS NULL;
