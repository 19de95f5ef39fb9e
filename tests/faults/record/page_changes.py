"""A log that triggers write beside the engine's tables: each change of a page, when escalations and notes were written.

Each entry is committed in the transaction of its change, so the log is complete after any crash.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from escalation_core.testing.invariants.history import FinalPage, PageChange, RecordedEscalation, RecordedNote
from escalation_core.testing.invariants.notice_records import FinalNotice, NoticeClaim

CHANGE_LOG = """
CREATE SCHEMA IF NOT EXISTS faults;
CREATE TABLE faults.steps (
    id bigserial, page bigint, was text, state text, due_was timestamptz, due timestamptz, fence_was int, fence int,
    reason text, bundle text, began timestamptz DEFAULT now(), at timestamptz DEFAULT clock_timestamp(),
    worker text DEFAULT current_setting('application_name')
);
CREATE TABLE faults.written (
    event bigint, began timestamptz DEFAULT now(), at timestamptz DEFAULT clock_timestamp()
);
CREATE TABLE faults.noted (note bigint, at timestamptz DEFAULT clock_timestamp());
-- The hosts' writes by SQL, each added in the transaction of the write.
CREATE TABLE faults.done (op text PRIMARY KEY);
-- The writes about which a host asked whether they were committed.
CREATE TABLE faults.asked (op text);
CREATE FUNCTION faults.step() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO faults.steps (page, was, state, due_was, due, fence_was, fence, reason, bundle)
    VALUES (NEW.id, OLD.state, NEW.state, OLD.due_at, NEW.due_at, OLD.fence, NEW.fence, NEW.reason, NEW.bundle);
    RETURN NULL;
END
$body$;
CREATE TABLE faults.notice_claims (
    notice bigint, bundle text, at timestamptz DEFAULT clock_timestamp(),
    worker text DEFAULT current_setting('application_name')
);
CREATE FUNCTION faults.notice_claimed() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO faults.notice_claims (notice, bundle) VALUES (NEW.id, NEW.bundle);
    RETURN NULL;
END
$body$;
CREATE TRIGGER faults_notice_claimed AFTER UPDATE ON escalation_notices FOR EACH ROW
    WHEN (NEW.state = 'leased' AND NEW.fence > OLD.fence) EXECUTE FUNCTION faults.notice_claimed();
CREATE FUNCTION faults.written() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO faults.written (event) VALUES (NEW.id);
    RETURN NULL;
END
$body$;
CREATE FUNCTION faults.noted() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO faults.noted (note) VALUES (NEW.id);
    RETURN NULL;
END
$body$;
CREATE TRIGGER faults_noted AFTER INSERT ON escalation_audit FOR EACH ROW
    WHEN (NEW.action IN ('ack_expired', 'restart', 'exhausted', 'unheard')) EXECUTE FUNCTION faults.noted();
CREATE TRIGGER faults_step AFTER UPDATE ON escalation_pages FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.fence <> NEW.fence) EXECUTE FUNCTION faults.step();
CREATE TRIGGER faults_written AFTER INSERT ON escalation_events FOR EACH ROW EXECUTE FUNCTION faults.written();
"""


def install(dsn: str) -> None:
    """Create the log in a migrated database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(CHANGE_LOG)


def escalations(connection: "psycopg.Connection[Any]") -> Sequence[RecordedEscalation]:
    """Return the recorded escalations."""
    rows = connection.execute(
        """
        SELECT incident_key, episode, level, extract(epoch FROM created_at)::float8,
            extract(epoch FROM coalesce(w.at, created_at))::float8, unique_hash, policy, position,
            outcome, extract(epoch FROM w.began)::float8
        FROM escalation_events e LEFT JOIN faults.written w ON w.event = e.id ORDER BY e.id
        """
    )
    names = ("key", "episode", "level", "created_at", "at", "unique_hash", "policy", "position", "outcome", "began")
    return [RecordedEscalation(**dict(zip(names, row, strict=True))) for row in rows]


def notes(connection: "psycopg.Connection[Any]") -> Sequence[RecordedNote]:
    """Return what the engine noted about acknowledgements, walks, and incidents that are unheard."""
    rows = connection.execute(
        """
        SELECT a.incident_key, a.episode, a.level, a.action, extract(epoch FROM a.at)::float8,
            extract(epoch FROM n.at)::float8
        FROM escalation_audit a JOIN faults.noted n ON n.note = a.id ORDER BY a.id
        """
    )
    names = ("key", "episode", "level", "action", "at", "written")
    return [RecordedNote(**dict(zip(names, row, strict=True))) for row in rows]


def kept(connection: "psycopg.Connection[Any]") -> Mapping[str, float]:
    """Return when the database began to keep each version of a policy."""
    rows = connection.execute(
        "SELECT digest, extract(epoch FROM min(kept_at))::float8 FROM escalation_policies GROUP BY 1"
    )
    return dict(rows.fetchall())


def pages(connection: "psycopg.Connection[Any]") -> Sequence[FinalPage]:
    """Return the pages in their present state."""
    rows = connection.execute(
        """
        SELECT id, incident_key, episode, level, target, dedup_key, state, reason, via, schedule_digest,
            extract(epoch FROM created_at)::float8, bundle
        FROM escalation_pages ORDER BY id
        """
    )
    names = (
        "id", "key", "episode", "level", "target", "dedup_key", "state", "reason", "via", "schedule_digest",
        "created_at", "bundle",
    )  # fmt: skip
    return [FinalPage(**dict(zip(names, row, strict=True))) for row in rows]


def notices(connection: "psycopg.Connection[Any]") -> Sequence[FinalNotice]:
    """Return the notices in their present state."""
    rows = connection.execute(
        """
        SELECT id, kind, incident_key, episode, level, target, dedup_key, state,
            (extract(epoch FROM at) * 1000000)::bigint, extract(epoch FROM created_at)::float8
        FROM escalation_notices ORDER BY id
        """
    )
    names = "id", "kind", "key", "episode", "level", "target", "dedup_key", "state", "at_micros", "created_at"
    return [FinalNotice(**dict(zip(names, row, strict=True))) for row in rows]


def notice_claims(connection: "psycopg.Connection[Any]") -> Sequence[NoticeClaim]:
    """Return each claim of a notice."""
    rows = connection.execute("SELECT notice, extract(epoch FROM at)::float8, worker FROM faults.notice_claims")
    return [NoticeClaim(notice=notice, at=at, worker=worker) for notice, at, worker in rows]


def notice_keys(connection: "psycopg.Connection[Any]") -> frozenset[str]:
    """Return the keys of all messages with notices. A claim after a failure may give a notice another bundle."""
    rows = connection.execute(
        "SELECT dedup_key FROM escalation_notices"
        " UNION SELECT bundle FROM faults.notice_claims WHERE bundle IS NOT NULL"
    )
    return frozenset(key for (key,) in rows)


def changes(connection: "psycopg.Connection[Any]") -> Sequence[PageChange]:
    """Return each change of a page's state."""
    rows = connection.execute(
        """
        SELECT page, was, state, extract(epoch FROM due_was)::float8, extract(epoch FROM due)::float8, fence_was, fence,
            extract(epoch FROM began)::float8, extract(epoch FROM at)::float8, worker, reason, bundle
        FROM faults.steps ORDER BY id
        """
    )
    names = (
        "page",
        "was",
        "state",
        "due_was",
        "due",
        "fence_was",
        "fence",
        "began",
        "at",
        "worker",
        "reason",
        "bundle",
    )
    return [PageChange(**dict(zip(names, row, strict=True))) for row in rows]


def written_text(connection: "psycopg.Connection[Any]") -> str:
    """Return all texts that the engine wrote into the database, one per line."""
    rows = connection.execute(
        """
        SELECT concat_ws(' ', action, actor, reason, target) FROM escalation_audit
        UNION ALL SELECT concat_ws(' ', target, reason) FROM escalation_pages
        UNION ALL SELECT fault FROM escalation_unreadable
        UNION ALL SELECT worker FROM escalation_workers
        """
    )
    return "\n".join(row[0] for row in rows)
