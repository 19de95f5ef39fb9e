-- Autovacuum settings for these tables. By default autovacuum waits until a fifth of a table is dead. With millions of pages,
-- claims would read over many settled pages long before that.

-- Each page is written three times: when it is recorded, leased and settled.
ALTER TABLE {schema}.escalation_pages SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 5000
);

-- These rows are written once, and read by index.
ALTER TABLE {schema}.escalation_events SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE {schema}.escalation_audit SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);

-- The planner has no statistics yet for columns and indexes that were just added to existing rows.
ANALYZE {incidents};
ANALYZE {schema}.escalation_events;
ANALYZE {schema}.escalation_pages;
