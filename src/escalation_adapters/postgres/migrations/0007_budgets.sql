-- The rates of targets: when all slots of a budget are free again, and what the receiver has refused. A target may have a row
-- without a throttle. No row is rewritten.

ALTER TABLE {schema}.escalation_targets ALTER COLUMN held_until DROP NOT NULL;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS free_at timestamptz;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS rate float8;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS refused boolean NOT NULL DEFAULT false;
