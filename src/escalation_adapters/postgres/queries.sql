-- Every statement of the store at run time. {names} are identifiers of this installation, %(names)s are values.
-- {row} is the columns of an incident, as table.py selects them, with long texts cut. Every statement names the schema, so
-- search_path does not matter. {unless_passed} leaves out passed-over rows. It is empty while no row is passed over, so
-- statements.py makes two forms of each statement that contains it.

-- name: begin
-- The first statement of each transaction. It returns the instant, whether any row is passed over, whether any pause has not
-- ended, and whether row level security applies to this role. It also sets parameters until the transaction's end, whatever the
-- role's or the database's settings are. The server ends the transaction if the client stops, and so releases its locks. A policy
-- that would hide rows makes a statement fail. NULL in an array is not a text. The triggers can distinguish the engine's writes
-- from a host's.
-- In a transaction of the engine's own each plan reads by the indexes, also one that was made while a table was empty (ADR 0066).
SELECT c.now AT TIME ZONE 'UTC',
    EXISTS (SELECT FROM {schema}.escalation_unreadable u WHERE u.passed_until > c.now),
    EXISTS (SELECT FROM {schema}.escalation_pauses z WHERE z.ends_at > c.now),
    row_security_active({incidents_name}::regclass),
    set_config('idle_in_transaction_session_timeout', %(idle)s, true), set_config('row_security', 'off', true),
    set_config('array_nulls', 'on', true), set_config('escalation.engine', 'on', true),
    CASE WHEN %(by_index)s::boolean THEN set_config('enable_seqscan', 'off', true) || set_config('jit', 'off', true) END,
    (SELECT (m.value->>'revision')::int FROM {schema}.escalation_meta m WHERE m.name = 'incidents')
FROM (SELECT coalesce(%(at)s::timestamptz, now()) AS now) AS c

-- name: unless_passed
-- A part of other statements: it leaves out rows that are passed over because the database refuses to write them.
-- A host's write gives the row another version, which the database may accept.
AND NOT EXISTS (
        SELECT FROM {schema}.escalation_unreadable r
        WHERE r.incident_key = i.{incident_key}::text AND r.passed_until > coalesce(%(at)s::timestamptz, now())
            AND r.passed_version = i.xmin::text)

-- name: claimed
-- A part of other statements: the rows of picked, and their number. Rows whose labels would take too much are left out.
SELECT {row}, coalesce(u.attempts, 0), i.escalation_picked
FROM (
    SELECT p.*, count(*) OVER () AS escalation_picked,
        sum({labels_size}) OVER (ORDER BY p.{next_due_at} ROWS UNBOUNDED PRECEDING) AS escalation_size
    FROM picked p
) i LEFT JOIN {schema}.escalation_unreadable u ON u.incident_key = i.{incident_key}::text
WHERE i.escalation_size <= {most_labels}
ORDER BY i.{next_due_at}

-- name: load
-- One incident with whole texts, because the caller may write it back.
SELECT {whole_row} FROM {incidents} i WHERE i.{incident_key} = %(key)s::{key_type}

-- name: insert
-- Insert an incident, unless its key is taken. A host's identity column accepts a given key only with OVERRIDING.
INSERT INTO {incidents} (
    {incident_key}, {severity}, {first_seen}, {level}, {episode}, {last_escalated_at}, {acknowledged_at},
    {acknowledged_by}, {resolved_at}, {snoozed_until}, {next_due_at}, {summary}, {labels}, {policy}, {policy_pin},
    {policy_level}, {policy_since} {status_column}
) OVERRIDING SYSTEM VALUE VALUES (
    %(incident_key)s::{key_type}, %(severity)s::{severity_type}, %(first_seen)s, %(level)s, %(episode)s,
    %(last_escalated_at)s, %(acknowledged_at)s, %(acknowledged_by)s, %(resolved_at)s, %(snoozed_until)s,
    %(next_due_at)s, %(summary)s, %(labels)s::{labels_type}, %(policy)s, %(policy_pin)s, %(policy_level)s,
    %(policy_since)s {status_value}
) ON CONFLICT ({incident_key}) DO NOTHING RETURNING true

-- name: save
-- Write the columns that changed of an incident that was loaded before; incidents.py appends them, and the condition.
UPDATE {incidents} SET

-- name: claim
-- Due rows, oldest first, locked. Rows that other transactions have locked are left out. So are rows without a key, which the
-- engine cannot name. The columns are listed, because a host's other columns may be computed, and fail. Each row ends with the
-- number of picked rows. If their labels together would take too much, the last rows are left to the next claim.
WITH picked AS MATERIALIZED (
    SELECT {columns} FROM {incidents} i
    WHERE i.{next_due_at} <= %(until)s AND i.{incident_key} IS NOT NULL {unless_passed}
    ORDER BY i.{next_due_at} LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
{claimed}

-- name: claim_canary
-- As claim, within the canary: the oldest rows of each bucket, from the index, merged. It reads four times the limit, as a
-- reserve for rows that others have locked.
WITH candidate AS MATERIALIZED (
    SELECT c.key, c.due FROM unnest(%(buckets)s::int[]) AS b (bucket)
    CROSS JOIN LATERAL (
        SELECT i.{incident_key} AS key, i.{next_due_at} AS due FROM {incidents} i
        WHERE {bucket} = b.bucket AND i.{next_due_at} <= %(until)s {unless_passed}
        ORDER BY i.{next_due_at} LIMIT %(limit)s
    ) c
    ORDER BY c.due LIMIT 4 * %(limit)s
), picked AS MATERIALIZED (
    SELECT {columns} FROM {incidents} i
    WHERE i.{incident_key} = ANY(ARRAY(SELECT c.key FROM candidate c)) AND i.{next_due_at} <= %(until)s
    ORDER BY i.{next_due_at} LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
{claimed}

-- name: peek
-- The rows that a claim would find, in batches by (next_due_at, key), without a lock.
WITH picked AS MATERIALIZED (
    SELECT {columns} FROM {incidents} i
    WHERE i.{next_due_at} <= %(until)s AND i.{incident_key} IS NOT NULL {unless_passed}
        AND (%(percent)s >= 100 OR {bucket} < %(percent)s)
        AND (
            %(after_due)s::timestamptz IS NULL
            OR (i.{next_due_at}, i.{incident_key}::text COLLATE "C") > (%(after_due)s::timestamptz, %(after_key)s::text)
        )
    ORDER BY i.{next_due_at}, i.{incident_key}::text COLLATE "C" LIMIT %(limit)s
)
SELECT {row}, coalesce(u.attempts, 0), i.escalation_picked
FROM (
    SELECT p.*, count(*) OVER () AS escalation_picked,
        sum({labels_size}) OVER (
            ORDER BY p.{next_due_at}, p.{incident_key}::text COLLATE "C" ROWS UNBOUNDED PRECEDING) AS escalation_size
    FROM picked p
) i LEFT JOIN {schema}.escalation_unreadable u ON u.incident_key = i.{incident_key}::text
WHERE i.escalation_size <= {most_labels}
ORDER BY i.{next_due_at}, i.{incident_key}::text COLLATE "C"

-- name: advance
-- Write level and instants of many incidents at once.
UPDATE {incidents} i SET {level} = v.level, {last_escalated_at} = v.last, {next_due_at} = v.due
FROM unnest(%(keys)s::text[]::{key_type}[], %(levels)s::int[], %(lasts)s::timestamptz[], %(dues)s::timestamptz[])
    AS v (key, level, last, due)
WHERE i.{incident_key} = v.key

-- name: move
-- Write what a planning by a policies file may change, of many incidents at once. A claim cuts acknowledged_by: a value that
-- the planning left alone stays whole.
UPDATE {incidents} i SET
    {level} = v.level, {episode} = v.episode, {last_escalated_at} = v.last, {next_due_at} = v.due,
    {acknowledged_at} = v.acked,
    {acknowledged_by} = CASE
        WHEN left(i.{acknowledged_by}::text, %(chars)s) = v.acked_by THEN i.{acknowledged_by} ELSE v.acked_by END,
    {policy_pin} = v.pin, {policy_level} = v.began, {policy_since} = v.since {status_moved}
FROM unnest(
    %(keys)s::text[]::{key_type}[], %(levels)s::int[], %(episodes)s::int[], %(lasts)s::timestamptz[],
    %(dues)s::timestamptz[], %(acked)s::timestamptz[], %(acked_by)s::text[], %(pins)s::text[], %(began)s::int[],
    %(since)s::timestamptz[]) AS v (key, level, episode, last, due, acked, acked_by, pin, began, since)
WHERE i.{incident_key} = v.key

-- name: readable
-- Delete the entries of rows that were planned again.
DELETE FROM {schema}.escalation_unreadable WHERE incident_key = ANY(%(keys)s::text[])

-- name: defer_unreadable
-- Record the fault of each row, and set the instant at which a worker reads it again.
WITH u AS (
    INSERT INTO {schema}.escalation_unreadable AS was (incident_key, attempts, fault, seen_at)
    SELECT DISTINCT ON (v.key) v.key, v.attempts, v.fault, %(now)s
    FROM unnest(%(keys)s::text[], %(attempts)s::int[], %(faults)s::text[]) AS v (key, attempts, fault)
    ON CONFLICT (incident_key) DO UPDATE SET
        attempts = excluded.attempts, fault = excluded.fault, seen_at = excluded.seen_at, passed_until = NULL
)
UPDATE {incidents} i SET {next_due_at} = v.until
FROM unnest(%(keys)s::text[]::{key_type}[], %(untils)s::timestamptz[]) AS v (key, until) WHERE i.{incident_key} = v.key

-- name: dues
-- The current next_due_at of rows.
SELECT i.{incident_key}::text, {due} FROM {incidents} i WHERE i.{incident_key} = ANY(%(keys)s::text[]::{key_type}[])

-- name: pass_over
-- Record the fault of rows whose next_due_at the database refuses to write: their instant is kept here instead.
INSERT INTO {schema}.escalation_unreadable AS was (incident_key, attempts, fault, seen_at, passed_until, passed_version)
SELECT DISTINCT ON (v.key) v.key::text, v.attempts, v.fault, %(now)s, v.until, i.xmin::text
FROM unnest(%(keys)s::text[]::{key_type}[], %(attempts)s::int[], %(faults)s::text[], %(untils)s::timestamptz[])
    AS v (key, attempts, fault, until)
JOIN {incidents} i ON i.{incident_key} = v.key
ON CONFLICT (incident_key) DO UPDATE SET
    attempts = excluded.attempts, fault = excluded.fault, seen_at = excluded.seen_at,
    passed_until = excluded.passed_until, passed_version = excluded.passed_version

-- name: left_alone
-- Why rows are deferred or passed over, and until when. A row that a host has written since is not passed over.
SELECT u.incident_key, u.attempts, u.fault, coalesce(
    CASE WHEN u.passed_version = i.xmin::text THEN u.passed_until AT TIME ZONE 'UTC' END, {due},
    u.seen_at AT TIME ZONE 'UTC')
FROM {schema}.escalation_unreadable u JOIN {incidents} i ON i.{incident_key} = u.incident_key::{key_type}
WHERE u.incident_key = ANY(%(keys)s::text[])

-- name: list_due
-- Open rows with next_due_at, by (next_due_at, key), without a lock. "begin" is next_due_at of the last row of the batch before:
-- the search of the index begins there. If that row was read as the first or the last instant of Python, "end" is given: then
-- the row itself says where it stands.
SELECT {row}, coalesce(u.attempts, 0), 0
FROM {incidents} i LEFT JOIN {schema}.escalation_unreadable u ON u.incident_key = i.{incident_key}::text
WHERE i.{next_due_at} <= coalesce(%(until)s::timestamptz, 'infinity') AND i.{incident_key} IS NOT NULL AND {is_open}
    AND i.{next_due_at} >= %(begin)s::timestamptz
    AND (
        %(after_due)s::timestamptz IS NULL
        OR (i.{next_due_at}, i.{incident_key}::text COLLATE "C") > (
            CASE WHEN %(end)s::timestamptz IS NULL THEN %(after_due)s::timestamptz ELSE coalesce((
                SELECT r.{next_due_at} FROM {incidents} r WHERE r.{incident_key} = %(after_key)s::text::{key_type}
            ), %(end)s::timestamptz) END, %(after_key)s::text)
    )
ORDER BY i.{next_due_at}, i.{incident_key}::text COLLATE "C" LIMIT %(limit)s

-- name: list_not_due
-- Open rows without next_due_at, by key, without a lock.
SELECT {row}, coalesce(u.attempts, 0), 0
FROM {incidents} i LEFT JOIN {schema}.escalation_unreadable u ON u.incident_key = i.{incident_key}::text
WHERE i.{next_due_at} IS NULL AND {is_open} AND i.{incident_key} IS NOT NULL
    AND (%(after)s::text IS NULL OR i.{incident_key} > %(after)s::text::{key_type})
ORDER BY i.{incident_key} LIMIT %(limit)s

-- name: end_passing
-- Clear instants that were set while the clock was ahead.
UPDATE {schema}.escalation_unreadable SET passed_until = NULL WHERE passed_until > %(beyond)s

-- name: unseen
-- A batch of open rows without next_due_at, by key: their number, the last key, and the keys that no engine has planned.
WITH looked AS MATERIALIZED (
    SELECT i.{incident_key} AS key, i.{episode} AS episode, i.{level} AS level, {first_seen_value} AS first_seen,
        i.xmin::text AS version
    FROM {incidents} i
    WHERE i.{next_due_at} IS NULL AND {is_open}
        AND i.{incident_key} IS NOT NULL
        AND (%(after)s::text IS NULL OR i.{incident_key} > %(after)s::text::{key_type})
    ORDER BY i.{incident_key} LIMIT %(limit)s
)
SELECT count(*), (SELECT l.key::text FROM looked l ORDER BY l.key DESC LIMIT 1),
    array_agg(l.key::text ORDER BY l.key) FILTER (
        WHERE (%(held_before)s::timestamptz IS NULL OR l.first_seen IS NULL OR l.first_seen >= %(held_before)s)
            AND NOT EXISTS (
                SELECT FROM {schema}.escalation_audit a
                WHERE a.action = 'exhausted' AND a.incident_key = l.key::text AND a.episode = l.episode
                    AND a.level = l.level AND NOT EXISTS (
                        SELECT FROM {schema}.escalation_audit r
                        WHERE r.action = 'resolve' AND r.incident_key = l.key::text AND r.episode = l.episode))
            AND NOT EXISTS (
                SELECT FROM {schema}.escalation_unreadable u
                WHERE u.incident_key = l.key::text AND u.passed_until > %(at)s AND u.passed_version = l.version))
FROM looked l

-- name: lock_unseen
-- Lock the rows that are still open and without next_due_at. Rows that others have locked are left to a later search.
SELECT i.{incident_key}::text FROM {incidents} i
WHERE i.{incident_key} = ANY(%(keys)s::text[]::{key_type}[])
    AND i.{next_due_at} IS NULL AND {is_open}
ORDER BY i.{incident_key} FOR NO KEY UPDATE SKIP LOCKED

-- name: mark_unseen
-- Set rows to be planned anew (next_due_at = epoch). If the audit says that the row's episode was resolved, the host has
-- opened the row again: a new episode begins at level 0. A new episode also begins, as after an insert, if the ledger holds a
-- later episode of the key, or a higher level of the row's episode.
WITH found AS (
    SELECT i.{incident_key} AS key,
        EXISTS (
            SELECT FROM {schema}.escalation_audit r
            WHERE r.action = 'resolve' AND r.incident_key = i.{incident_key}::text AND r.episode = i.{episode}) AS again,
        EXISTS (
            SELECT FROM {schema}.escalation_events e
            WHERE e.incident_key = i.{incident_key}::text
                AND (e.episode > i.{episode} OR e.episode = i.{episode} AND e.level > i.{level})) AS behind,
        1 + greatest(i.{episode}, (
            SELECT max(e.episode) FROM {schema}.escalation_events e WHERE e.incident_key = i.{incident_key}::text)) AS next
    FROM {incidents} i WHERE i.{incident_key} = ANY(%(keys)s::text[]::{key_type}[])
)
UPDATE {incidents} i SET
    {next_due_at} = to_timestamp(0),
    {episode} = CASE WHEN f.again OR f.behind THEN f.next ELSE i.{episode} END,
    {level} = CASE WHEN f.again THEN 0 ELSE i.{level} END,
    {last_escalated_at} = CASE WHEN f.again THEN NULL ELSE i.{last_escalated_at} END,
    {policy_pin} = CASE WHEN f.again THEN NULL ELSE i.{policy_pin} END,
    {policy_level} = CASE
        WHEN f.again THEN NULL
        WHEN f.behind AND i.{policy_level} > i.{level} THEN i.{level}
        ELSE i.{policy_level} END,
    {policy_since} = CASE WHEN f.again THEN NULL ELSE i.{policy_since} END
FROM found f WHERE i.{incident_key} = f.key

-- name: lock_timeout
-- For the rest of the transaction: while it waits for one row, others wait for the rows that it has locked.
SET LOCAL lock_timeout = '1s'

-- name: scanned
-- A part of other statements: the rows of picked, by key, and their number. Rows whose labels would take too much are left out.
SELECT {row}, 0, i.escalation_picked
FROM (
    SELECT p.*, count(*) OVER () AS escalation_picked,
        sum({labels_size}) OVER (ORDER BY p.{incident_key} ROWS UNBOUNDED PRECEDING) AS escalation_size
    FROM picked p
) i
WHERE i.escalation_size <= {most_labels}
ORDER BY i.{incident_key}

-- name: scan_unresolved
-- Rows that are not resolved, in the order of their keys, each locked. It waits for rows that others have locked. It does not
-- read labels, because most plannings do not need them.
SELECT {bare_row}, 0, 0 FROM {incidents} i
WHERE i.{incident_key} IS NOT NULL AND (%(after)s::text IS NULL OR i.{incident_key} > %(after)s::text::{key_type})
    AND {is_unresolved}
ORDER BY i.{incident_key} LIMIT %(limit)s FOR NO KEY UPDATE

-- name: scan_unresolved_labels
-- The same rows, with their labels.
WITH picked AS MATERIALIZED (
    SELECT {columns} FROM {incidents} i
    WHERE i.{incident_key} IS NOT NULL AND (%(after)s::text IS NULL OR i.{incident_key} > %(after)s::text::{key_type})
        AND {is_unresolved}
    ORDER BY i.{incident_key} LIMIT %(limit)s FOR NO KEY UPDATE
)
{scanned}

-- name: scan_keys
-- The keys of the same rows, without a lock.
SELECT i.{incident_key}::text FROM {incidents} i
WHERE i.{incident_key} IS NOT NULL AND (%(after)s::text IS NULL OR i.{incident_key} > %(after)s::text::{key_type})
    AND {is_unresolved}
ORDER BY i.{incident_key} LIMIT %(limit)s

-- name: scan_unlocked
-- The rows of these keys that are not resolved, locked. Rows that others have locked are left out.
SELECT {bare_row}, 0, 0 FROM {incidents} i
WHERE i.{incident_key} = ANY(%(keys)s::text[]::{key_type}[]) AND {is_unresolved}
ORDER BY i.{incident_key} FOR NO KEY UPDATE SKIP LOCKED

-- name: scan_unlocked_labels
-- The same rows, with their labels.
WITH picked AS MATERIALIZED (
    SELECT {columns} FROM {incidents} i
    WHERE i.{incident_key} = ANY(%(keys)s::text[]::{key_type}[]) AND {is_unresolved}
    ORDER BY i.{incident_key} FOR NO KEY UPDATE SKIP LOCKED
)
{scanned}

-- name: next_due
-- The earliest next_due_at. An instant from the last day of 9999 on never comes; one before 1970 has come.
SELECT greatest(i.{next_due_at}, to_timestamp(0)) AT TIME ZONE 'UTC' FROM {incidents} i
WHERE i.{next_due_at} < '9999-12-31 00:00:00+00' AND i.{incident_key} IS NOT NULL {unless_passed} ORDER BY i.{next_due_at} LIMIT 1

-- name: next_due_canary
-- As next_due, within the canary: the earliest of each bucket, from the index.
SELECT min(f.due) AT TIME ZONE 'UTC' FROM unnest(%(buckets)s::int[]) AS b (bucket)
CROSS JOIN LATERAL (
    SELECT greatest(i.{next_due_at}, to_timestamp(0)) AS due FROM {incidents} i
    WHERE {bucket} = b.bucket AND i.{next_due_at} < '9999-12-31 00:00:00+00' {unless_passed}
    ORDER BY i.{next_due_at} LIMIT 1
) f

-- name: due_targets
-- Part of other statements: the targets that have unsettled pages, with their rows, as JSON. Instants are microseconds. It goes
-- from target to target, and from priority to priority, in their index: targets without such pages cost nothing.
SELECT json_agg(json_build_array(n.target,
    (extract(epoch FROM least(greatest(n.due_at, to_timestamp(0)), '9999-12-30 00:00:00+00')) * 1000000)::bigint,
    CASE WHEN n.hand_over_at IS NOT NULL THEN (extract(epoch FROM least(greatest(n.hand_over_at, to_timestamp(0)), '9999-12-30 00:00:00+00')) * 1000000)::bigint END,
    t.target,
    CASE WHEN t.held_until IS NOT NULL THEN (extract(epoch FROM least(greatest(t.held_until, to_timestamp(0)), '9999-12-30 00:00:00+00')) * 1000000)::bigint END,
    CASE WHEN t.free_at IS NOT NULL THEN (extract(epoch FROM least(greatest(t.free_at, to_timestamp(0)), '9999-12-30 00:00:00+00')) * 1000000)::bigint END,
    t.rate, t.refused))
FROM (
    WITH RECURSIVE next AS (
        (SELECT p.target, p.priority, p.due_at FROM {schema}.escalation_pages p
            WHERE p.state IN ('pending', 'leased', 'cancelling') ORDER BY p.target, p.priority, p.due_at LIMIT 1)
        UNION ALL
        SELECT p.target, p.priority, p.due_at FROM next n CROSS JOIN LATERAL (
            SELECT p.target, p.priority, p.due_at FROM {schema}.escalation_pages p
            WHERE (p.target, p.priority) > (n.target, n.priority) AND p.state IN ('pending', 'leased', 'cancelling')
            ORDER BY p.target, p.priority, p.due_at LIMIT 1
        ) p
    )
    SELECT n.target, min(n.due_at) AS due_at, (
        SELECT min(p.hand_over_at) FROM {schema}.escalation_pages p
        WHERE p.target = n.target AND p.state = 'pending' AND p.hand_over_at IS NOT NULL) AS hand_over_at
    FROM next n GROUP BY n.target
) n LEFT JOIN {schema}.escalation_targets t ON t.target = n.target

-- name: find_due_targets
-- As due_targets, by itself.
{due_targets}

-- name: lock_targets
-- The rows of targets, locked, in the order of their names; missing ones are made. Rows that others have locked are left out.
WITH added AS (
    INSERT INTO {schema}.escalation_targets AS t (target) SELECT unnest(%(targets)s::text[])
    ON CONFLICT (target) DO NOTHING RETURNING t.*
), standing AS (
    SELECT t.* FROM {schema}.escalation_targets t
    WHERE t.target = ANY(%(targets)s::text[]) ORDER BY t.target FOR NO KEY UPDATE SKIP LOCKED
)
SELECT t.target, t.held_until AT TIME ZONE 'UTC', t.free_at AT TIME ZONE 'UTC', t.rate, t.refused
FROM (SELECT * FROM standing UNION ALL SELECT * FROM added) t

-- name: write_paces
-- Write the paces of locked targets.
UPDATE {schema}.escalation_targets t SET free_at = v.free_at, rate = v.rate, refused = v.refused
FROM unnest(%(targets)s::text[], %(frees)s::timestamptz[], %(rates)s::float8[], %(refused)s::boolean[])
    AS v (target, free_at, rate, refused)
WHERE t.target = v.target

-- name: due_notices
-- Part of other statements: the targets that have unsettled notices, in the form of due_targets.
SELECT json_agg(json_build_array(n.target,
    (extract(epoch FROM least(greatest(n.due_at, to_timestamp(0)), '9999-12-30 00:00:00+00')) * 1000000)::bigint, NULL,
    t.target,
    CASE WHEN t.held_until IS NOT NULL THEN (extract(epoch FROM least(greatest(t.held_until, to_timestamp(0)), '9999-12-30 00:00:00+00')) * 1000000)::bigint END,
    CASE WHEN t.free_at IS NOT NULL THEN (extract(epoch FROM least(greatest(t.free_at, to_timestamp(0)), '9999-12-30 00:00:00+00')) * 1000000)::bigint END,
    t.rate, t.refused))
FROM (
    WITH RECURSIVE next AS (
        (SELECT n.target, n.due_at FROM {schema}.escalation_notices n
            WHERE n.state IN ('pending', 'leased') ORDER BY n.target, n.due_at LIMIT 1)
        UNION ALL
        SELECT n.target, n.due_at FROM next p CROSS JOIN LATERAL (
            SELECT n.target, n.due_at FROM {schema}.escalation_notices n
            WHERE n.target > p.target AND n.state IN ('pending', 'leased') ORDER BY n.target, n.due_at LIMIT 1
        ) n
    )
    SELECT n.target, n.due_at FROM next n
) n LEFT JOIN {schema}.escalation_targets t ON t.target = n.target

-- name: find_due_notices
-- As due_notices, by itself.
{due_notices}

-- name: look
-- The next due instants, in one row, or in one row for each pause. It contains one of the two statements above. A single
-- statement for both would be planned anew each time, and workers run this one all the time.
SELECT c.now AT TIME ZONE 'UTC',
    EXISTS (SELECT FROM {schema}.escalation_unreadable u WHERE u.passed_until > c.now),
    row_security_active({incidents_name}::regclass), ({soonest}),
    CASE WHEN %(pages)s::boolean THEN ({due_targets}) END, CASE WHEN %(pages)s::boolean THEN ({due_notices}) END,
    (SELECT min(h.id) FROM {schema}.escalation_changes h) IS NOT NULL,
    z.starts_at AT TIME ZONE 'UTC', z.ends_at AT TIME ZONE 'UTC', z.actor, z.reason, z.lifts_schedule
FROM (SELECT coalesce(%(at)s::timestamptz, now()) AS now) AS c
LEFT JOIN {schema}.escalation_pauses z ON z.ends_at > c.now
ORDER BY z.id

-- name: record_new
-- Insert escalations; fail if one of them is there already.
INSERT INTO {schema}.escalation_events (incident_key, episode, level, unique_hash, created_at, policy, position, outcome)
SELECT * FROM unnest(
    %(keys)s::text[], %(episodes)s::int[], %(levels)s::int[], %(hashes)s::text[], %(instants)s::timestamptz[],
    %(policies)s::text[], %(positions)s::int[], %(outcomes)s::text[])

-- name: record
-- Insert each escalation once; return those that were new.
INSERT INTO {schema}.escalation_events (incident_key, episode, level, unique_hash, created_at, policy, position, outcome)
SELECT * FROM unnest(
    %(keys)s::text[], %(episodes)s::int[], %(levels)s::int[], %(hashes)s::text[], %(instants)s::timestamptz[],
    %(policies)s::text[], %(positions)s::int[], %(outcomes)s::text[])
ON CONFLICT DO NOTHING RETURNING unique_hash

-- name: highest
-- The highest recorded level of episodes.
SELECT v.key, v.episode, e.level, e.created_at AT TIME ZONE 'UTC'
FROM unnest(%(keys)s::text[], %(episodes)s::int[]) AS v (key, episode)
CROSS JOIN LATERAL (
    SELECT e.level, e.created_at FROM {schema}.escalation_events e
    WHERE e.incident_key = v.key AND e.episode = v.episode ORDER BY e.level DESC LIMIT 1
) e

-- name: highest_episode
-- The highest recorded episode of a key.
SELECT coalesce(max(episode), 0) FROM {schema}.escalation_events WHERE incident_key = %(key)s

-- name: recent
-- Escalations in a range of time, newest first, from their index.
SELECT id, incident_key, episode, level, created_at AT TIME ZONE 'UTC', unique_hash, policy, position, outcome
FROM {schema}.escalation_events WHERE created_at >= %(since)s AND (%(key)s::text IS NULL OR incident_key = %(key)s::text)
    AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s::timestamptz OR created_at = %(until)s::timestamptz AND id > %(after_id)s)
ORDER BY created_at DESC, id LIMIT %(limit)s

-- name: escalations
-- Escalations in the order they were recorded.
SELECT id, incident_key, episode, level, created_at AT TIME ZONE 'UTC', unique_hash, policy, position, outcome
FROM {schema}.escalation_events
WHERE id > %(after)s ORDER BY id LIMIT %(limit)s

-- name: escalations_of
-- One key's escalations in the order they were recorded.
SELECT id, incident_key, episode, level, created_at AT TIME ZONE 'UTC', unique_hash, policy, position, outcome
FROM {schema}.escalation_events
WHERE incident_key = %(key)s AND id > %(after)s ORDER BY id LIMIT %(limit)s

-- name: enqueue_new
-- Insert pages; fail if one of them is there already.
INSERT INTO {schema}.escalation_pages
    (incident_key, episode, level, target, dedup_key, state, created_at, due_at, reason, via, schedule_digest, priority,
        hand_over_at)
SELECT v.key, v.episode, v.level, v.target, v.dedup_key, CASE WHEN v.reason IS NULL THEN 'pending' ELSE 'dead' END,
    %(now)s, %(now)s, v.reason, v.via, v.digest, v.priority, v.hand_over_at
FROM unnest(
    %(keys)s::text[], %(episodes)s::int[], %(levels)s::int[], %(targets)s::text[], %(dedup_keys)s::text[],
    %(reasons)s::text[], %(vias)s::text[], %(digests)s::text[], %(priorities)s::smallint[],
    %(hand_overs)s::timestamptz[])
    AS v (key, episode, level, target, dedup_key, reason, via, digest, priority, hand_over_at)

-- name: enqueue
-- Insert pages, each once per escalation and target.
INSERT INTO {schema}.escalation_pages
    (incident_key, episode, level, target, dedup_key, state, created_at, due_at, reason, via, schedule_digest, priority,
        hand_over_at)
SELECT v.key, v.episode, v.level, v.target, v.dedup_key, CASE WHEN v.reason IS NULL THEN 'pending' ELSE 'dead' END,
    %(now)s, %(now)s, v.reason, v.via, v.digest, v.priority, v.hand_over_at
FROM unnest(
    %(keys)s::text[], %(episodes)s::int[], %(levels)s::int[], %(targets)s::text[], %(dedup_keys)s::text[],
    %(reasons)s::text[], %(vias)s::text[], %(digests)s::text[], %(priorities)s::smallint[],
    %(hand_overs)s::timestamptz[])
    AS v (key, episode, level, target, dedup_key, reason, via, digest, priority, hand_over_at)
ON CONFLICT (incident_key, episode, level, target) DO NOTHING

-- name: cancel
-- Cancel a key's pending pages. Its leased pages may finish.
UPDATE {schema}.escalation_pages SET
    state = CASE state WHEN 'pending' THEN 'cancelled' ELSE 'cancelling' END,
    due_at = CASE state WHEN 'pending' THEN %(now)s ELSE due_at END,
    reason = %(reason)s
WHERE incident_key = %(key)s AND state IN ('pending', 'leased')

-- name: newer_level
-- Part of other statements: the highest level at which a later page of the incident went to the same target, or NULL.
(
    SELECT max(n.level) FROM {schema}.escalation_pages n
    WHERE n.incident_key = p.incident_key AND n.episode = p.episode AND n.level > p.level AND n.target = p.target
        AND n.state IN ('pending', 'leased', 'delivered')
)

-- name: claim_pages
-- Unsettled pages that are due, up to the capacity of each target, worst first, locked, with their incidents. The oldest of
-- each priority are found by the index, and locked there, so that those that others have locked are passed by. A page that has
-- waited for long goes before all others. Each incident is looked up by itself: the planner cannot estimate the number of pages,
-- and with a join it might read the whole table for a few pages. Parameters stand in sub-selects: a plan that does not depend on
-- their values is kept, and to plan this statement takes longer than to run it.
WITH picked AS MATERIALIZED (
    SELECT p.* FROM unnest((SELECT %(targets)s::text[]), (SELECT %(capacities)s::int[])) AS r (target, capacity)
    CROSS JOIN LATERAL (
        WITH RECURSIVE rank AS (
            (SELECT p.priority FROM {schema}.escalation_pages p
                WHERE p.target = r.target AND p.state IN ('pending', 'leased', 'cancelling')
                ORDER BY p.priority LIMIT 1)
            UNION ALL
            SELECT p.priority FROM rank k CROSS JOIN LATERAL (
                SELECT p.priority FROM {schema}.escalation_pages p
                WHERE p.target = r.target AND p.priority > k.priority AND p.state IN ('pending', 'leased', 'cancelling')
                ORDER BY p.priority LIMIT 1
            ) p
        )
        SELECT p.*, CASE WHEN p.due_at <= (SELECT %(starved)s::timestamptz) THEN -1 ELSE p.priority END AS place
        FROM rank k CROSS JOIN LATERAL (
            SELECT p.* FROM {schema}.escalation_pages p
            WHERE p.target = r.target AND p.priority = k.priority
                AND p.state IN ('pending', 'leased', 'cancelling') AND p.due_at <= (SELECT %(until)s::timestamptz)
            ORDER BY p.due_at LIMIT r.capacity FOR NO KEY UPDATE SKIP LOCKED
        ) p
        ORDER BY place, p.due_at, p.id
        LIMIT r.capacity
    ) p
    WHERE NOT EXISTS (
        SELECT FROM {schema}.escalation_targets t WHERE t.target = r.target AND t.held_until > (SELECT %(now)s::timestamptz)
    )
)
SELECT {page}, {newer_level},
    i.{incident_key} IS NOT NULL, {row}
FROM picked p LEFT JOIN LATERAL (
    SELECT {columns} FROM {incidents} i WHERE i.{incident_key} = p.incident_key::{key_type} LIMIT 1
) i ON true
ORDER BY p.place, p.due_at, p.id

-- name: claim_late
-- Pending pages to these targets that are to be handed over, locked, with their incidents.
WITH picked AS MATERIALIZED (
    SELECT p.* FROM unnest(%(targets)s::text[]) AS r (target) CROSS JOIN LATERAL (
        SELECT p.* FROM {schema}.escalation_pages p
        WHERE p.target = r.target AND p.state = 'pending' AND p.hand_over_at <= %(now)s
        ORDER BY p.hand_over_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
    ) p ORDER BY p.hand_over_at LIMIT %(limit)s
)
SELECT {page}, {newer_level}, i.{incident_key} IS NOT NULL, {row}
FROM picked p LEFT JOIN LATERAL (
    SELECT {columns} FROM {incidents} i WHERE i.{incident_key} = p.incident_key::{key_type} LIMIT 1
) i ON true
ORDER BY p.hand_over_at, p.id

-- name: count_waiting
-- The pages of each target that could be bundled, counted up to a limit. The order makes the planner use the index.
SELECT r.target, (SELECT count(*) FROM (
    SELECT FROM {schema}.escalation_pages p
    WHERE p.target = r.target AND p.state = 'pending' AND p.due_at <= %(until)s AND p.attempts = 0 AND p.bundle IS NULL
    ORDER BY p.priority, p.due_at LIMIT r.most) AS waiting)
FROM unnest(%(targets)s::text[], %(limits)s::int[]) AS r (target, most)

-- name: lock_bundle
-- The unsettled pages of a bundle, locked, with their incidents, and their number before the lock.
WITH picked AS MATERIALIZED (
    SELECT p.* FROM {schema}.escalation_pages p
    WHERE p.bundle = %(bundle)s AND p.state IN ('pending', 'leased', 'cancelling')
    ORDER BY p.id FOR NO KEY UPDATE SKIP LOCKED
)
SELECT {page}, {newer_level},
    i.{incident_key} IS NOT NULL, {row}
FROM picked p LEFT JOIN LATERAL (
    SELECT {columns} FROM {incidents} i WHERE i.{incident_key} = p.incident_key::{key_type} LIMIT 1
) i ON true
ORDER BY p.priority, p.created_at, p.id

-- name: count_bundle
-- The number of unsettled pages of a bundle.
SELECT count(*) FROM {schema}.escalation_pages p
WHERE p.bundle = %(bundle)s AND p.state IN ('pending', 'leased', 'cancelling')

-- name: lock_pages
-- These pages, locked, with their incidents. Pages that others have locked are left out, without a wait.
WITH picked AS MATERIALIZED (
    SELECT p.* FROM {schema}.escalation_pages p WHERE p.id = ANY(%(ids)s::bigint[])
    ORDER BY p.id FOR NO KEY UPDATE SKIP LOCKED
)
SELECT {page}, NULL, i.{incident_key} IS NOT NULL, {row}
FROM picked p LEFT JOIN LATERAL (
    SELECT {columns} FROM {incidents} i WHERE i.{incident_key} = p.incident_key::{key_type} LIMIT 1
) i ON true
ORDER BY p.id

-- name: write_pages
-- Write locked pages. The condition lists their ids a second time, so that no plan reads the whole table.
UPDATE {schema}.escalation_pages p SET
    state = v.state, due_at = v.due_at, fence = v.fence, attempts = v.attempts, tried_for = v.tried_for,
    reason = v.reason, hand_over_at = v.hand_over_at, bundle = v.bundle
FROM unnest(
    %(ids)s::bigint[], %(states)s::text[], %(dues)s::timestamptz[], %(fences)s::int[], %(attempts)s::int[],
    %(tried)s::interval[], %(reasons)s::text[], %(hand_overs)s::timestamptz[],
    %(bundles)s::text[]) AS v (id, state, due_at, fence, attempts, tried_for, reason, hand_over_at, bundle)
WHERE p.id = v.id AND p.id = ANY(%(ids)s::bigint[])

-- name: settle_pages
-- Write pages whose fence is still the one before. Pages that others have locked are left out, without a wait.
WITH free AS MATERIALIZED (
    SELECT p.id FROM {schema}.escalation_pages p WHERE p.id = ANY(%(ids)s::bigint[]) FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {schema}.escalation_pages p SET
    state = v.state, due_at = v.due_at, fence = v.fence, attempts = v.attempts, tried_for = v.tried_for,
    reason = v.reason
FROM unnest(
    %(ids)s::bigint[], %(states)s::text[], %(dues)s::timestamptz[], %(fences)s::int[], %(attempts)s::int[],
    %(tried)s::interval[], %(reasons)s::text[]) AS v (id, state, due_at, fence, attempts, tried_for, reason)
JOIN free f ON f.id = v.id
WHERE p.id = v.id AND p.id = ANY(%(ids)s::bigint[]) AND p.fence = v.fence - 1 RETURNING p.id

-- name: find_unheard
-- Open incidents with a dead page at their present episode's highest level, and no other page of it that is unsettled or
-- delivered, which the audit does not note yet. A page may be handed over to a target whose page died long before. As for
-- claims, each incident is looked up by itself.
SELECT DISTINCT p.incident_key, p.episode, p.level
FROM {schema}.escalation_pages p CROSS JOIN LATERAL (
    SELECT FROM {incidents} i
    WHERE i.{incident_key} = p.incident_key::{key_type} AND i.{episode} = p.episode AND {is_open} LIMIT 1
) i
WHERE p.state IN ('dead', 'handed_over') AND p.due_at >= %(since)s
    AND NOT EXISTS (
        SELECT FROM {schema}.escalation_pages q
        WHERE q.incident_key = p.incident_key AND q.episode = p.episode AND q.level >= p.level
            AND (q.level > p.level OR q.state IN ('pending', 'leased', 'cancelling', 'delivered')))
    AND (p.state = 'dead' OR EXISTS (
        SELECT FROM {schema}.escalation_pages d
        WHERE d.incident_key = p.incident_key AND d.episode = p.episode AND d.level = p.level AND d.state = 'dead'))
    AND NOT EXISTS (
        SELECT FROM {schema}.escalation_audit a
        WHERE a.action = 'unheard' AND a.incident_key = p.incident_key AND a.episode = p.episode AND a.level = p.level)
ORDER BY p.incident_key

-- name: fences
-- The fences of pages, without a lock.
SELECT p.id, p.fence FROM {schema}.escalation_pages p WHERE p.id = ANY(%(ids)s::bigint[])

-- name: bring_forward
-- Bring forward unsettled pages and throttles whose instant is later than any can be. After a step back of the clock, bring
-- forward all whose instant is later than now, by that step. A page that was never tried has been due since it was recorded.
WITH held AS (
    UPDATE {schema}.escalation_targets SET
        held_until = CASE WHEN held_until > %(beyond)s::timestamptz THEN %(now)s::timestamptz ELSE greatest(%(now)s::timestamptz, held_until - %(step)s::interval) END
    WHERE held_until > %(after)s::timestamptz
), far AS MATERIALIZED (
    SELECT p.id, CASE
        WHEN p.state <> 'pending' THEN least(p.due_at, %(lease_ends)s::timestamptz)
        WHEN p.due_at > %(beyond)s::timestamptz OR (p.attempts = 0 AND p.reason IS NULL) THEN %(now)s::timestamptz
        ELSE greatest(%(now)s::timestamptz, p.due_at - %(step)s::interval) END AS due_at
    FROM unnest(coalesce(%(targets)s::text[], ARRAY(
        SELECT DISTINCT p.target FROM {schema}.escalation_pages p WHERE p.state IN ('pending', 'leased', 'cancelling')
    ))) AS r (target)
    CROSS JOIN LATERAL (
        SELECT p.* FROM {schema}.escalation_pages p
        WHERE p.target = r.target AND p.state IN ('pending', 'leased', 'cancelling') AND p.due_at > %(after)s::timestamptz
        ORDER BY p.id FOR NO KEY UPDATE SKIP LOCKED
    ) p
)
UPDATE {schema}.escalation_pages p SET due_at = f.due_at FROM far f WHERE p.id = f.id AND p.due_at > f.due_at

-- name: bring_hand_overs
-- After a step back of the clock, let fallbacks get their pages earlier by that step. Pages that others have locked are left out,
-- without a wait.
WITH free AS MATERIALIZED (
    SELECT p.id FROM {schema}.escalation_pages p WHERE p.state = 'pending' AND p.hand_over_at IS NOT NULL
    ORDER BY p.id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {schema}.escalation_pages p SET hand_over_at = p.hand_over_at - %(step)s::interval FROM free f WHERE p.id = f.id

-- name: throttle_target
-- Let no worker claim a page for this target before the instant; return a row if it is written. It does not wait for a row that
-- another transaction has locked: that may be the claim of a worker which stands still.
WITH standing AS (
    SELECT t.target FROM {schema}.escalation_targets t WHERE t.target = %(target)s FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE {schema}.escalation_targets t SET held_until = greatest(t.held_until, %(until)s::timestamptz), refused = true
    WHERE t.target = ANY(ARRAY(SELECT s.target FROM standing s)) RETURNING t.target
), added AS (
    INSERT INTO {schema}.escalation_targets (target, held_until, refused) SELECT %(target)s, %(until)s, true
    WHERE NOT EXISTS (SELECT FROM {schema}.escalation_targets t WHERE t.target = %(target)s)
    ON CONFLICT (target) DO NOTHING RETURNING target
)
SELECT target FROM moved UNION ALL SELECT target FROM added

-- name: settled
-- Pages that were settled in a range of time, newest first, from their index.
SELECT {page} FROM {schema}.escalation_pages p
WHERE p.state IN ('delivered', 'cancelled', 'superseded', 'handed_over', 'dead') AND p.due_at >= %(since)s AND (%(key)s::text IS NULL OR p.incident_key = %(key)s::text)
    AND (%(until)s::timestamptz IS NULL OR p.due_at < %(until)s::timestamptz OR p.due_at = %(until)s::timestamptz AND p.id > %(after_id)s)
ORDER BY p.due_at DESC, p.id LIMIT %(limit)s

-- name: pages
-- Pages in the order they were recorded.
SELECT {page} FROM {schema}.escalation_pages p
WHERE p.id > %(after)s AND (%(target)s::text IS NULL OR p.target = %(target)s::text) ORDER BY p.id LIMIT %(limit)s

-- name: pages_of
-- Pages of one key.
SELECT {page} FROM {schema}.escalation_pages p
WHERE p.incident_key = %(key)s AND p.id > %(after)s AND (%(target)s::text IS NULL OR p.target = %(target)s::text)
ORDER BY p.id LIMIT %(limit)s

-- name: pages_of_episodes
-- Pages of some episodes.
SELECT {page} FROM unnest(%(keys)s::text[], %(episodes)s::int[]) AS v (key, episode)
JOIN {schema}.escalation_pages p ON p.incident_key = v.key AND p.episode = v.episode ORDER BY p.id

-- name: pages_of_bundle
-- Pages of the bundles whose key begins so, in hex digits. The operators of the index compare bytes: in the order of a language
-- the range could have gaps, for example in Danish, where aa comes after z.
SELECT {page} FROM {schema}.escalation_pages p
WHERE p.bundle ~>=~ %(bundle)s AND p.bundle ~<~ %(beyond)s ORDER BY p.id

-- name: pages_dead
-- Dead pages.
SELECT {page} FROM {schema}.escalation_pages p
WHERE p.state = 'dead' AND p.id > %(after)s AND (%(target)s::text IS NULL OR p.target = %(target)s::text)
ORDER BY p.id LIMIT %(limit)s

-- name: pages_unsettled
-- Pages in one of the unsettled states, which the planner finds by their partial index, to one target or to all.
SELECT {page} FROM {schema}.escalation_pages p
WHERE p.state IN ('pending', 'leased', 'cancelling') AND p.state = %(state)s AND p.id > %(after)s
    AND (%(target)s::text IS NULL OR p.target = %(target)s::text)
ORDER BY p.id LIMIT %(limit)s

-- name: pages_in
-- Pages in one state.
SELECT {page} FROM {schema}.escalation_pages p
WHERE p.state = %(state)s AND p.id > %(after)s AND (%(target)s::text IS NULL OR p.target = %(target)s::text)
ORDER BY p.id LIMIT %(limit)s

-- name: note
-- Insert audit entries; an exhausted or unheard entry only once per key, episode and level.
INSERT INTO {schema}.escalation_audit (at, action, incident_key, episode, level, actor, reason, target)
SELECT * FROM unnest(
    %(instants)s::timestamptz[], %(actions)s::text[], %(keys)s::text[], %(episodes)s::int[], %(levels)s::int[],
    %(actors)s::text[], %(reasons)s::text[], %(targets)s::text[])
ON CONFLICT DO NOTHING

-- name: notes
-- Audit entries in a range of time, newest first, from their index.
SELECT id, at AT TIME ZONE 'UTC', action, incident_key, episode, level, actor, reason, target
FROM {schema}.escalation_audit WHERE at >= %(since)s AND (%(key)s::text IS NULL OR incident_key = %(key)s::text)
    AND (%(until)s::timestamptz IS NULL OR at < %(until)s::timestamptz OR at = %(until)s::timestamptz AND id > %(after_id)s)
ORDER BY at DESC, id LIMIT %(limit)s

-- name: record_heartbeat
-- Record that a worker completed a tick just now, however long ago its transaction began. Delete heartbeats that are older
-- than a day or ahead of the clock, except those that their workers are just writing. Return the latest one before this.
WITH c AS MATERIALIZED (SELECT coalesce(%(at)s::timestamptz, clock_timestamp()) AS now), gone AS (
    DELETE FROM {schema}.escalation_workers WHERE worker = ANY(ARRAY(
        SELECT w.worker FROM c, {schema}.escalation_workers w
        WHERE (w.ticked_at < c.now - interval '1 day' OR w.ticked_at > c.now + %(tolerance)s) AND w.worker <> %(worker)s
        FOR UPDATE OF w SKIP LOCKED))
)
INSERT INTO {schema}.escalation_workers (worker, ticked_at, version)
SELECT %(worker)s, c.now, %(version)s FROM c
ON CONFLICT (worker) DO UPDATE SET ticked_at = excluded.ticked_at, version = excluded.version
RETURNING ticked_at AT TIME ZONE 'UTC',
    (SELECT max(w.ticked_at) FROM {schema}.escalation_workers w) AT TIME ZONE 'UTC'

-- name: last_heartbeat
-- Since when a tick was possible, when a worker last completed one, and how many workers did within a day.
SELECT (SELECT max(applied_at) FROM {schema}.escalation_migrations) AT TIME ZONE 'UTC',
    (SELECT max(ticked_at) FROM {schema}.escalation_workers) AT TIME ZONE 'UTC',
    (SELECT count(*) FROM {schema}.escalation_workers WHERE ticked_at > %(now)s - interval '1 day')

-- name: overdue
-- Due rows, and whether they were deferred.
SELECT i.{next_due_at} AS due, u.incident_key IS NOT NULL AS deferred
FROM {incidents} i LEFT JOIN {schema}.escalation_unreadable u ON u.incident_key = i.{incident_key}::text
WHERE i.{next_due_at} > to_timestamp(0) AND i.{next_due_at} <= %(now)s

-- name: overdue_canary
-- As overdue, within the canary, from the index: rows outside the canary are not read.
SELECT i.{next_due_at} AS due, u.incident_key IS NOT NULL AS deferred
FROM unnest(%(buckets)s::int[]) AS b (bucket)
CROSS JOIN LATERAL (
    SELECT i.{incident_key}, i.{next_due_at} FROM {incidents} i
    WHERE {bucket} = b.bucket AND i.{next_due_at} > to_timestamp(0) AND i.{next_due_at} <= %(now)s
    OFFSET 0
) i
LEFT JOIN {schema}.escalation_unreadable u ON u.incident_key = i.{incident_key}::text

-- name: still_unheard
-- A part of other statements: the keys of open incidents that the audit notes as unheard, and of which no page has arrived since.
SELECT DISTINCT a.incident_key FROM {schema}.escalation_audit a
JOIN {incidents} i ON i.{incident_key} = a.incident_key::{key_type}
WHERE a.action = 'unheard' AND a.episode = i.{episode} AND {is_open} AND NOT EXISTS (
    SELECT FROM {schema}.escalation_pages p
    WHERE p.incident_key = a.incident_key AND p.episode = a.episode AND p.level >= a.level AND p.state = 'delivered')

-- name: find_still_unheard
-- As still_unheard, of some incidents or of all.
SELECT s.incident_key FROM ({still_unheard}) s
WHERE %(keys)s::text[] IS NULL OR s.incident_key = ANY(%(keys)s::text[])

-- name: stats
-- The counts that health shows, over one of the two statements above. Exhausted incidents are found through their audit
-- entries, not by a scan.
SELECT
    come.overdue, come.oldest AT TIME ZONE 'UTC',
    (SELECT count(*) FROM {incidents} i
        WHERE i.{next_due_at} = to_timestamp(0) AND i.{incident_key} IS NOT NULL {unless_passed}),
    (SELECT count(*) FROM {incidents} i WHERE i.{next_due_at} = to_timestamp(0) AND i.{incident_key} IS NULL),
    (SELECT count(*) FROM {schema}.escalation_audit a
        JOIN {incidents} i ON i.{incident_key} = a.incident_key::{key_type}
        WHERE a.action = 'exhausted' AND a.episode = i.{episode} AND a.level = i.{level}
            AND i.{next_due_at} IS NULL AND {is_open}),
    (SELECT min(created_at) FROM {schema}.escalation_pages WHERE state IN ('pending', 'leased', 'cancelling'))
        AT TIME ZONE 'UTC',
    (SELECT count(*) FROM {schema}.escalation_pages WHERE state = 'dead'),
    (SELECT count(*) FROM ({still_unheard}) AS silent),
    (SELECT count(*) FROM {schema}.escalation_unreadable u
        JOIN {incidents} i ON i.{incident_key} = u.incident_key::{key_type}
        WHERE i.{next_due_at} IS NOT NULL OR {is_open}),
    (SELECT max(version) FROM {schema}.escalation_migrations)
FROM (
    SELECT count(*) FILTER (WHERE NOT deferred) AS overdue, min(due) FILTER (WHERE NOT deferred) AS oldest
    FROM ({overdue}) AS one
) AS come

-- name: installation
-- The table as the catalogue has it now: whether it has triggers, its columns and their types, whether the key is NOT NULL, the
-- triggers that are enabled and disabled, the functions and the MD5 of their sources, the valid indexes, unknown words, and the words of a status enum.
SELECT
    (SELECT m.value::boolean FROM {schema}.escalation_meta m WHERE m.name = 'triggers'),
    ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
    ARRAY(SELECT CASE tn.nspname WHEN 'pg_catalog' THEN pg_catalog.format_type(t.oid, NULL)
            ELSE pg_catalog.format('%I.%I', tn.nspname, t.typname) END
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
    (SELECT a.attnotnull FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = {incident_key_name}),
    ARRAY(SELECT t.tgname::text FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('O', 'A')),
    ARRAY(SELECT t.tgname::text FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('D', 'R')),
    ARRAY(SELECT f.proname::text FROM pg_catalog.pg_proc f
        WHERE f.pronamespace = {schema_name}::regnamespace AND f.proname LIKE 'escalation\_host\_%' ORDER BY f.oid),
    ARRAY(SELECT md5(f.prosrc) FROM pg_catalog.pg_proc f
        WHERE f.pronamespace = {schema_name}::regnamespace AND f.proname LIKE 'escalation\_host\_%' ORDER BY f.oid),
    ARRAY(SELECT r.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class r ON r.oid = x.indexrelid
        WHERE x.indrelid = c.oid AND x.indisvalid),
    ARRAY(SELECT substr(m.name, 13) FROM {schema}.escalation_meta m WHERE m.name LIKE 'status word %' ORDER BY m.name),
    ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
        WHERE e.enumtypid = to_regtype({status_type_name}) ORDER BY e.enumsortorder)
FROM (SELECT to_regclass({incidents_name}) AS oid) AS c

-- name: severity_words
-- Whether the severity's column still has the type that the statements name, and the words of its enum; no words for other types.
SELECT a.atttypid IS NOT DISTINCT FROM to_regtype({severity_type_name}),
    ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = a.atttypid ORDER BY e.enumsortorder)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = {incidents_name}::regclass AND a.attname = {severity_name} AND NOT a.attisdropped

-- name: outside_canary
-- The number of due rows outside the canary. It reads every due row.
SELECT count(*) FROM {incidents} i
WHERE i.{next_due_at} > to_timestamp(0) AND i.{next_due_at} <= %(now)s AND {bucket} >= %(percent)s

-- name: backlog
-- Unsettled pages by target.
SELECT target, count(*) FROM {schema}.escalation_pages WHERE state IN ('pending', 'leased', 'cancelling')
GROUP BY target ORDER BY target

-- name: record_attempts
-- Keep the later instants of the last attempts to these targets. Rows that other transactions have locked stay as they are: a
-- heartbeat must not wait for the claim of a worker which stands still.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%(targets)s::text[], %(delivered)s::timestamptz[], %(failed)s::timestamptz[], %(errors)s::text[])
        AS v (target, delivered_at, failed_at, error)
), standing AS MATERIALIZED (
    SELECT t.target FROM {schema}.escalation_targets t
    WHERE t.target = ANY(%(targets)s::text[]) ORDER BY t.target FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE {schema}.escalation_targets t SET
        last_delivered_at = greatest(t.last_delivered_at, v.delivered_at),
        last_error = CASE WHEN v.failed_at IS NULL OR t.last_failed_at > v.failed_at THEN t.last_error ELSE v.error END,
        last_failed_at = greatest(t.last_failed_at, v.failed_at)
    FROM given v JOIN standing s ON s.target = v.target WHERE t.target = v.target
)
INSERT INTO {schema}.escalation_targets (target, last_delivered_at, last_failed_at, last_error)
SELECT v.target, v.delivered_at, v.failed_at, v.error FROM given v
WHERE NOT EXISTS (SELECT FROM {schema}.escalation_targets t WHERE t.target = v.target)
ORDER BY v.target
ON CONFLICT (target) DO NOTHING

-- name: move_attempts_back
-- After the clock stepped back: an instant in the future is moved by that step.
UPDATE {schema}.escalation_targets SET
    last_delivered_at = CASE WHEN last_delivered_at > %(now)s::timestamptz
        THEN least(%(now)s::timestamptz, last_delivered_at - %(step)s::interval) ELSE last_delivered_at END,
    last_failed_at = CASE WHEN last_failed_at > %(now)s::timestamptz
        THEN least(%(now)s::timestamptz, last_failed_at - %(step)s::interval) ELSE last_failed_at END
WHERE last_delivered_at > %(now)s::timestamptz OR last_failed_at > %(now)s::timestamptz

-- name: targets
-- All targets that have a row or unsettled pages.
SELECT coalesce(t.target, n.target), t.held_until AT TIME ZONE 'UTC', t.free_at AT TIME ZONE 'UTC', t.rate,
    coalesce(t.refused, false), t.last_delivered_at AT TIME ZONE 'UTC', t.last_failed_at AT TIME ZONE 'UTC', t.last_error,
    coalesce(n.backlog, 0), n.oldest AT TIME ZONE 'UTC'
FROM {schema}.escalation_targets t FULL JOIN (
    SELECT target, count(*) AS backlog, min(created_at) AS oldest FROM {schema}.escalation_pages
    WHERE state IN ('pending', 'leased', 'cancelling') GROUP BY target
) n ON n.target = t.target
ORDER BY coalesce(t.target, n.target) COLLATE "C"

-- name: unreadable
-- Examples of unreadable rows, with their faults.
SELECT u.incident_key, u.fault FROM {schema}.escalation_unreadable u
JOIN {incidents} i ON i.{incident_key} = u.incident_key::{key_type}
WHERE i.{next_due_at} IS NOT NULL OR {is_open} ORDER BY u.seen_at, u.incident_key LIMIT 20

-- name: recalc
-- How far the recalculation is.
SELECT requested_at AT TIME ZONE 'UTC', cursor, visited, finished_at AT TIME ZONE 'UTC', fingerprint,
    due_only, ahead AT TIME ZONE 'UTC', skipped, held_before AT TIME ZONE 'UTC'
FROM {schema}.escalation_recalc

-- name: save_recalc
-- Write how far the recalculation is.
UPDATE {schema}.escalation_recalc SET
    requested_at = %(requested_at)s, cursor = %(cursor)s, visited = %(visited)s, finished_at = %(finished_at)s,
    fingerprint = %(fingerprint)s, due_only = %(due_only)s, ahead = %(ahead)s, skipped = %(skipped)s, held_before = %(held_before)s

-- name: pauses
-- Operators' pauses that have not ended, in the order in which they were set.
SELECT starts_at AT TIME ZONE 'UTC', ends_at AT TIME ZONE 'UTC', actor, reason, lifts_schedule
FROM {schema}.escalation_pauses WHERE ends_at > %(now)s ORDER BY id

-- name: add_pause
-- Insert a pause.
INSERT INTO {schema}.escalation_pauses (starts_at, ends_at, actor, reason, lifts_schedule)
VALUES (%(starts_at)s, %(ends_at)s, %(actor)s, %(reason)s, %(lifts_schedule)s)

-- name: end_pauses
-- End the pauses now. Rows that lift the schedule stay.
UPDATE {schema}.escalation_pauses SET ends_at = greatest(starts_at, %(now)s) WHERE ends_at > %(now)s AND NOT lifts_schedule

-- name: shift_pauses
-- A pause begins when an operator sets it. So a pause that begins later than now was set before the clock stepped back.
UPDATE {schema}.escalation_pauses SET starts_at = least(starts_at - %(step)s, %(now)s), ends_at = ends_at - %(step)s
WHERE starts_at > %(now)s

-- name: delete_expired_requests
-- Delete some ids that have expired, except those that others are just deleting.
DELETE FROM {schema}.escalation_requests WHERE message_id = ANY(ARRAY(
    SELECT message_id FROM {schema}.escalation_requests WHERE expires_at <= %(now)s
    ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED))

-- name: claim_request_id
-- Insert a request's id, unless it is there.
INSERT INTO {schema}.escalation_requests (message_id, expires_at) VALUES (%(message_id)s, %(expires)s)
ON CONFLICT DO NOTHING

-- name: standing
-- A part of other statements: whether the incident of d is open, the episode of its row, and the highest recorded episode.
coalesce(i.is_open, false), i.episode,
    coalesce((SELECT max(e.episode) FROM {schema}.escalation_events e WHERE e.incident_key = d.incident_key), 0)

-- name: old_escalations
-- A batch of old escalations. Their pages are locked, so that no operator queues one again meanwhile.
WITH seen AS MATERIALIZED (
    SELECT d.id, d.incident_key, d.episode, d.level FROM {schema}.escalation_events d
    WHERE d.id > %(after)s AND d.created_at < %(before)s ORDER BY d.id LIMIT %(limit)s
), pages AS MATERIALIZED (
    SELECT p.incident_key, p.episode, p.level, p.state, p.due_at FROM seen d JOIN {schema}.escalation_pages p
    ON p.incident_key = d.incident_key AND p.episode = d.episode AND p.level = d.level FOR NO KEY UPDATE OF p
), grouped AS (
    SELECT incident_key, episode, level, bool_or(state IN ('pending', 'leased', 'cancelling')) AS unsettled,
        max(due_at) AS settled_at
    FROM pages GROUP BY incident_key, episode, level
)
SELECT d.id, d.incident_key, d.episode, {standing}, coalesce(g.unsettled, false), g.settled_at AT TIME ZONE 'UTC'
FROM seen d
LEFT JOIN grouped g ON g.incident_key = d.incident_key AND g.episode = d.episode AND g.level = d.level
LEFT JOIN LATERAL (
    SELECT i.{episode} AS episode, {is_open} AS is_open
    FROM {incidents} i WHERE i.{incident_key} = d.incident_key::{key_type} LIMIT 1
) i ON true
ORDER BY d.id

-- name: old_notes
-- A batch of old audit entries.
SELECT d.id, d.incident_key, d.episode, {standing}, false, NULL::timestamp
FROM (
    SELECT * FROM {schema}.escalation_audit WHERE id > %(after)s AND at < %(before)s ORDER BY id LIMIT %(limit)s
) d
LEFT JOIN LATERAL (
    SELECT i.{episode} AS episode, {is_open} AS is_open
    FROM {incidents} i WHERE i.{incident_key} = d.incident_key::{key_type} LIMIT 1
) i ON true
ORDER BY d.id

-- name: delete_escalations
-- Delete escalations together with their pages.
WITH gone AS (
    DELETE FROM {schema}.escalation_events d WHERE d.id = ANY(%(ids)s::bigint[])
    RETURNING d.incident_key, d.episode, d.level
), pages AS (
    DELETE FROM {schema}.escalation_pages p USING gone g
    WHERE p.incident_key = g.incident_key AND p.episode = g.episode AND p.level = g.level RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM pages)

-- name: delete_notes
-- Delete audit entries.
DELETE FROM {schema}.escalation_audit WHERE id = ANY(%(ids)s::bigint[])

-- name: delete_pauses
-- Delete pauses that ended before the instant.
DELETE FROM {schema}.escalation_pauses WHERE ends_at < %(before)s

-- name: delete_expired
-- Delete every request's id that has expired.
DELETE FROM {schema}.escalation_requests WHERE expires_at <= %(now)s

-- name: integrity
-- The number of escalations, of different escalations, of escalations without a page, of pages without an escalation, and
-- of pages that are there twice.
SELECT (SELECT count(*) FROM {schema}.escalation_events),
    (SELECT count(*) FROM (SELECT DISTINCT incident_key, episode, level FROM {schema}.escalation_events) AS one),
    lone.own, lone.adopted,
    (SELECT count(*) FROM {schema}.escalation_pages p WHERE NOT EXISTS (
        SELECT FROM {schema}.escalation_events e
        WHERE e.incident_key = p.incident_key AND e.episode = p.episode AND e.level = p.level)),
    (SELECT count(*) FROM {schema}.escalation_pages) - (SELECT count(*) FROM (
        SELECT DISTINCT incident_key, episode, level, target FROM {schema}.escalation_pages) AS one)
FROM (
    SELECT count(*) FILTER (WHERE e.id > was.adopted) AS own, count(*) FILTER (WHERE e.id <= was.adopted) AS adopted
    FROM {schema}.escalation_events e
    CROSS JOIN (
        SELECT coalesce(max(m.value::bigint), 0) AS adopted FROM {schema}.escalation_meta m WHERE m.name = 'adopted'
    ) AS was
    WHERE e.outcome IS DISTINCT FROM {nobody} AND NOT EXISTS (
        SELECT FROM {schema}.escalation_pages p
        WHERE p.incident_key = e.incident_key AND p.episode = e.episode AND p.level = e.level)
) AS lone

-- name: integrity_pages
-- Pages by state.
SELECT state, count(*) FROM {schema}.escalation_pages GROUP BY 1 ORDER BY 1

-- name: hit
-- Count one request: it is allowed if fewer than the limit were within the window. Delete some idle keys. The request's
-- instant is read once it has the row's lock: the transaction's instant would lie before the requests that it waited for.
WITH quiet AS (
    DELETE FROM {schema}.escalation_rate_limits WHERE key = ANY(ARRAY(
        SELECT key FROM {schema}.escalation_rate_limits WHERE expires_at <= now() AND key <> %(key)s
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))
)
INSERT INTO {schema}.escalation_rate_limits AS r (key, hits, allowed, expires_at) VALUES (
    %(key)s, CASE WHEN %(count)s > 0 THEN ARRAY[clock_timestamp()] ELSE ARRAY[]::timestamptz[] END, %(count)s > 0,
    clock_timestamp() + %(window)s)
ON CONFLICT (key) DO UPDATE SET (hits, allowed, expires_at) = (
    SELECT CASE WHEN cardinality(kept.hits) < %(count)s THEN kept.hits || turn.at ELSE kept.hits END,
        cardinality(kept.hits) < %(count)s, turn.at + %(window)s
    FROM (SELECT clock_timestamp() AS at OFFSET 0) AS turn
    CROSS JOIN LATERAL (
        SELECT ARRAY(SELECT h FROM unnest(r.hits) AS h WHERE h > turn.at - %(window)s AND h <= turn.at ORDER BY h) AS hits
    ) AS kept
)
RETURNING allowed, cardinality(hits),
    coalesce(hits[greatest(cardinality(hits) - %(count)s + 1, 1)] + %(window)s, expires_at) - (expires_at - %(window)s)

-- name: delete_limits
-- Delete every idle key.
DELETE FROM {schema}.escalation_rate_limits WHERE expires_at <= now()

-- name: keep
-- Insert texts of versions that are not there yet. No unique key makes this wait for another transaction that inserts the same
-- text: then it is there twice.
INSERT INTO {schema}.escalation_policies (digest, text, kept_at)
SELECT v.digest, v.text, %(now)s FROM unnest(%(digests)s::text[], %(texts)s::text[]) AS v (digest, text)
WHERE NOT EXISTS (SELECT FROM {schema}.escalation_policies p WHERE p.digest = v.digest)

-- name: versions
-- Versions by digest. Of a text that is there twice, the first one counts.
SELECT DISTINCT ON (p.digest) p.digest, p.text, p.kept_at AT TIME ZONE 'UTC'
FROM {schema}.escalation_policies p WHERE p.digest = ANY(%(digests)s::text[]) ORDER BY p.digest, p.kept_at, p.id

-- name: positions
-- The position of the last escalation of each policy in some episodes, from the index of the ledger.
SELECT DISTINCT ON (v.key, v.episode, e.policy) v.key, v.episode, e.policy, e.position
FROM unnest(%(keys)s::text[], %(episodes)s::int[]) AS v (key, episode)
CROSS JOIN LATERAL (
    SELECT coalesce(e.policy, {builtin}) AS policy, coalesce(e.position, e.level) AS position, e.level
    FROM {schema}.escalation_events e WHERE e.incident_key = v.key AND e.episode = v.episode
) e
ORDER BY v.key, v.episode, e.policy, e.level DESC

-- name: pinned
-- Rows that are not resolved and pinned to a policy, by key.
SELECT {row}, 0, 0 FROM {incidents} i
WHERE i.{incident_key} IS NOT NULL AND (%(after)s::text IS NULL OR i.{incident_key} > %(after)s::text::{key_type})
    AND i.{policy_pin} IS NOT NULL AND {is_unresolved}
    AND split_part(ltrim(i.{policy_pin}, '!'), '@', 1) = %(policy)s AND i.{policy_pin} LIKE '%@%@%'
ORDER BY i.{incident_key} LIMIT %(limit)s

-- name: record_digest
-- Write a worker's policies file beside its heartbeat; return when an operator last asked for a reload.
WITH written AS (
    UPDATE {schema}.escalation_workers SET policies = %(digest)s
    WHERE worker = %(worker)s AND policies IS DISTINCT FROM %(digest)s
)
SELECT r.reload_requested_at AT TIME ZONE 'UTC' FROM {schema}.escalation_recalc r

-- name: request_reload
-- Write when an operator asked for a reload.
UPDATE {schema}.escalation_recalc SET reload_requested_at = %(now)s

-- name: unknown_policies
-- Incidents whose host names a policy that was noted as unknown, by that name.
SELECT left(i.{policy}::text, %(chars)s) COLLATE "C" AS name, count(DISTINCT i.{incident_key})
FROM {schema}.escalation_audit a JOIN {incidents} i ON i.{incident_key} = a.incident_key::{key_type}
WHERE a.action = 'unknown_policy' AND a.episode = i.{episode} AND {is_unresolved}
    AND a.reason = left(i.{policy}::text, %(chars)s)
    AND split_part(ltrim(i.{policy_pin}, '!'), '@', 1) IS DISTINCT FROM i.{policy}::text
GROUP BY name ORDER BY 2 DESC, name LIMIT %(limit)s

-- name: add_override
-- Insert a row that says who is on call for a while.
INSERT INTO {schema}.escalation_overrides (schedule, person, starts_at, ends_at, made_at, actor, reason)
VALUES (%(schedule)s, %(person)s, %(starts_at)s, %(ends_at)s, %(made_at)s, %(actor)s, %(reason)s)

-- name: overrides
-- Overrides that have not ended, in the order in which they were made.
SELECT schedule, person, starts_at AT TIME ZONE 'UTC', ends_at AT TIME ZONE 'UTC', made_at AT TIME ZONE 'UTC', actor, reason
FROM {schema}.escalation_overrides WHERE ends_at > %(now)s ORDER BY id

-- name: delete_overrides
-- Delete overrides that ended long ago.
DELETE FROM {schema}.escalation_overrides WHERE ends_at < %(before)s

-- name: walk_counts
-- Rows that were put off twice at their level, the notes of the last day, the workers' policies files, the escalations of the
-- last day whose levels named no one, and the last request.
SELECT
    (SELECT count(*) FROM (
        SELECT FROM {schema}.escalation_audit a JOIN {incidents} i ON i.{incident_key} = a.incident_key::{key_type}
        WHERE a.action = 'put_off' AND a.episode = i.{episode} AND a.level = i.{level} AND {is_open}
            AND a.reason = split_part(ltrim(i.{policy_pin}, '!'), '@', 1)
        GROUP BY i.{incident_key} HAVING count(*) > 1) AS off),
    (SELECT jsonb_object_agg(n.action, n.count) FROM (
        SELECT a.action, count(*) FROM {schema}.escalation_audit a
        WHERE a.action IN {lately} AND a.at > %(now)s - interval '1 day' GROUP BY a.action) AS n),
    (SELECT jsonb_object_agg(w.policies, w.count) FROM (
        SELECT coalesce(w.policies, '') AS policies, count(*) FROM {schema}.escalation_workers w
        WHERE w.ticked_at > %(now)s - %(runs)s GROUP BY 1) AS w),
    (SELECT count(*) FROM {schema}.escalation_events e
        WHERE e.outcome = 'default' AND e.created_at > %(now)s - interval '1 day'),
    (SELECT r.reload_requested_at AT TIME ZONE 'UTC' FROM {schema}.escalation_recalc r)

-- name: note_changes
-- Save what happened to incidents that have a page.
INSERT INTO {schema}.escalation_changes (kind, incident_key, episode, at, actor, first_seen)
SELECT v.kind, v.key, v.episode, v.at, v.actor, v.first_seen
FROM unnest(
    %(kinds)s::text[], %(keys)s::text[], %(episodes)s::int[], %(instants)s::timestamptz[], %(actors)s::text[],
    %(begins)s::timestamptz[]) AS v (kind, key, episode, at, actor, first_seen)
WHERE EXISTS (SELECT FROM {schema}.escalation_pages p WHERE p.incident_key = v.key)

-- name: ready_changes
-- Changes, oldest first, locked, with their incidents. A change waits while a page of its key is on its way, and behind an earlier
-- change of its key.
WITH picked AS MATERIALIZED (
    SELECT c.* FROM {schema}.escalation_changes c
    WHERE NOT EXISTS (
        SELECT FROM {schema}.escalation_pages p
        WHERE p.incident_key = c.incident_key AND p.due_at > %(now)s
            -- A claim and a host's transaction do not see each other's rows: a page may be leased, and not be cancelling.
            AND (p.state = 'cancelling' OR p.state = 'leased' AND p.episode <= c.episode))
    ORDER BY c.id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
SELECT c.id, c.kind, c.incident_key, c.episode, c.at AT TIME ZONE 'UTC', c.actor, c.first_seen AT TIME ZONE 'UTC',
    i.{incident_key} IS NOT NULL, {row}
FROM picked c LEFT JOIN LATERAL (
    SELECT {columns} FROM {incidents} i WHERE i.{incident_key} = c.incident_key::{key_type} LIMIT 1
) i ON true
WHERE NOT EXISTS (
    SELECT FROM {schema}.escalation_changes o
    WHERE o.incident_key = c.incident_key AND o.id < c.id AND NOT EXISTS (SELECT FROM picked q WHERE q.id = o.id))
ORDER BY c.id

-- name: arrivals
-- The pages of some keys that were sent or may have been, of each episode and target the highest level of those that were delivered, or of all if none was,
-- unless the target knows that it is resolved.
SELECT p.incident_key, p.episode, p.target, coalesce(max(p.level) FILTER (WHERE p.state = 'delivered'), max(p.level)),
    bool_or(p.state = 'delivered')
FROM {schema}.escalation_pages p
WHERE p.incident_key = ANY(%(keys)s::text[]) AND (p.state IN ('leased', 'cancelling', 'delivered') OR p.fence > 1) AND NOT EXISTS (
    SELECT FROM {schema}.escalation_notices n
    WHERE n.incident_key = p.incident_key AND n.episode = p.episode AND n.target = p.target AND n.kind = 'resolved'
        AND n.state IN ('pending', 'leased', 'delivered'))
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3

-- name: enqueue_notices
-- Insert notices, each once per key and target, and one that an episode is resolved.
INSERT INTO {schema}.escalation_notices
    (kind, incident_key, episode, level, target, dedup_key, at, actor, first_seen, state, created_at, due_at, for_threads)
SELECT v.kind, v.key, v.episode, v.level, v.target, v.dedup_key, v.at, v.actor, v.first_seen, 'pending', %(now)s, %(now)s,
    v.for_threads
FROM unnest(
    %(kinds)s::text[], %(keys)s::text[], %(episodes)s::int[], %(levels)s::int[], %(targets)s::text[],
    %(dedup_keys)s::text[], %(instants)s::timestamptz[], %(actors)s::text[], %(begins)s::timestamptz[],
    %(for_threads)s::boolean[])
    AS v (kind, key, episode, level, target, dedup_key, at, actor, first_seen, for_threads)
ON CONFLICT DO NOTHING

-- name: delete_changes
-- Delete changes of which notices are made.
DELETE FROM {schema}.escalation_changes WHERE id = ANY(%(ids)s::bigint[])

-- name: claim_notices
-- Unsettled notices that are due, up to the capacity of each target, locked, with their incidents, and whether a newer one about
-- the same episode follows.
WITH picked AS MATERIALIZED (
    SELECT n.* FROM unnest(%(targets)s::text[], %(capacities)s::int[]) AS r (target, capacity) CROSS JOIN LATERAL (
        SELECT n.* FROM {schema}.escalation_notices n
        WHERE n.target = r.target AND n.state IN ('pending', 'leased') AND n.due_at <= %(until)s
        ORDER BY n.due_at, n.id LIMIT r.capacity FOR NO KEY UPDATE SKIP LOCKED
    ) n
)
SELECT {notice},
    EXISTS (
        SELECT FROM {schema}.escalation_notices f
        WHERE f.incident_key = n.incident_key AND f.episode = n.episode AND f.target = n.target AND f.id > n.id),
    i.{incident_key} IS NOT NULL, {row}
FROM picked n LEFT JOIN LATERAL (
    SELECT {columns} FROM {incidents} i WHERE i.{incident_key} = n.incident_key::{key_type} LIMIT 1
) i ON true
ORDER BY n.due_at, n.id

-- name: write_notices
-- Write locked notices.
UPDATE {schema}.escalation_notices n SET
    state = v.state, due_at = v.due_at, fence = v.fence, attempts = v.attempts, reason = v.reason, bundle = v.bundle
FROM unnest(
    %(ids)s::bigint[], %(states)s::text[], %(dues)s::timestamptz[], %(fences)s::int[], %(attempts)s::int[],
    %(reasons)s::text[], %(bundles)s::text[]) AS v (id, state, due_at, fence, attempts, reason, bundle)
WHERE n.id = v.id AND n.id = ANY(%(ids)s::bigint[])

-- name: settle_notices
-- Write notices whose fence is still the one before.
UPDATE {schema}.escalation_notices n SET
    state = v.state, due_at = v.due_at, fence = v.fence, attempts = v.attempts, reason = v.reason, bundle = v.bundle
FROM unnest(
    %(ids)s::bigint[], %(states)s::text[], %(dues)s::timestamptz[], %(fences)s::int[], %(attempts)s::int[],
    %(reasons)s::text[], %(bundles)s::text[]) AS v (id, state, due_at, fence, attempts, reason, bundle)
WHERE n.id = v.id AND n.id = ANY(%(ids)s::bigint[]) AND n.fence = v.fence - 1 RETURNING n.id

-- name: expire_notices
-- End notices that are too old, unless a sender has them. Those that others have locked are left to a later call.
UPDATE {schema}.escalation_notices n SET state = 'expired', due_at = %(now)s, fence = n.fence + 1
WHERE n.id = ANY(ARRAY(
    SELECT e.id FROM {schema}.escalation_notices e
    WHERE e.state IN ('pending', 'leased') AND (e.state = 'pending' OR e.due_at <= %(now)s)
        AND e.created_at < CASE e.kind WHEN 'resolved' THEN %(resolved_before)s::timestamptz ELSE %(before)s END
    FOR NO KEY UPDATE SKIP LOCKED))

-- name: shift_notices
-- A notice is made at the present instant. So one that was made later than now was made before the clock stepped back. The due
-- instant of another one may have been set before the step.
UPDATE {schema}.escalation_notices n SET
    created_at = CASE WHEN n.created_at > %(now)s THEN n.created_at - %(step)s::interval ELSE n.created_at END,
    due_at = n.due_at - %(step)s::interval
WHERE n.id = ANY(ARRAY(
    SELECT e.id FROM {schema}.escalation_notices e
    WHERE e.state IN ('pending', 'leased')
        AND (e.created_at > %(now)s OR e.state = 'pending' AND e.due_at > %(now)s)
    FOR NO KEY UPDATE SKIP LOCKED))

-- name: notices
-- Notices by id.
SELECT {notice} FROM {schema}.escalation_notices n
WHERE n.id > %(after)s AND (%(state)s::text IS NULL OR n.state = %(state)s::text)
    AND (%(target)s::text IS NULL OR n.target = %(target)s::text)
    AND (%(bundle)s::text IS NULL OR starts_with(n.bundle, %(bundle)s::text))
ORDER BY n.id LIMIT %(limit)s

-- name: notices_of_key
-- The notices of one key, from their index.
SELECT {notice} FROM {schema}.escalation_notices n
WHERE n.incident_key = %(key)s AND n.id > %(after)s AND (%(state)s::text IS NULL OR n.state = %(state)s::text)
    AND (%(target)s::text IS NULL OR n.target = %(target)s::text)
    AND (%(bundle)s::text IS NULL OR starts_with(n.bundle, %(bundle)s::text))
ORDER BY n.id LIMIT %(limit)s

-- name: notice_counts
-- The unsettled notices, and those that were settled since, by state.
SELECT state, count(*) FROM {schema}.escalation_notices WHERE state IN ('pending', 'leased') GROUP BY 1
UNION ALL
SELECT state, count(*) FROM {schema}.escalation_notices
WHERE state IN ('delivered', 'dead', 'expired') AND due_at >= %(since)s GROUP BY 1

-- name: delete_notices
-- Delete notices that were settled long ago, unless a page of their episode is still there.
DELETE FROM {schema}.escalation_notices n
WHERE n.state IN ('delivered', 'dead', 'expired') AND n.due_at < %(before)s AND NOT EXISTS (
    SELECT FROM {schema}.escalation_pages p WHERE p.incident_key = n.incident_key AND p.episode = n.episode)

-- name: delete_notices_by_id
-- Delete locked notices.
DELETE FROM {schema}.escalation_notices WHERE id = ANY(%(ids)s::bigint[])

-- name: delete_old_changes
-- Delete changes of which no worker made notices.
DELETE FROM {schema}.escalation_changes WHERE at < %(before)s
