"""A trail beside the engine's tables: who changed which page when, and when each event was written. Triggers keep it.

It is committed with what it tells of, so that it can be trusted after any crash.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

from escalation_core.testing.invariants.history import FinalPage, PageChange, RecordedEscalation

TRAIL = """
CREATE SCHEMA IF NOT EXISTS faults;
CREATE TABLE faults.steps (
    id bigserial, page bigint, was text, state text, due_was timestamptz, due timestamptz, fence_was int, fence int,
    reason text, began timestamptz DEFAULT now(), at timestamptz DEFAULT clock_timestamp(),
    worker text DEFAULT current_setting('application_name')
);
CREATE TABLE faults.written (
    event bigint, began timestamptz DEFAULT now(), at timestamptz DEFAULT clock_timestamp()
);
-- What hosts did with SQL of their own, in the same transaction.
CREATE TABLE faults.done (op text PRIMARY KEY);
-- Those that they asked about.
CREATE TABLE faults.asked (op text);
CREATE FUNCTION faults.step() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO faults.steps (page, was, state, due_was, due, fence_was, fence, reason)
    VALUES (NEW.id, OLD.state, NEW.state, OLD.due_at, NEW.due_at, OLD.fence, NEW.fence, NEW.reason);
    RETURN NULL;
END
$body$;
CREATE FUNCTION faults.written() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO faults.written (event) VALUES (NEW.id);
    RETURN NULL;
END
$body$;
CREATE TRIGGER faults_step AFTER UPDATE ON escalation_pages FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.fence <> NEW.fence) EXECUTE FUNCTION faults.step();
CREATE TRIGGER faults_written AFTER INSERT ON escalation_events FOR EACH ROW EXECUTE FUNCTION faults.written();
"""


def lay(dsn: str) -> None:
    """Lay the trail in a migrated database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TRAIL)


def escalations(connection: "psycopg.Connection[Any]") -> Sequence[RecordedEscalation]:
    """Return what is recorded."""
    rows = connection.execute(
        """
        SELECT incident_key, episode, level, extract(epoch FROM created_at)::float8,
            extract(epoch FROM coalesce(w.at, created_at))::float8, unique_hash
        FROM escalation_events e LEFT JOIN faults.written w ON w.event = e.id ORDER BY e.id
        """
    )
    names = ("key", "episode", "level", "created_at", "at", "unique_hash")
    return [RecordedEscalation(**dict(zip(names, row, strict=True))) for row in rows]


def pages(connection: "psycopg.Connection[Any]") -> Sequence[FinalPage]:
    """Return the pages as they stand."""
    rows = connection.execute(
        "SELECT id, incident_key, episode, level, target, dedup_key, state, reason FROM escalation_pages ORDER BY id"
    )
    names = ("id", "key", "episode", "level", "target", "dedup_key", "state", "reason")
    return [FinalPage(**dict(zip(names, row, strict=True))) for row in rows]


def changes(connection: "psycopg.Connection[Any]") -> Sequence[PageChange]:
    """Return each change of a page's state."""
    rows = connection.execute(
        """
        SELECT page, was, state, extract(epoch FROM due_was)::float8, extract(epoch FROM due)::float8, fence_was, fence,
            extract(epoch FROM began)::float8, extract(epoch FROM at)::float8, worker, reason
        FROM faults.steps ORDER BY id
        """
    )
    names = ("page", "was", "state", "due_was", "due", "fence_was", "fence", "began", "at", "worker", "reason")
    return [PageChange(**dict(zip(names, row, strict=True))) for row in rows]


def written_text(connection: "psycopg.Connection[Any]") -> str:
    """Return every text that the engine wrote into the database."""
    rows = connection.execute(
        """
        SELECT concat_ws(' ', action, actor, reason, target) FROM escalation_audit
        UNION ALL SELECT concat_ws(' ', target, reason) FROM escalation_pages
        UNION ALL SELECT fault FROM escalation_unreadable
        UNION ALL SELECT worker FROM escalation_workers
        """
    )
    return "\n".join(row[0] for row in rows)
