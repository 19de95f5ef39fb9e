"""The statements of the outbox."""

from .codec import SELECTED

PAGE = (
    "p.id, p.incident_key, p.episode, p.level, p.target, p.dedup_key, p.state, p.created_at, p.due_at, p.fence,"
    " p.attempts, p.tried_for, p.reason, p.via, p.schedule_digest, p.priority, p.hand_over_at, p.bundle"
)
PACE = "t.target, t.held_until, t.free_at, t.rate, t.refused"
UNSETTLED = "p.state IN ('pending', 'leased', 'cancelling')"
NEWER = (
    "(SELECT max(n.level) FROM escalation_pages n WHERE n.incident_key = p.incident_key AND n.episode = p.episode"
    " AND n.level > p.level AND n.target = p.target AND n.state IN ('pending', 'leased', 'delivered'))"
)
WITH_INCIDENT = (
    "SELECT {page}, {newer}, i.incident_key IS NOT NULL, {incident} FROM escalation_pages p"
    " LEFT JOIN incidents i ON i.incident_key = p.incident_key"
)
ONE = WITH_INCIDENT.format(page=PAGE, newer="NULL", incident=SELECTED)
_WITH_NEWER = WITH_INCIDENT.format(page=PAGE, newer=NEWER, incident=SELECTED)
CLAIM = (
    f"{_WITH_NEWER} WHERE {UNSETTLED} AND p.target = ? AND p.due_at <= ?"
    " AND NOT EXISTS (SELECT 1 FROM escalation_targets t WHERE t.target = p.target AND t.held_until > ?)"
    " ORDER BY CASE WHEN p.due_at <= ? THEN -1 ELSE p.priority END, p.due_at, p.id LIMIT ?"
)
WAITING = (
    "SELECT count(*) FROM (SELECT 1 FROM escalation_pages p WHERE p.target = ? AND p.state = 'pending'"
    " AND p.due_at <= ? AND p.attempts = 0 AND p.bundle IS NULL LIMIT ?)"
)
OF_BUNDLE = f"{_WITH_NEWER} WHERE p.bundle = ? AND {UNSETTLED} ORDER BY p.priority, p.created_at, p.id"
LATE = (
    f"{_WITH_NEWER} WHERE p.state = 'pending' AND p.hand_over_at IS NOT NULL AND p.target = ? AND p.hand_over_at <= ?"
    " ORDER BY p.hand_over_at, p.id LIMIT ?"
)
UNHEARD = """
SELECT DISTINCT p.incident_key, p.episode, p.level FROM escalation_pages p
JOIN incidents i ON i.incident_key = p.incident_key
WHERE p.state IN ('dead', 'handed_over') AND p.due_at >= ?
    AND i.episode = p.episode AND i.acknowledged_at IS NULL AND i.resolved_at IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM escalation_pages q
        WHERE q.incident_key = p.incident_key AND q.episode = p.episode AND q.level >= p.level
            AND (q.level > p.level OR q.state IN ('pending', 'leased', 'cancelling', 'delivered')))
    AND (p.state = 'dead' OR EXISTS (
        SELECT 1 FROM escalation_pages d
        WHERE d.incident_key = p.incident_key AND d.episode = p.episode AND d.level = p.level AND d.state = 'dead'))
    AND NOT EXISTS (
        SELECT 1 FROM escalation_audit a
        WHERE a.action = 'unheard' AND a.incident_key = p.incident_key AND a.episode = p.episode AND a.level = p.level)
ORDER BY p.incident_key
"""

SETTLE = "UPDATE escalation_pages SET state = ?, due_at = ?, fence = ?, attempts = ?, tried_for = ?, reason = ?"

END_HOLDS = """
UPDATE escalation_targets SET
    held_until = CASE WHEN held_until > :beyond THEN :now ELSE max(:now, held_until - :step) END
WHERE held_until > :after
"""
BRING_HAND_OVERS = """
UPDATE escalation_pages SET hand_over_at = hand_over_at - :step WHERE state = 'pending' AND hand_over_at IS NOT NULL
"""
DUE_AT = """
CASE
    WHEN p.state <> 'pending' THEN min(p.due_at, :lease_ends)
    WHEN p.due_at > :beyond OR (p.attempts = 0 AND p.reason IS NULL) THEN :now
    ELSE max(:now, p.due_at - :step) END
"""
FORWARD = f"""
UPDATE escalation_pages AS p SET due_at = {DUE_AT}
WHERE p.target = :target AND {UNSETTLED} AND p.due_at > :after AND p.due_at > {DUE_AT}
"""
