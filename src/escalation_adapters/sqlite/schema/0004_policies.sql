-- The walks of incidents through policies of a file: the columns of the incidents and of their escalations, the versions of
-- the policies that pins name, which policies file each worker runs, and an index of the notes that health counts.

ALTER TABLE incidents ADD COLUMN policy TEXT;
ALTER TABLE incidents ADD COLUMN policy_pin TEXT;
ALTER TABLE incidents ADD COLUMN policy_level INTEGER;
ALTER TABLE incidents ADD COLUMN policy_since INTEGER;

ALTER TABLE escalation_events ADD COLUMN policy TEXT;
ALTER TABLE escalation_events ADD COLUMN position INTEGER;

CREATE TABLE escalation_policies (digest TEXT PRIMARY KEY NOT NULL, text TEXT NOT NULL, kept_at INTEGER NOT NULL);
ALTER TABLE escalation_workers ADD COLUMN policies TEXT;

CREATE INDEX escalation_audit_walks ON escalation_audit (action, at)
    WHERE action IN ('ack_expired', 'rebind', 'lost_version', 'unknown_policy', 'put_off');

ALTER TABLE escalation_recalc ADD COLUMN reload_requested_at INTEGER;
