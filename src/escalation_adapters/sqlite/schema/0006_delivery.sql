-- What delivery in a storm needs: the rates of targets (when all slots of a budget are free again, and what the receiver has
-- refused), when the last attempts to a target ended, the priority of a page, when its fallback gets it, its bundle, and two more
-- states. The tables are made anew, because SQLite
-- alters no constraint.

CREATE TABLE escalation_targets_new (
    target TEXT PRIMARY KEY NOT NULL,
    held_until INTEGER,
    free_at INTEGER,
    rate REAL,
    refused INTEGER NOT NULL DEFAULT 0,
    last_delivered_at INTEGER,
    last_failed_at INTEGER,
    last_error TEXT
);
INSERT INTO escalation_targets_new (target, held_until) SELECT target, held_until FROM escalation_targets;
DROP TABLE escalation_targets;
ALTER TABLE escalation_targets_new RENAME TO escalation_targets;

CREATE TABLE escalation_pages_new (
    id INTEGER PRIMARY KEY,
    incident_key TEXT NOT NULL,
    episode INTEGER NOT NULL,
    level INTEGER NOT NULL,
    target TEXT NOT NULL,
    dedup_key TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN (
        'pending', 'leased', 'cancelling', 'delivered', 'cancelled', 'superseded', 'handed_over', 'dead')),
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    tried_for INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    via TEXT,
    schedule_digest TEXT,
    priority INTEGER NOT NULL DEFAULT 5,
    hand_over_at INTEGER,
    bundle TEXT,
    UNIQUE (incident_key, episode, level, target)
);
INSERT INTO escalation_pages_new (id, incident_key, episode, level, target, dedup_key, state, created_at, due_at, fence, attempts,
    tried_for, reason, via, schedule_digest)
SELECT id, incident_key, episode, level, target, dedup_key, state, created_at, due_at, fence, attempts, tried_for, reason, via,
    schedule_digest FROM escalation_pages;
DROP TABLE escalation_pages;
ALTER TABLE escalation_pages_new RENAME TO escalation_pages;

CREATE INDEX escalation_pages_worst ON escalation_pages (target, priority, due_at)
    WHERE state IN ('pending', 'leased', 'cancelling');
CREATE INDEX escalation_pages_hand_over ON escalation_pages (target, hand_over_at)
    WHERE state = 'pending' AND hand_over_at IS NOT NULL;
CREATE INDEX escalation_pages_given_up ON escalation_pages (due_at) WHERE state IN ('dead', 'handed_over');
CREATE INDEX escalation_pages_bundle ON escalation_pages (bundle) WHERE bundle IS NOT NULL;
CREATE INDEX escalation_pages_dead ON escalation_pages (id) WHERE state = 'dead';
CREATE INDEX escalation_pages_ended ON escalation_pages (due_at)
    WHERE state IN ('delivered', 'cancelled', 'superseded', 'handed_over', 'dead');
CREATE UNIQUE INDEX escalation_audit_unheard ON escalation_audit (incident_key, episode, level) WHERE action = 'unheard';
