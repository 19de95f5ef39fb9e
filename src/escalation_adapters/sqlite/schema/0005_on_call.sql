-- Levels whose schedules name no one, and who was on call when a page was recorded.

ALTER TABLE escalation_events ADD COLUMN outcome TEXT;
ALTER TABLE escalation_pages ADD COLUMN via TEXT;
ALTER TABLE escalation_pages ADD COLUMN schedule_digest TEXT;
CREATE INDEX escalation_events_default ON escalation_events (created_at) WHERE outcome = 'default';

CREATE TABLE escalation_overrides (
    id INTEGER PRIMARY KEY,
    schedule TEXT NOT NULL,
    person TEXT NOT NULL,
    starts_at INTEGER NOT NULL CHECK (typeof(starts_at) = 'integer' AND starts_at > -62000000000000000),
    ends_at INTEGER NOT NULL CHECK (typeof(ends_at) = 'integer' AND ends_at < 253000000000000000),
    made_at INTEGER NOT NULL CHECK (typeof(made_at) = 'integer' AND abs(made_at) < 62000000000000000),
    actor TEXT,
    reason TEXT,
    CHECK (ends_at > starts_at)
);
CREATE INDEX escalation_overrides_ends ON escalation_overrides (ends_at);
