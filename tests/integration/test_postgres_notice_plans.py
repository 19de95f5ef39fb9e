"""Tests of PostgreSQL's plans for notices: neither a tick nor a delivery reads a whole table."""

from datetime import UTC, datetime

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.statements import statements

from .test_postgres_plans import nodes

NOTICES = (
    *("note_changes", "ready_changes", "arrivals", "delete_changes", "find_due_notices", "claim_notices", "look"),
    *("write_notices", "settle_notices", "expire_notices", "shift_notices", "notices", "notices_of_key"),
    *("notice_counts", "delete_notices", "delete_notices_by_id"),
)
"""The statements of notices."""
ROWS = """
INSERT INTO incidents (incident_key, severity, first_seen)
SELECT 'k' || n, 'critical', now() FROM generate_series(1, 30000) AS n;
INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at, fence)
SELECT 'k' || n, 1, 1, 'ops', 'd' || n, 'delivered', now(), now(), 2 FROM generate_series(1, 30000) AS n;
INSERT INTO escalation_changes (kind, incident_key, episode, at)
SELECT 'resolved', 'k' || n, 1, now() FROM generate_series(1, 30000) AS n;
INSERT INTO escalation_notices
    (kind, incident_key, episode, level, target, dedup_key, at, state, created_at, due_at)
SELECT 'resolved', 'k' || n, 1, 1, 'ops', 'd' || n, now(),
    CASE WHEN n % 3 = 0 THEN 'pending' ELSE 'delivered' END, now(), now() FROM generate_series(1, 30000) AS n;
"""


@pytest.mark.parametrize("analyzed", [False, True])
async def test_notices_read_no_whole_table(migrated_dsn: str, analyzed: bool) -> None:
    """The engine makes, claims and settles notices by indexes, with and without statistics of the tables."""
    with psycopg.connect(migrated_dsn) as connection:
        connection.execute(ROWS)
    store = await PostgresStore.connect(migrated_dsn)
    texts = statements(store.table)
    await store.aclose()
    now, count = datetime.now(UTC), 100
    values: dict[str, object] = {
        "kinds": ["resolved"] * count, "keys": [f"k{number}" for number in range(count)], "episodes": [1] * count,
        "instants": [now] * count, "actors": [None] * count, "begins": [now] * count, "ids": list(range(count)),
        "states": ["leased"] * count, "dues": [now] * count, "fences": [1] * count, "attempts": [0] * count,
        "reasons": [None] * count, "bundles": [None] * count, "targets": ["ops"], "capacities": [100], "limit": 1000,
        "until": now, "now": now, "before": now, "resolved_before": now, "step": "1 s", "after": 0, "since": now,
        "key": "k1", "state": None, "target": None, "bundle": None, "pages": True, "at": None, "buckets": None,
    }  # fmt: skip
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        if analyzed:
            connection.execute("ANALYZE")
        with connection.transaction():
            connection.execute(texts["begin"], {"at": None, "idle": "60s", "by_index": True})
            for mode in ("force_custom_plan", "force_generic_plan"):
                connection.execute(f"SET LOCAL plan_cache_mode = {mode}".encode())
                for name in NOTICES:
                    row = connection.execute(b"EXPLAIN (FORMAT JSON) " + texts[name], values, prepare=True).fetchone()
                    assert row is not None
                    whole = {scanned for kind, scanned in nodes(row[0][0]["Plan"]) if kind == "Seq Scan"}
                    assert set() == whole - {"escalation_targets", "escalation_unreadable"}, (name, mode)  # few rows
