-- How the server looks after these tables. Its defaults wait until a fifth of a table is dead, which on a page table of
-- millions is long after claims have begun to walk over what was settled.

-- Each page is written three times: recorded, leased, settled.
ALTER TABLE {schema}.escalation_pages SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 5000
);

-- Written once, read by index.
ALTER TABLE {schema}.escalation_events SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE {schema}.escalation_audit SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);

-- The planner knows nothing yet of columns and indexes that have just been added to rows that were there before.
ANALYZE {incidents};
ANALYZE {schema}.escalation_events;
ANALYZE {schema}.escalation_pages;
