-- Columns for rows that the file refuses to write, and are passed over until passed_until, and for what a recalculation leaves
-- alone. An index of open rows without next_due_at, in which workers search for rows that no engine has planned.

ALTER TABLE escalation_unreadable ADD COLUMN passed_until INTEGER;
CREATE INDEX escalation_unreadable_passed ON escalation_unreadable (passed_until) WHERE passed_until IS NOT NULL;

ALTER TABLE escalation_recalc ADD COLUMN due_only INTEGER NOT NULL DEFAULT 0;
ALTER TABLE escalation_recalc ADD COLUMN ahead INTEGER;
ALTER TABLE escalation_recalc ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE escalation_recalc ADD COLUMN held_before INTEGER;

CREATE INDEX escalation_unseen ON incidents (incident_key)
    WHERE next_due_at IS NULL AND acknowledged_at IS NULL AND resolved_at IS NULL;
