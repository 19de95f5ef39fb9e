"""The public names as a host uses them. This file never runs: the type check is the test."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, TypeVar, assert_type

from escalation_adapters.auth.rate_limit import Limit, MemoryLimiter, RateLimiter
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.calendars.of_file import FileCalendars
from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.channels.pagerduty import PagerDutyNotifier
from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.files import read_secret
from escalation_adapters.ops import Limits, OpsHandler, Sessions, Signer
from escalation_adapters.ops.asgi import OpsASGI
from escalation_adapters.ops.client import OpsClient
from escalation_adapters.ops.http import ops_app
from escalation_adapters.policies_file import load_policies
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.sqlite import SQLiteStore
from escalation_adapters.worker.app import open_engine, settings_from
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_adapters.worker.plugins import PluginContext, load_plugins
from escalation_adapters.worker.runner import run
from escalation_core import (
    Abilities,
    AuditEntry,
    Budget,
    BuiltinPolicy,
    Bundle,
    CalendarReader,
    Conditions,
    Cover,
    Delivered,
    DeliveryReport,
    Engine,
    Escalate,
    Escalation,
    EscalationError,
    Handover,
    Health,
    Heartbeat,
    HeldBy,
    Hours,
    Incident,
    IncidentHistory,
    Integrity,
    InvalidValue,
    Layer,
    NextPages,
    Notice,
    NoticeBundle,
    NoticeKind,
    Notifier,
    OnCallNow,
    OpenIncident,
    OpenIncidents,
    Outcome,
    Override,
    Page,
    PageTest,
    Pause,
    PauseSchedule,
    Policies,
    PoliciesError,
    Pruned,
    Rejected,
    Reschedule,
    Resumed,
    Retry,
    RetryPolicy,
    Rotation,
    Route,
    Router,
    Schedule,
    SchedulesError,
    ScheduleSource,
    SendsBundles,
    Settings,
    SettingsError,
    SettingsRouter,
    Shift,
    ShiftOverride,
    Shifts,
    Skip,
    State,
    Store,
    StoreError,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
    TellsNoticeBundles,
    TellsNotices,
    TickReport,
    TransitionRefused,
    Upcoming,
    Verdict,
    Window,
    __version__,
    canary_bucket,
    coverage,
    gaps,
    handovers,
    idempotency_key,
    in_canary,
    plan,
    send_test_page,
)
from escalation_core.model import Canary, Candidate, NextDue
from escalation_core.ports import Transaction
from escalation_core.rules.plan import Decision
from escalation_core.testing import (
    BundlingNotifier,
    Clock,
    HostTable,
    ManualClock,
    MemoryStore,
    RecordingNotifier,
    TellingNotifier,
)

Result = TypeVar("Result")
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def a_plugin(context: PluginContext) -> Notifier:
    """A factory of a plug-in, which reads the settings and a secret."""
    assert_type(context.secret("PAGER_TOKEN"), str)
    assert_type(context.settings, Settings)
    return LogNotifier(context.environ.get("PAGER_TARGET", "pager"))


async def a_program_with_plugins() -> Engine:
    """A program that loads plug-ins as the command line does."""
    settings = settings_from(os.environ, own_targets=None)
    plugins = load_plugins(settings, os.environ)
    engine = await open_engine(settings, plugins=plugins)
    assert_type(engine.notifiers, Sequence[Notifier])
    return engine


def a_policies_file(mapping: Mapping[str, object]) -> Policies | None:
    """A host that reads its policies from a mapping of its own."""
    try:
        policies = Policies.from_mapping(mapping)
        policies.check(max_level=None, tick_interval=timedelta(minutes=1), targets={"slack:ops"})
        policies.check(max_level=9, tick_interval=timedelta(minutes=1), targets=None, schedules={"leads"})
        assert_type(policies.schedules["primary"], Rotation)
        assert_type(policies.people["ann"], str)
        assert_type(policies.warnings, Sequence[str])
        assert_type(load_policies("policies.yaml"), Policies)
    except PoliciesError as error:
        assert_type(error.problems["policies.ops"].remedy, str)
        return None
    return policies


async def the_first_lines(dsn: str, url: str) -> None:
    """A service with its own scheduler."""
    store = await PostgresStore.connect(dsn, schema="ops", pooler="transaction")
    settings = Settings.from_env(os.environ, read_file=read_secret)
    engine = Engine(store, settings=settings, notifiers=[SlackNotifier({"slack:ops": url}), LogNotifier()])
    opened = await engine.open(
        "db-7/disk",
        severity="critical",
        summary="Disk nearly full",
        labels={"team": "db"},
        first_seen=NOON,
        by="monitoring",
    )
    assert_type(opened, Incident)
    report = await engine.tick()
    assert_type(report, TickReport)
    assert_type(report.escalated, int)
    assert_type(report.delivery, DeliveryReport | None)
    assert_type(await engine.tick(dry_run=True, deliver=False), TickReport)
    assert_type(await engine.deliver(), DeliveryReport)
    await engine.aclose()


async def a_worker(stop: asyncio.Event) -> None:
    """A service that leaves the ticks to the runner."""
    async with Engine(SQLiteStore("escalation.db"), worker="node-1", batch_size=100) as engine:
        assert_type(engine, Engine)
        await run(engine, stop=stop, signals=False)


async def verbs(engine: Engine) -> None:
    """Each verb returns the incident after its change."""
    assert_type(await engine.acknowledge("k", by="ada"), Incident)
    assert_type(await engine.unacknowledge("k"), Incident)
    assert_type(await engine.snooze("k", NOON, by="ada"), Incident)
    assert_type(await engine.snooze("k", None), Incident)
    assert_type(await engine.snooze("k", timedelta(hours=2), reason="looked at"), Incident)
    assert_type(await engine.change_severity("k", "warning"), Incident)
    assert_type(await engine.drain("k"), Incident)
    incident = await engine.resolve("k")
    assert_type(incident.state, State)
    assert_type(incident.resolved_at, datetime | None)
    assert_type(incident.labels, Mapping[str, str])


async def operators(engine: Engine) -> None:
    """Operators' commands for all workers at once."""
    assert_type(await engine.pause(timedelta(hours=1), reason="deploying", by="ada"), Pause)
    assert_type(await engine.pause(NOON), Pause)
    resumed = await engine.resume(override_schedule=True, reason="done", by="ada")
    assert_type(resumed, Resumed)
    assert_type(resumed.schedule_lifted_until, datetime | None)
    assert_type(await engine.prune(timedelta(days=400), by="cron", progress=print), Pruned)
    assert_type((await engine.prove()).holds, bool)
    assert_type(await engine.prove(), Integrity)


async def endpoints(engine: Engine, native: Any) -> None:
    """The endpoints that a service mounts for its operators, and another service that calls them."""

    async def login(request: Any) -> Principal | None:
        return Principal("ada", {"ops_admin"}) if request is native else None

    limiter: RateLimiter = MemoryLimiter(most_keys=100)
    cron = Signer("c" * 40, Principal("cron", ["ops_admin"]))
    limits = Limits(tick=Limit(20, timedelta(minutes=2)))
    handler = OpsHandler(
        engine,
        login=login,
        sessions=Sessions(["https://status.example.org"]),
        signers=[cron],
        limiter=limiter,
        peer_limiter=MemoryLimiter(),
        limits=limits,
        proxies=["10.0.0.0/8", "unix"],
    )
    OpsASGI(handler)
    ops_app(handler)
    async with OpsClient("https://example.org/ops/escalation", secret="c" * 40, timeout=timedelta(minutes=5)) as ops:
        assert_type(await ops.act("pause", minutes=30), dict[str, Any])


async def views(engine: Engine) -> None:
    """The views for people."""
    history = await engine.history("k")
    assert_type(history, IncidentHistory)
    assert_type(history.upcoming, Upcoming)
    assert_type(history.upcoming.held_by, HeldBy | None)
    assert_type(history.escalations, Sequence[Escalation])
    assert_type(history.next_pages, NextPages | None)
    conditions = Conditions(severity="critical", min_level=1, labels={"team": "storage"})
    found = await engine.open_incidents(limit=10, after=None, within=timedelta(hours=1), match=conditions)
    assert_type(found, OpenIncidents)
    assert_type(found.incidents, Sequence[OpenIncident])
    assert_type(await engine.audit(NOON, limit=10), Sequence[AuditEntry])
    health = await engine.health()
    assert_type(health, Health)
    assert_type(await engine.is_healthy(), bool)
    assert_type(health.as_dict(), dict[str, object])
    assert_type(health.tick_lag, timedelta)
    assert_type(await engine.recalc(by="ada", progress=print), int)
    await engine.request_recalc()
    for page in await engine.dead():
        await engine.retry_dead([page.id], by="ada")
    sent = await engine.test_page("slack:ops", by="ada", reason="new webhook")
    assert_type(sent, PageTest)
    assert_type(sent.verdict, Verdict)
    assert_type(sent.after, timedelta | None)
    assert_type(await send_test_page([LogNotifier()], "log", at=NOON), PageTest)


async def errors(engine: Engine) -> str:
    """All errors have one base class, and each class has its own attributes."""
    try:
        await engine.acknowledge("k")
    except TransitionRefused as refusal:
        return f"{refusal.incident_key} {refusal.state} {refusal.verb}"
    except InvalidValue as fault:
        return f"{fault.field}: {fault.fault}; {fault.remedy}"
    except (StoreUnavailable, StoreNotReady, StoreRefused) as fault:
        store_error: StoreError = fault
        return str(store_error)
    except SettingsError as wrong:
        return "; ".join(f"{name} {problem.fault}" for name, problem in wrong.problems.items())
    except EscalationError as any_other:
        return str(any_other)
    return __version__


def in_code() -> Settings:
    """Settings in code, with finer steps than variables have."""
    return Settings(
        critical_window=timedelta(seconds=90),
        windows={"high": timedelta(minutes=10)},
        routes=[Route(severity="critical", min_level=2, labels={"team": "db"}, targets=("phone",))],
        default_target="slack:ops",
        retry=RetryPolicy(horizon=timedelta(hours=1), per_target=4),
    )


def decisions(incident: Incident, settings: Settings) -> str:
    """The decision is a pure function, and each outcome has its own class."""
    policy = BuiltinPolicy(windows={"critical": timedelta(minutes=5)}, max_level=3)
    assert_type(policy.next_due_at(incident), datetime | None)
    assert_type(settings.policy, BuiltinPolicy)
    assert_type(settings.pause, PauseSchedule | None)
    assert_type(PauseSchedule("0 22 * * *", timedelta(hours=8), tz="Europe/Berlin").is_paused(NOON), bool)
    decision = plan(Candidate(incident_key="k", incident=incident), policy=policy, now=NOON)
    assert_type(decision, Decision)
    match decision:
        case Escalate(incident=risen, escalation=escalation):
            assert_type(risen, Incident)
            assert_type(escalation.unique_hash, str)
            return escalation.unique_hash
        case Reschedule(reason=reason):
            return reason.value
        case Skip(reason=reason, detail=detail):
            return detail or reason.value


assert_type(idempotency_key("db-7/disk", 1), str)
assert_type(idempotency_key("db-7/disk", 1, 2), str)
assert_type(canary_bucket("db-7/disk"), int)
assert_type(in_canary("db-7/disk", 10), bool)


def on_call() -> Schedule:
    """A rotation with a layer and an override, as a schedule."""
    week = datetime.fromisoformat("2026-01-05T09:00")
    layer = Layer(zone="Europe/Berlin", start=week, turn=timedelta(days=7), people=["ann", "bob"])
    override = Override(start=NOON, end=NOON + timedelta(hours=8), person="bob")
    rotation = Rotation(layers=[layer], overrides=[override])
    assert_type(rotation.on_call(NOON), frozenset[str])
    assert_type(rotation.next_change(NOON), datetime | None)
    covers = coverage(rotation, NOON, NOON + timedelta(days=14))
    assert_type(covers, Sequence[Cover])
    assert_type(gaps(covers), Sequence[Cover])
    assert_type(handovers(covers), Sequence[Handover])
    windows = (Window(start=time(9), end=time(17)),)
    assert_type(Hours(name="office", zone="Europe/Berlin", windows=windows).is_open(NOON), bool)
    return rotation


async def overrides(engine: Engine) -> None:
    """Someone takes the rest of a shift."""
    assert_type(await engine.override("primary", "ann", until=timedelta(hours=8), by="bob"), ShiftOverride)
    assert_type(await engine.on_call(), Sequence[OnCallNow])


# --- classes that hosts write


class Leads:
    """A host's own schedules."""

    async def load(self) -> Mapping[str, Schedule]:
        """Return shifts from elsewhere."""
        shift = Shift(person="ann", start=NOON, end=NOON + timedelta(hours=8))
        return {"leads": Shifts(shifts=[shift], horizon=NOON + timedelta(days=90)), "primary": on_call()}


source: ScheduleSource = Leads()
budgets: Mapping[str, Budget | None] = Settings(budgets={"slack:ops": Budget(rate=1, burst=3), "log": None}).budgets


class Calendars:
    """A host's own reader of the calendars that its policies file names."""

    async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
        """Return the same rotation for each calendar."""
        return dict.fromkeys(calendars, on_call())


def with_calendars(policies: Policies) -> Engine:
    """An engine that reads the calendars of its policies."""
    readers: Sequence[CalendarReader] = [Calendars(), FileCalendars(Path("/etc/escalation"))]
    return Engine(MemoryStore(), policies=policies, schedules=[source], calendars=readers[0])


async def loaded(calendars: ScheduleSource) -> Mapping[str, object]:
    """Go on with the schedules that could be loaded."""
    try:
        return await calendars.load()
    except SchedulesError as error:
        assert_type(list(error.problems), list[str])
        return error.loaded


class Pager:
    """A host's own notifier."""

    channel = "pager"

    def __init__(self, *targets: str) -> None:
        self.targets: Sequence[str] = targets
        kinds = frozenset({NoticeKind.RESOLVED, NoticeKind.ACK_EXPIRED})
        self.abilities = Abilities(
            bundles=True,
            notices=kinds,
            asked=kinds,
            threads=True,
            budgets={target: Budget(rate=1) for target in targets},
        )

    async def send(self, page: Page) -> Outcome:
        """Answer with each of the three outcomes."""
        assert_type(page.incident, Incident)
        assert_type((page.title, page.severity, page.thread_key, page.round), tuple[str, str, str, int])
        assert_type((page.labels, page.links), tuple[Mapping[str, str], Mapping[str, str]])
        assert_type((page.paged_before, page.next_names), tuple[Sequence[str], Sequence[str]])
        assert_type((page.at, page.age, page.next_due_at), tuple[datetime, timedelta, datetime | None])
        if page.attempt == 1:
            return Retry("busy", after=timedelta(seconds=5), throttled=True)
        return Delivered() if page.level < 3 else Rejected("the target is gone")

    async def send_bundle(self, bundle: Bundle) -> Outcome:
        """Send one message."""
        return Delivered() if bundle.pages else Rejected("empty")

    async def tell(self, notice: Notice) -> Outcome:
        """Say what happened, and by whom."""
        assert_type((notice.kind, notice.actor), tuple[NoticeKind, str | None])
        assert_type((notice.lasted, notice.incident), tuple[timedelta | None, Incident | None])
        return Delivered()

    async def tell_bundle(self, bundle: NoticeBundle) -> Outcome:
        """Send one message."""
        assert_type(bundle.kinds, Mapping[NoticeKind, int])
        return Delivered()

    async def aclose(self) -> None:
        """Close nothing."""


class ByTeam:
    """A host's own router."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        """Page the team, and from level 3 on its lead."""
        team = incident.labels.get("team", "ops")
        return [team, f"{team}-lead"] if level >= 3 else [team]


class Counting:
    """A store around another store."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.calls = 0

    async def check(self) -> None:
        """Pass the call on."""
        await self.inner.check()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Count the call, and pass it on."""
        self.calls += 1
        return await self.inner.transact(work)

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Pass the call on."""
        return await self.inner.read(work)

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        """Pass the call on."""
        return await self.inner.next_due(canary=canary, pages=pages)

    async def aclose(self) -> None:
        """Pass the call on."""
        await self.inner.aclose()


def fulfilled(dsn_store: PostgresStore, url: str) -> tuple[Sequence[Store], Sequence[Notifier], Sequence[Router]]:
    """The library's classes and the host's classes fulfil the ports."""
    heartbeat: Heartbeat = HttpHeartbeat("https://example.org/ping", timeout=timedelta(seconds=3))
    Engine(MemoryStore(), heartbeat=heartbeat)
    stores: Sequence[Store] = [MemoryStore(), SQLiteStore("x.db"), dsn_store, Counting(MemoryStore())]
    notifiers: Sequence[Notifier] = [Pager("a"), LogNotifier(), RecordingNotifier("a"), SlackNotifier({"b": url})]
    notifiers = [*notifiers, PagerDutyNotifier({"c": f"pagerduty://{'k' * 32}@events.eu.pagerduty.com"})]
    bundling: Sequence[SendsBundles] = [BundlingNotifier("a"), SlackNotifier({"b": url})]
    telling: Sequence[TellsNotices] = [Pager("a"), TellingNotifier("a"), PagerDutyNotifier({"c": "k" * 32})]
    of_many: TellsNoticeBundles = Pager("a")
    tell: Callable[[Notice], Awaitable[Outcome]] = telling[0].tell
    tell_many: Callable[[NoticeBundle], Awaitable[Outcome]] = of_many.tell_bundle
    assert callable(tell)
    assert callable(tell_many)
    send: Callable[[Bundle], Awaitable[Outcome]] = bundling[0].send_bundle
    assert callable(send)
    routers: Sequence[Router] = [ByTeam(), SettingsRouter((), "a")]
    return stores, notifiers, routers


# --- tests of hosts


async def a_test_of_a_host() -> None:
    """A host's own test, on memory and with a clock that stands still."""
    clock = ManualClock(NOON)
    as_clock: Clock = clock
    store = MemoryStore(as_clock)
    recording = RecordingNotifier("slack:ops", answer=lambda page: Retry("busy"))
    engine = Engine(store, notifiers=[recording, Pager("phone")], router=ByTeam())
    host: HostTable = store.host
    await host.insert("k", severity="critical")
    assert_type(clock.advance(timedelta(minutes=5)), datetime)
    await engine.tick()
    assert_type(recording.pages, list[Page])
    rows: Mapping[str, dict[str, Any]] = await host.rows()
    assert rows["k"]["level"] == 1
