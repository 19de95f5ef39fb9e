"""The three stores agree after each step of any history."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from escalation_core import (
    Delivered,
    Engine,
    EscalationError,
    Outcome,
    Page,
    Policies,
    Retry,
    Settings,
    Store,
    canary_bucket,
)
from escalation_core.model import NEEDS_REPLAN, AuditRange, Canary, Incident, PageRecord, PageState
from escalation_core.ports import Transaction, walks_of
from escalation_core.testing import HostTable, ManualClock, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness
from tests.conformance.harnesses import MemoryHarness, PostgresHarness, SQLiteHarness

from ..postgres import Server

START = datetime(2025, 1, 1, tzinfo=UTC)
KEYS = ("a", "b/ü", "c|1")
SEVERITIES = ("critical", "warning", " Critical ", "odd")
MINUTES = st.integers(0, 40).map(lambda minutes: timedelta(minutes=minutes))
POLICY = Settings(max_level=3, snooze=timedelta(minutes=7))

NAMES = ("ops", "days", "builtin", "gone")
"""What a host may name as a policy; one name is unknown."""


def policies(gap: str) -> Policies:
    """Return a file. ``gap`` makes versions of its policies."""
    hourly = [{"days": "mon-sun", "from": f"{hour:02}:00", "to": f"{hour:02}:40"} for hour in range(24)]
    ops = {
        "levels": [{"after": "0m"}, {"after": gap, "to": ["t"]}],
        "repeat": {"times": 1, "after": "10m"},
        "ack_timeout": "15m",
    }
    days = {
        "levels": [{"after": gap, "deliver": "hourly"}, {"after": "5m"}],
        "clock": "hourly",
        "ack_timeout": "10m",
        "on_ack_expiry": "restart",
    }
    return Policies.from_mapping(
        {
            "policies": {"ops": ops, "days": days},
            "hours": {"hourly": {"zone": "Europe/Berlin", "windows": hourly}},
            "assign": [{"severity": "critical", "policy": "ops"}, {"severity": "warning", "policy": "days"}],
        }
    )


FILES = (policies("5m"), policies("12m"))
keys = st.sampled_from(KEYS)


class World:
    """One store with its engine, its notifier and the host's own access."""

    def __init__(self, harness: StoreHarness, store: Store, clock: ManualClock, file: Policies | None = None) -> None:
        self.store = store
        self.clock = clock
        self.host: HostTable = harness.host(store)
        self.failing = False
        self.notifier = RecordingNotifier("t", answer=self._answer)
        settings = POLICY if file is None else attrs.evolve(POLICY, max_level=None)
        self.engine = Engine(store, settings=settings, notifiers=[self.notifier], policies=file, batch_size=2)

    def _answer(self, page: Page) -> Outcome:
        return Retry("busy", timedelta(minutes=1)) if self.failing else Delivered()

    async def picture(self) -> dict[str, Any]:
        """Return everything that stores must agree on, except ids."""
        rows = await self.host.rows()
        ledger = await self.store.read(lambda tx: tx.ledger.escalations(limit=10_000))
        pages = await self.store.read(lambda tx: tx.outbox.pages(limit=10_000))
        stats = await self.store.read(lambda tx: tx.journal.stats(now=self.clock(), canary=Canary(40)))
        return {
            "rows": {key: {**row, "labels": dict(row["labels"])} for key, row in rows.items()},
            "ledger": sorted(
                (e.incident_key, e.episode, e.level, e.created_at, e.unique_hash, e.policy or "", e.position or 0)
                for _, e in ledger
            ),
            "walks": await self.store.read(self._walks),
            "pages": sorted(
                (p.incident_key, p.episode, p.level, p.state.value, _due(p), p.attempts, p.reason or "") for p in pages
            ),
            "sent": sorted((p.dedup_key, p.attempt) for p in self.notifier.pages),
            "counts": (
                stats.overdue,
                stats.oldest_due,
                stats.marked,
                stats.outside_canary,
                stats.dead,
                stats.unreadable,
            ),
        }

    async def _walks(self, tx: Transaction) -> object:
        """Return the engine's notes about walks, and the versions that the store keeps of the files' policies."""
        port = walks_of(tx)
        assert port is not None
        notes = await tx.journal.notes(AuditRange(since=START - timedelta(days=1)), limit=10_000)
        digests = [policy.digest for file in FILES for policy in file.policies.values()]
        happened = [
            (note.at, note.action, note.incident_key, note.episode, note.level, note.reason or "")
            for _, note in notes
            if note.action in NOTES
        ]
        return (
            sorted(happened),
            await port.versions(digests),
            attrs.evolve(await port.stats(self.clock()), worker_digests={}),
        )


NOTES = ("ack_expired", "restart", "exhausted", "unknown_policy", "lost_version", "put_off")


def _due(page: PageRecord) -> datetime | None:
    """Return when a page is due; None if cancelled, since a host's SQL cancels pages at the database's own time."""
    return None if page.state is PageState.CANCELLED else page.due_at


class Machine(RuleBasedStateMachine):
    """The verbs, the host's own SQL, the tick and the clock, applied to all stores at once."""

    server: Server
    template: str
    file: Policies | None = None

    @initialize()
    def open_stores(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = ManualClock(START)
        self.folder = TemporaryDirectory()
        self.harnesses: list[MemoryHarness | SQLiteHarness | PostgresHarness] = [
            MemoryHarness(),
            SQLiteHarness(Path(self.folder.name)),
            PostgresHarness(self.server, self.template),
        ]
        self.worlds = [
            World(each, self.runner.run(each.open(self.clock)), self.clock, self.file) for each in self.harnesses
        ]

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for harness in self.harnesses:
                self.runner.run(harness.aclose())
            self.runner.close()
            self.folder.cleanup()

    def all_do(self, act: Callable[[World], Awaitable[object]]) -> list[object]:
        """Do the same in each store; the stores must return the same, or refuse with the same text."""

        async def one(world: World) -> object:
            try:
                return await act(world)
            except EscalationError as refusal:
                return f"{type(refusal).__name__}: {refusal}"

        results = [self.runner.run(one(world)) for world in self.worlds]
        assert all(result == results[0] for result in results), results
        return results

    @rule(key=keys, severity=st.sampled_from((None, *SEVERITIES)), ago=MINUTES)
    def open(self, key: str, severity: str | None, ago: timedelta) -> None:
        seen = self.clock() - ago if ago else None
        self.all_do(lambda world: world.engine.open(key, severity=severity, first_seen=seen, labels={"k": key}))

    @rule(key=keys, verb=st.sampled_from(("acknowledge", "unacknowledge", "resolve", "drain")))
    def verb(self, key: str, verb: str) -> None:
        self.all_do(lambda world: getattr(world.engine, verb)(key, by="x"))

    @rule(key=keys, severity=st.sampled_from(SEVERITIES))
    def change_severity(self, key: str, severity: str) -> None:
        self.all_do(lambda world: world.engine.change_severity(key, severity))

    @rule(key=keys, span=st.one_of(st.none(), MINUTES))
    def snooze(self, key: str, span: timedelta | None) -> None:
        until = None if span is None else self.clock() + span
        self.all_do(lambda world: world.engine.snooze(key, until))

    @rule(span=MINUTES)
    def wait(self, span: timedelta) -> None:
        self.clock.advance(span)

    @rule(deliver=st.booleans(), failing=st.booleans())
    def tick(self, deliver: bool, failing: bool) -> None:
        async def act(world: World) -> object:
            world.failing = failing
            report = await world.engine.tick(deliver=deliver)
            counts = (report.escalated, report.exhausted, dict(report.rescheduled), dict(report.skipped), report.pages)
            return counts, report.delivery

        self.all_do(act)

    @rule()
    def recalc(self) -> None:
        self.all_do(lambda world: world.engine.recalc())

    @rule(key=keys, severity=st.sampled_from((None, *SEVERITIES)), ago=MINUTES, level=st.sampled_from((0, 0, 1, 5)))
    def host_inserts(self, key: str, severity: str | None, ago: timedelta, level: int) -> None:
        if key not in self.rows():
            columns = {"severity": severity, "first_seen": self.clock() - ago, "level": level}
            self.all_do(lambda world: world.host.insert(key, **columns))

    @rule(
        key=keys,
        columns=st.fixed_dictionaries(
            {},
            optional={
                "severity": st.sampled_from(SEVERITIES),
                "level": st.sampled_from((0, 1, 2, -1)),
                "acknowledged_at": st.sampled_from((None, START)),
                "resolved_at": st.sampled_from((None, START)),
                "snoozed_until": st.sampled_from((None, START + timedelta(hours=1))),
            },
        ),
    )
    def host_updates(self, key: str, columns: dict[str, Any]) -> None:
        before = self.rows().get(key)
        if before is None or not columns:
            return
        if before["resolved_at"] is not None and "resolved_at" in columns and columns["resolved_at"] is None:
            # If SQL reopens the row, first_seen is the database's own time, which no manual clock sets: so give it
            # here.
            columns = {**columns, "first_seen": self.clock() + timedelta(microseconds=1)}
        self.all_do(lambda world: world.host.update(key, **columns))

    @rule(key=keys, other=keys)
    def host_changes_key(self, key: str, other: str) -> None:
        if key in self.rows() and other not in self.rows():
            self.all_do(lambda world: world.host.update(key, incident_key=other))

    @rule(key=keys)
    def host_deletes(self, key: str) -> None:
        self.all_do(lambda world: world.host.delete(key))

    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        return self.runner.run(self.worlds[0].host.rows())

    @precondition(lambda self: hasattr(self, "worlds"))
    @invariant()
    def stores_agree(self) -> None:
        """Rows, ledger, pages and sent pages are the same in each store."""
        reference, *others = [self.runner.run(world.picture()) for world in self.worlds]
        for other in others:
            for part, expected in reference.items():
                assert expected == other[part], part

    @precondition(lambda self: hasattr(self, "worlds") and self.file is None)
    @invariant()
    def instants_are_the_policys(self) -> None:
        """Each next_due_at is the policy's instant or asks for a replan, except where an unreadable row is deferred."""
        unreadable = self.worlds[0].store.unreadable  # type: ignore[attr-defined]
        for key, row in self.rows().items():
            if row["next_due_at"] == NEEDS_REPLAN or key in unreadable:
                continue
            if isinstance(row["level"], int) and row["level"] < 0:
                # No tick plans an ended row; an open one needs a replan or is deferred.
                assert row["next_due_at"] is None
                continue
            incident = Incident(**row)
            assert POLICY.policy.next_due_at(incident) == row["next_due_at"], key

    @precondition(lambda self: hasattr(self, "worlds"))
    @invariant()
    def a_level_is_recorded_once(self) -> None:
        """The ledger holds no (incident_key, episode, level) twice, and no page is sent twice unless it failed."""
        picture = self.runner.run(self.worlds[0].picture())
        steps = [entry[:3] for entry in picture["ledger"]]
        assert len(set(steps)) == len(steps)
        assert len(set(picture["sent"])) == len(picture["sent"])


class PoliciesMachine(Machine):
    """The same with a policies file: its incidents are assigned, expire, begin again and change their policy."""

    file = FILES[0]

    @rule(key=keys, restart=st.booleans())
    def rebind(self, key: str, restart: bool) -> None:
        self.all_do(lambda world: world.engine.rebind(key, restart=restart))

    @rule(key=keys, policy=st.sampled_from(NAMES))
    def open_with(self, key: str, policy: str) -> None:
        self.all_do(lambda world: world.engine.open(key, policy=policy))

    @rule(file=st.sampled_from(FILES))
    def change_file(self, file: Policies) -> None:
        for world in self.worlds:
            world.engine.use_policies(file)

    @rule(key=keys, policy=st.sampled_from((None, *NAMES)))
    def host_names_policy(self, key: str, policy: str | None) -> None:
        if key in self.rows():
            self.all_do(lambda world: world.host.update(key, policy=policy))

    @rule(key=keys)
    def acknowledge_until_it_expires(self, key: str) -> None:
        self.all_do(lambda world: world.engine.acknowledge(key, by="y"))
        self.clock.advance(timedelta(minutes=16))
        self.tick(deliver=True, failing=False)


@pytest.mark.parametrize("machine", [Machine, PoliciesMachine], ids=["builtin", "policies"])
def test_three_stores_agree(postgres_server: Server, migrated_template: str, machine: type[Machine]) -> None:
    """MemoryStore, SQLiteStore and PostgresStore agree after each step of any history."""
    thorough = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
    case = type("Case", (machine,), {"server": postgres_server, "template": migrated_template})
    steps = settings(
        max_examples=100 if thorough else 8,
        stateful_step_count=40,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(case, settings=steps)


def test_sql_and_python_agree_on_every_bucket(postgres_server: Server) -> None:
    """The canary bucket that SQL computes is the one that Python computes, for any key."""
    text = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=60)
    statement = "SELECT ('x' || substr(md5(%s::text), 1, 8))::bit(32)::bigint %% 100"

    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:

        @settings(max_examples=200, deadline=None)
        @given(key=text)
        def check(key: str) -> None:
            row = connection.execute(statement, [key]).fetchone()
            assert row is not None
            assert canary_bucket(key) == row[0]

        check()
