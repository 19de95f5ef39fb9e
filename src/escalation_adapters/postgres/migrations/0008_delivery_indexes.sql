-- transaction: none
-- The indexes of claims by priority, of pages to be handed over, of bundles, of settled pages with the new states, and of the notes about
-- unheard incidents, built without blocking writers. They take the place of two older ones. The check of states is validated last,
-- also without blocking writers: SQLAlchemy, and so Alembic's autogenerate, cannot reflect a check that is NOT VALID.

CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_pages_worst ON {schema}.escalation_pages (target, priority, due_at)
    WHERE state IN ('pending', 'leased', 'cancelling');
CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_pages_hand_over ON {schema}.escalation_pages (target, hand_over_at)
    WHERE state = 'pending' AND hand_over_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_pages_ended ON {schema}.escalation_pages (due_at)
    WHERE state IN ('delivered', 'cancelled', 'superseded', 'handed_over', 'dead');
CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_pages_given_up ON {schema}.escalation_pages (due_at)
    WHERE state IN ('dead', 'handed_over');
CREATE INDEX CONCURRENTLY IF NOT EXISTS escalation_pages_bundle ON {schema}.escalation_pages (bundle text_pattern_ops)
    WHERE bundle IS NOT NULL;
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS escalation_audit_unheard
    ON {schema}.escalation_audit (incident_key, episode, level) WHERE action = 'unheard';
DROP INDEX CONCURRENTLY IF EXISTS {schema}.escalation_pages_due;
DROP INDEX CONCURRENTLY IF EXISTS {schema}.escalation_pages_settled;
ALTER TABLE {schema}.escalation_pages VALIDATE CONSTRAINT escalation_pages_state_check;
