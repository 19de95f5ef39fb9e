"""The store refuses to work if a policy may hide rows from its role. It names the remedy, and no page is lost."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from escalation_adapters.postgres import CannotAttach, PostgresStore, migrate
from escalation_adapters.worker import runner
from escalation_core import Engine, StoreNotReady
from escalation_core.model import Canary
from escalation_core.testing import RecordingNotifier

from .stage import Stage, role, staged, until

REMEDY = "row.level security.*BYPASSRLS"
ON = "ALTER TABLE {} ENABLE ROW LEVEL SECURITY"
OFF = "ALTER TABLE {} DISABLE ROW LEVEL SECURITY"
POLICIES = {
    "none": "SELECT",
    "part": "CREATE POLICY part ON incidents USING (severity = 'warning')",
    "all": "CREATE POLICY everything ON incidents USING (true)",
}
OURS = ["escalation_pages", "escalation_events", "escalation_audit", "escalation_targets", "escalation_unreadable"]


@pytest.fixture
def grants() -> str:
    """Return the rights that the docs give to a worker's role."""
    page = (Path(__file__).parents[2] / "docs/how-to/migrate-and-attach.md").read_text(encoding="utf-8")
    [granted] = [block for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "GRANT" in block]
    return str(granted).replace("CURRENT_USER", "{role}")


@pytest.fixture
def worker(migrated_dsn: str, grants: str) -> Iterator[tuple[str, str]]:
    """Return a worker's role and the DSN by which it logs in."""
    with role(migrated_dsn, grants=grants) as made:
        yield made


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def connect(dsn: str) -> None:
    """Connect a store, and close it if the connection succeeds."""
    store = await PostgresStore.connect(dsn)
    await store.aclose()


# --- attaching


@pytest.mark.parametrize(
    "remedy", ["ALTER ROLE {role} BYPASSRLS", "ALTER TABLE app.incidents NO FORCE ROW LEVEL SECURITY"]
)
async def test_attaching_as_a_role_that_a_policy_applies_to_is_refused(remedy: str, pg_dsn: str) -> None:
    """``migrate.up`` refuses an owner under FORCE ROW LEVEL SECURITY and changes nothing. Either remedy lets it run."""
    with role(pg_dsn) as (name, dsn):
        execute(
            pg_dsn,
            f"CREATE SCHEMA app AUTHORIZATION {name}",
            "CREATE TABLE app.incidents (incident_key text PRIMARY KEY, severity text, first_seen timestamptz)",
            f"ALTER TABLE app.incidents OWNER TO {name}",
            ON.format("app.incidents"),
            "ALTER TABLE app.incidents FORCE ROW LEVEL SECURITY",
        )
        with pytest.raises(CannotAttach, match=REMEDY):
            await migrate.up(dsn, schema="app", create=True)
        with psycopg.connect(pg_dsn) as connection:
            assert (None,) == connection.execute("SELECT to_regclass('app.escalation_migrations')").fetchone()
        execute(pg_dsn, remedy.replace("{role}", name))
        await migrate.up(dsn, schema="app", create=True)
        execute(pg_dsn, "INSERT INTO app.incidents VALUES ('k', 'critical', now() - interval '10 minutes')")
        notifier = RecordingNotifier()
        async with Engine(await PostgresStore.connect(dsn, schema="app"), notifiers=[notifier]) as engine:
            await engine.tick()
            assert ["k"] == [page.incident.incident_key for page in notifier.pages]
            assert (await engine.health()).ok


# --- at the start


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_role_that_a_policy_applies_to_cannot_connect(
    policy: str, migrated_dsn: str, worker: tuple[str, str]
) -> None:
    """The store refuses to connect under each policy, even if the policy shows all rows. With BYPASSRLS it connects."""
    name, dsn = worker
    execute(migrated_dsn, ON.format("incidents"), POLICIES[policy])
    with pytest.raises(StoreNotReady, match=REMEDY):
        await connect(dsn)
    execute(migrated_dsn, f"ALTER ROLE {name} BYPASSRLS")
    async with staged(migrated_dsn, store_dsn=dsn) as stage:
        stage.incident("k")
        assert [("k", 1, 1)] == await stage.tick()


@pytest.mark.parametrize("table", OURS)
async def test_a_policy_on_a_table_of_the_engines_own_is_refused(
    table: str, migrated_dsn: str, worker: tuple[str, str]
) -> None:
    """The store also refuses row level security on one of the engine's own tables, and names that table."""
    execute(migrated_dsn, ON.format(table))
    with pytest.raises(StoreNotReady, match=f"{table}.*BYPASSRLS"):
        await connect(worker[1])


async def test_what_a_session_sets_for_row_security_changes_nothing(migrated_dsn: str, worker: tuple[str, str]) -> None:
    """If the role sets row_security to off, the store works, and refuses a policy with the same error as otherwise."""
    name, dsn = worker
    execute(migrated_dsn, f"ALTER ROLE {name} SET row_security = off")
    async with staged(migrated_dsn, store_dsn=dsn) as stage:
        stage.incident("k")
        assert [("k", 1, 1)] == await stage.tick()
        execute(migrated_dsn, ON.format("incidents"))
        with pytest.raises(StoreNotReady, match=REMEDY):
            await stage.engine.store.next_due(canary=Canary())
        with pytest.raises(StoreNotReady, match=REMEDY):
            await stage.tick()


# --- while an engine runs

DOES: dict[str, Callable[[Engine], Awaitable[Any]]] = {
    "check": lambda engine: engine.store.check(),
    "tick": lambda engine: engine.tick(),
    "dry run": lambda engine: engine.tick(dry_run=True),
    "deliver": lambda engine: engine.deliver(),
    "health": lambda engine: engine.health(),
    "is_healthy": lambda engine: engine.is_healthy(),
    "acknowledge": lambda engine: engine.acknowledge("k"),
    "recalc": lambda engine: engine.recalc(),
    # The calls below do not check first whether the store is ready.
    "claim of pages": lambda engine: engine._delivery.start_due(),
    "look": lambda engine: engine.store.next_due(canary=Canary()),
    "look in a canary": lambda engine: engine.store.next_due(canary=Canary(50)),
    "read": lambda engine: engine.store.read(lambda tx: tx.incidents.load("k", lock=False)),
    "transact": lambda engine: engine.store.transact(lambda tx: tx.incidents.load("k")),
}


@pytest.mark.parametrize("what", DOES)
async def test_a_policy_that_is_switched_on_under_way_is_refused(
    what: str, migrated_dsn: str, worker: tuple[str, str]
) -> None:
    """Each call is refused with the remedy and cancels no page. Once the policy is off, the page goes out."""
    async with staged(migrated_dsn, store_dsn=worker[1]) as stage:
        stage.incident("k")
        await stage.engine.tick(deliver=False)
        execute(migrated_dsn, ON.format("incidents"))
        with pytest.raises(StoreNotReady, match=REMEDY):
            await DOES[what](stage.engine)
        assert [(1, "pending", None)] == stage.pages("k")
        execute(migrated_dsn, OFF.format("incidents"))
        assert [("k", 1, 1)] == await stage.tick()


async def test_the_runner_tells_of_a_policy_that_is_switched_on(
    migrated_dsn: str, worker: tuple[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner logs the policy as critical and cancels no page. Once the policy is off, the page goes out."""
    monkeypatch.setattr(runner, "FIRST_WAIT", timedelta(seconds=0.01))
    async with staged(migrated_dsn, store_dsn=worker[1]) as stage:
        stage.incident("k")
        await stage.engine.tick(deliver=False)
        execute(migrated_dsn, ON.format("incidents"), POLICIES["part"])
        stop = asyncio.Event()
        running = asyncio.create_task(runner.run(stage.engine, stop=stop, signals=False))
        try:
            await until(lambda: any(record.levelno == logging.CRITICAL for record in caplog.records))
            assert re.search(REMEDY, caplog.text)
            assert [(1, "pending", None)] == stage.pages("k")
            execute(migrated_dsn, OFF.format("incidents"))
            await until(lambda: [(1, "delivered", None)] == stage.pages("k"))
        finally:
            stop.set()
            await running


@pytest.mark.parametrize("table", ["escalation_pages", "escalation_events", "escalation_unreadable"])
async def test_a_policy_on_our_own_table_hides_nothing_under_way(
    table: str, migrated_dsn: str, worker: tuple[str, str]
) -> None:
    """A policy on a table of the engine makes a statement fail instead of hiding rows, without a check beforehand."""
    async with staged(migrated_dsn, store_dsn=worker[1]) as stage:
        stage.incident("k")
        await stage.engine.tick(deliver=False)
        execute(migrated_dsn, ON.format(table))

        async def work(tx: Any) -> None:
            await tx.outbox.claim({"test": 9}, now=stage.clock(), until=stage.clock())
            await tx.ledger.highest([("k", 1)])
            await tx.incidents.claim(until=stage.clock(), limit=1, canary=Canary())

        with pytest.raises(StoreNotReady, match="BYPASSRLS"):
            await stage.engine.store.transact(work)
        with pytest.raises(StoreNotReady, match=f"{table}.*BYPASSRLS"):
            await stage.engine.store.check()
        execute(migrated_dsn, OFF.format(table))
        assert [("k", 1, 1)] == await stage.tick()


async def test_who_owns_the_table_sees_it_but_under_force(migrated_dsn: str, grants: str) -> None:
    """Policies do not apply to the table's owner, so ticks page. Under FORCE ROW LEVEL SECURITY the store refuses."""
    with role(migrated_dsn, grants=grants) as (name, dsn):
        execute(migrated_dsn, f"ALTER TABLE incidents OWNER TO {name}", ON.format("incidents"))
        async with staged(migrated_dsn, store_dsn=dsn) as stage:
            stage.incident("k")
            assert [("k", 1, 1)] == await stage.tick()
            await _forced(stage)


async def _forced(stage: Stage) -> None:
    execute(stage.dsn, "ALTER TABLE incidents FORCE ROW LEVEL SECURITY")
    with pytest.raises(StoreNotReady, match=REMEDY):
        await stage.tick()
    execute(stage.dsn, "ALTER TABLE incidents NO FORCE ROW LEVEL SECURITY")
    stage.incident("other")
    assert [("other", 1, 1)] == await stage.tick()
