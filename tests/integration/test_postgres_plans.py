"""Tests of PostgreSQL's plans: no claim and no delivery reads a whole table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.statements import statements

from .workers import execute


def nodes(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the scans of a plan: each node's type with the table's or the index's name."""
    name = plan.get("Index Name") or plan.get("Relation Name") or ""
    return [(plan["Node Type"], name), *(found for child in plan.get("Plans", ()) for found in nodes(child))]


@pytest.mark.parametrize("due", ["few", "all"])
async def test_claims_are_served_from_the_partial_indexes(migrated_dsn: str, due: str) -> None:
    """On 50,000 rows each claim uses its index and reads no whole table, whether few or all rows are due.

    This holds for custom and for generic plans.
    """
    execute(
        migrated_dsn,
        """
        INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
        SELECT 'k' || n, 'critical', now(),
            CASE WHEN n %% 5 < 3 THEN now() + make_interval(secs => CASE WHEN %(all)s THEN -n ELSE n - 60 END) END
        FROM generate_series(1, 50000) AS n
        """,
        all=due == "all",
    )
    store = await PostgresStore.connect(migrated_dsn)
    texts = statements(store.table)
    await store.aclose()
    values: dict[str, object] = {"until": datetime.now(UTC), "limit": 1000, "pages": True, "at": None}
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute("ANALYZE incidents")
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}".encode())
            for name, buckets, index in (
                ("claim", None, "escalation_due"),
                ("look", None, "escalation_due"),
                ("claim_canary", "{0,1,2}", "escalation_canary"),
                ("look_canary", "{0,1,2}", "escalation_canary"),
            ):
                values["buckets"] = buckets
                row = connection.execute(b"EXPLAIN (FORMAT JSON) " + texts[name], values, prepare=True).fetchone()
                assert row is not None
                scans = nodes(row[0][0]["Plan"])
                assert [] == [scan for scan in scans if scan == ("Seq Scan", "incidents")], (name, mode)
                assert index in {scanned for kind, scanned in scans if "Index" in kind}, (name, mode)


DELIVERY = (
    *("find_due_targets", "lock_targets", "claim_pages", "claim_late", "count_waiting", "lock_bundle", "count_bundle"),
    *("lock_pages", "write_pages", "settle_pages", "find_unheard", "pages_unsettled"),
    "pages_of_bundle",
)
"""The statements of delivery, and of its lists."""


@pytest.mark.parametrize("analyzed", [False, True])
async def test_delivery_reads_no_whole_table(migrated_dsn: str, analyzed: bool) -> None:
    """The engine claims, leases and settles pages by indexes, also their incidents, with and without statistics.

    Before version 17 PostgreSQL reads a table of 10,000 pages whole for 100 ids, since that is cheap.
    """
    execute(
        migrated_dsn,
        """
        INSERT INTO incidents (incident_key, severity, first_seen) SELECT 'k' || n, 'critical', now()
        FROM generate_series(1, 30000) AS n
        """,
    )
    execute(
        migrated_dsn,
        """
        INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at)
        SELECT 'k' || n, 1, 1, 'ops', 'd' || n, 'pending', now(), now() FROM generate_series(1, 30000) AS n
        """,
    )
    store = await PostgresStore.connect(migrated_dsn)
    texts = statements(store.table)
    await store.aclose()
    ids = list(range(1, 101))
    page = {"state": "leased", "due": datetime.now(UTC), "fence": 1, "attempts": 0, "tried": "0 s", "reason": None}
    columns = {"states": "state", "dues": "due", "fences": "fence", "reasons": "reason"}
    columns |= {"attempts": "attempts", "tried": "tried"}
    values: dict[str, object] = {name: [page[column]] * len(ids) for name, column in columns.items()}
    values |= {"ids": ids, "targets": ["ops"], "capacities": [100], "now": page["due"], "until": page["due"]}
    values |= {"starved": page["due"], "since": page["due"], "hand_overs": [None] * 100, "bundles": [None] * 100}
    values |= {
        "limits": [11],
        "limit": 50,
        "bundle": "b",
        "beyond": "bg",
        "state": "pending",
        "target": "ops",
        "after": 0,
    }
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        if analyzed:
            connection.execute("ANALYZE")
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}".encode())
            for name in DELIVERY:
                row = connection.execute(b"EXPLAIN (FORMAT JSON) " + texts[name], values, prepare=True).fetchone()
                assert row is not None
                whole = {scanned for kind, scanned in nodes(row[0][0]["Plan"]) if kind == "Seq Scan"}
                assert set() == whole - {"escalation_targets", "escalation_audit"}, (name, mode)  # they are empty


async def test_list_of_open_incidents_is_served_from_indexes(migrated_dsn: str) -> None:
    """On 50,000 open rows each part of the list reads its rows from an index, and the pages of its rows alone.

    This holds at the start of the list and in the middle of it, for custom and for generic plans.
    """
    execute(
        migrated_dsn,
        """
        INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
        SELECT 'k' || n, 'critical', now(), CASE WHEN n % 2 = 0 THEN now() + make_interval(secs => n) END
        FROM generate_series(1, 50000) AS n
        """,
    )
    execute(
        migrated_dsn,
        """
        INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at)
        SELECT 'k' || n, 1, 1, 'ops', 'd' || n, 'delivered', now(), now() FROM generate_series(1, 50000) AS n
        """,
    )
    execute(migrated_dsn, "UPDATE incidents SET next_due_at = NULL WHERE next_due_at = to_timestamp(0)")
    store = await PostgresStore.connect(migrated_dsn)
    texts = statements(store.table)
    await store.aclose()
    keys = [f"k{number}" for number in range(51)]
    start: dict[str, object] = {
        "limit": 51,
        "until": None,
        "begin": "-infinity",
        "end": None,
        "after_due": None,
        "after_key": None,
    }
    start |= {"after": None, "keys": keys, "episodes": [1] * len(keys)}
    middle = datetime.now(UTC) + timedelta(seconds=25_000)
    values = (start, start | {"begin": middle, "after_due": middle, "after_key": "k1", "after": "k25"})
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}".encode())
            for name, index in (
                ("list_due", "escalation_due"),
                ("list_not_due", "escalation_unseen"),
                ("pages_of_episodes", "escalation_pages_incident_key_episode_level_target_key"),
            ):
                for given in values:
                    row = connection.execute(b"EXPLAIN (FORMAT JSON) " + texts[name], given, prepare=True).fetchone()
                    assert row is not None
                    scans = nodes(row[0][0]["Plan"])
                    assert {"Seq Scan"} & {kind for kind, table in scans if table != "escalation_unreadable"} == set()
                    assert index in {scanned for _, scanned in scans}, (name, mode, scans)


async def test_a_claim_keeps_one_plan_also_from_empty_tables(migrated_dsn: str) -> None:
    """PostgreSQL keeps the plan of a claim. It reads by indexes, even if the tables were empty when it was made."""
    store = await PostgresStore.connect(migrated_dsn)
    texts = statements(store.table)
    await store.aclose()
    now = datetime.now(UTC)
    values = {"targets": ["a", "b"], "capacities": [16, 16], "until": now, "now": now, "starved": now}
    begin = {"at": None, "idle": "60s", "by_index": True}
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        for _ in range(10):
            with connection.transaction():
                connection.execute(texts["begin"], begin)
                connection.execute(texts["claim_pages"], values, prepare=True)
        plans = "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE '-- claim_pages%'"
        assert (5,) == connection.execute(plans).fetchone()
        with connection.transaction():
            connection.execute(texts["begin"], begin)
            connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            row = connection.execute(b"EXPLAIN (FORMAT JSON) " + texts["claim_pages"], values, prepare=True).fetchone()
            assert row is not None
            scans = nodes(row[0][0]["Plan"])
    assert "escalation_pages_worst" in {name for _, name in scans}
    assert [] == [name for kind, name in scans if kind == "Seq Scan"]


async def test_psycopg_keeps_the_parsed_form_of_each_statement(migrated_dsn: str) -> None:
    """No statement is longer than 4,096 characters: psycopg parses longer ones each time that they run."""
    store = await PostgresStore.connect(migrated_dsn)
    await store.aclose()
    assert [] == [name for name, text in statements(store.table).items() if len(text) > MAX_CACHED_STATEMENT_LENGTH]
