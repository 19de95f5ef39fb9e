-- What delivery in a storm needs: the rates of targets (when all slots of a budget are free again, and what the receiver has
-- refused), when the last attempts to a target ended, the priority of a page, when its fallback gets it, its bundle, and two more
-- states. No row is rewritten or checked: the next migration validates the check of states.

ALTER TABLE {schema}.escalation_targets ALTER COLUMN held_until DROP NOT NULL;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS free_at timestamptz;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS rate float8;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS refused boolean NOT NULL DEFAULT false;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS last_delivered_at timestamptz;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS last_failed_at timestamptz;
ALTER TABLE {schema}.escalation_targets ADD COLUMN IF NOT EXISTS last_error text;

ALTER TABLE {schema}.escalation_pages ADD COLUMN IF NOT EXISTS priority smallint NOT NULL DEFAULT 5;
ALTER TABLE {schema}.escalation_pages ADD COLUMN IF NOT EXISTS hand_over_at timestamptz;
ALTER TABLE {schema}.escalation_pages ADD COLUMN IF NOT EXISTS bundle text;
ALTER TABLE {schema}.escalation_pages DROP CONSTRAINT IF EXISTS escalation_pages_state_check;
ALTER TABLE {schema}.escalation_pages ADD CONSTRAINT escalation_pages_state_check CHECK (state IN (
    'pending', 'leased', 'cancelling', 'delivered', 'cancelled', 'superseded', 'handed_over', 'dead')) NOT VALID;
