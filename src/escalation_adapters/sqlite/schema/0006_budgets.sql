-- The rates of targets: when all slots of a budget are free again, and what the receiver has refused. A target may have a row
-- without a throttle.

CREATE TABLE escalation_paces (
    target TEXT PRIMARY KEY NOT NULL,
    held_until INTEGER,
    free_at INTEGER,
    rate REAL,
    refused INTEGER NOT NULL DEFAULT 0
);
INSERT INTO escalation_paces (target, held_until) SELECT target, held_until FROM escalation_targets;
DROP TABLE escalation_targets;
ALTER TABLE escalation_paces RENAME TO escalation_targets;
