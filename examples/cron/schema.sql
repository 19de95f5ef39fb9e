CREATE TABLE runs (
    job text NOT NULL,
    started_at timestamptz NOT NULL,
    message text, -- what went wrong, NULL for a job that succeeded
    PRIMARY KEY (job, started_at)
);

CREATE TABLE incidents (
    job text PRIMARY KEY,
    severity text NOT NULL,
    message text,
    since timestamptz NOT NULL DEFAULT now(),
    acknowledged_at timestamptz,
    acknowledged_by text,
    resolved_at timestamptz
);
