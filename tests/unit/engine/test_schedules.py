"""Loading the sources of schedules: what was loaded last stays, whatever a source does."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import Engine, InvalidValue, Policies, Settings, StoreUnavailable
from escalation_core.engine import loaded
from escalation_core.engine import schedules as module
from escalation_core.engine.schedules import ScheduleLoader
from escalation_core.ports import Schedule
from escalation_core.rules.on_call import OnCall
from escalation_core.rules.shifts import Shift, Shifts
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import DAY, HOUR, START

NOW = START
SECOND = timedelta(seconds=1)


def shifts(person: str = "ann", *, start: datetime = NOW - 9 * DAY, horizon: datetime = NOW + 30 * DAY) -> Shifts:
    return Shifts(shifts=[Shift(person=person, start=start, end=NOW + 60 * DAY)], horizon=horizon)


@attrs.define
class Source:
    """A source that returns what the test says, or raises it."""

    answer: Any
    answers: asyncio.Event | None = None
    """Set when the source may answer; None: at once."""
    loads: int = 0

    async def load(self) -> Mapping[str, Schedule]:
        self.loads += 1
        if self.answers is not None:
            await self.answers.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer == "hangs":
            await asyncio.Event().wait()
        found: Mapping[str, Schedule] = self.answer
        return found


@attrs.define
class Moody:
    """A schedule whose answer about the past changes, although its digest does not."""

    person: str = "ann"
    horizon: datetime = NOW + 30 * DAY
    digest: str = "1a"
    answer: Any = None
    change: Exception | None = None

    def on_call(self, at: datetime) -> Any:
        return self.answer or frozenset({self.person})

    def next_change(self, after: datetime) -> datetime | None:
        if self.change is not None:
            raise self.change
        return None


async def test_schedules_are_loaded_and_replaced() -> None:
    source = Source({"primary": shifts("ann")})
    loads = ScheduleLoader([source])
    await loads.refresh(NOW)
    assert {"primary": shifts("ann")} == loads.snapshot()
    source.answer = {"primary": shifts("bob"), "secondary": shifts("cid")}
    await loads.refresh(NOW)
    assert ({"primary": shifts("bob"), "secondary": shifts("cid")}, {}) == (loads.snapshot(), loads.faults)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (OSError("a secret"), "Source: it raised OSError, "),
        (InvalidValue("zone", "is unknown", "correct it"), "Source: zone: is unknown; correct it"),
        ("hangs", "Source: it has not answered for 0.05 seconds"),
        (None, "Source: it returned NoneType, which is not a mapping of names to schedules"),
        ({}, "Source: schedule 'primary' is missing"),
        ({"primary": 7}, "Source: schedule 'primary' is not a schedule"),
        (
            {"primary": shifts("bob", horizon=NOW)},
            "Source: schedule 'primary' ends at 2025-01-01T00:00:00+00:00, which is over: it is old",
        ),
        ({"primary": Moody("bob", digest="")}, "Source: schedule 'primary' is refused: digest: is not a valid digest"),
        ({"primary": Moody("bob", digest="\ud800")}, "Source: schedule 'primary' is refused: digest: is not a valid"),
        ({"primary": Moody("bob", digest=7)}, "Source: schedule 'primary' is refused: digest: is not a valid"),  # type: ignore[arg-type]
        (
            {"primary": Moody("bob", answer="bob")},
            "Source: schedule 'primary' returns something other than a frozenset",
        ),
        ({"primary": Moody("bob", change=OSError())}, "Source: schedule 'primary' raised OSError, "),
        ({"primary": shifts("ann"), 7: shifts("bob")}, "Source: a schedule has the name 7, which is not text"),
        (asyncio.CancelledError(), "Source: it raised CancelledError, "),
        ({"primary": Moody("bob", horizon="later")}, "Source: schedule 'primary' raised TypeError, "),  # type: ignore[arg-type]
    ],
)
async def test_a_source_that_fails_changes_nothing(
    answer: object, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was loaded last stays, and the fault is kept for health and logged once. No secret is shown."""
    monkeypatch.setattr(module, "LOAD_TIMEOUT", timedelta(seconds=0.05))
    source = Source({"primary": shifts("ann")})
    loads = ScheduleLoader([source])
    await loads.refresh(NOW)
    good, source.answer = source.answer, answer
    for _ in range(2):
        await loads.refresh(NOW)
        assert {"primary": shifts("ann")} == loads.snapshot()
        assert loads.faults[0].startswith(fault)
    assert 1 == sum("what was loaded before stays" in record.message for record in caplog.records)
    assert "a secret" not in caplog.text
    source.answer = good
    await loads.refresh(NOW)
    assert {} == loads.faults


@pytest.mark.parametrize("hours", [1, 12, 24])
async def test_each_hour_of_the_day_before_must_stay(hours: int) -> None:
    """The whole day before is compared, and not only the last hour."""
    before = shifts("ann")
    changed = Shift(person="bob", start=NOW - hours * HOUR, end=NOW - hours * HOUR + HOUR / 2)
    now = Shifts(shifts=[*before.shifts, changed], horizon=before.horizon)
    object.__setattr__(now, "digest", before.digest)
    source = Source({"primary": before})
    loads = ScheduleLoader([source])
    await loads.refresh(NOW)
    source.answer = {"primary": now}
    await loads.refresh(NOW)
    assert f"another answer about {(NOW - hours * HOUR).isoformat()}" in loads.faults[0]


async def test_a_schedule_that_is_changed_in_place_is_told() -> None:
    """Its new answers are in force already, because there is one object. So the fault says what to return."""
    moody = Moody()
    loads = ScheduleLoader([Source({"primary": moody})])
    await loads.refresh(NOW)
    moody.person = "bob"
    await loads.refresh(NOW)
    assert "a load must return a new object" in loads.faults[0]


async def test_a_schedule_that_changes_its_past_is_refused() -> None:
    """A snapshot must not change: the same digest means the same answers."""
    source = Source({"primary": Moody()})
    loads = ScheduleLoader([source])
    await loads.refresh(NOW)
    source.answer = {"primary": Moody("bob")}
    await loads.refresh(NOW + HOUR)
    assert frozenset({"ann"}) == loads.snapshot()["primary"].on_call(NOW)
    assert "has the same digest, but another answer about 2024-12-31T23:00:00+00:00" in loads.faults[0]
    source.answer = {"primary": Moody("bob", digest="2b")}
    await loads.refresh(NOW + HOUR)
    assert frozenset({"bob"}) == loads.snapshot()["primary"].on_call(NOW)


async def test_one_bad_schedule_does_not_lose_the_others() -> None:
    """The sound schedules of a source are used, and so are those of other sources."""
    loads = ScheduleLoader([Source({"bad": 7, "good": shifts()}), Source(OSError()), Source({"other": shifts()})])
    await loads.refresh(NOW)
    assert ["good", "other"] == sorted(loads.snapshot())
    assert [0, 1] == sorted(loads.faults)


async def test_two_sources_with_one_name() -> None:
    """The first one keeps the name."""
    loads = ScheduleLoader([Source({"primary": shifts("ann")}), Source({"primary": shifts("bob")})])
    await loads.refresh(NOW)
    assert frozenset({"ann"}) == loads.snapshot()["primary"].on_call(NOW)
    assert "schedule 'primary' has the name of one of Source" in loads.faults[1]


async def test_yesterdays_data_are_refused() -> None:
    """A snapshot that knows less far than the one before it does not take its place; a new file may."""
    source = Source({"primary": shifts("ann", horizon=NOW + 30 * DAY)})
    loads = ScheduleLoader([source])
    await loads.refresh(NOW)
    source.answer = {"primary": shifts("bob", horizon=NOW + 29 * DAY)}
    await loads.refresh(NOW)
    assert frozenset({"ann"}) == loads.snapshot()["primary"].on_call(NOW)
    assert "ends at 2025-01-30T00:00:00+00:00, and was known until 2025-01-31T00:00:00+00:00" in loads.faults[0]
    source.answer = {"primary": shifts("bob", horizon=NOW + 30 * DAY)}
    await loads.refresh(NOW)
    assert frozenset({"bob"}) == loads.snapshot()["primary"].on_call(NOW)


async def test_what_is_wrong_is_cut() -> None:
    loads = ScheduleLoader([Source(dict.fromkeys(map(str, range(1000)), 7))])
    await loads.refresh(NOW)
    assert 1000 == len(loads.faults[0])


async def test_the_first_of_two_sources_wins_whichever_is_faster() -> None:
    slow = Source(OSError())
    loads = ScheduleLoader([slow, Source({"primary": shifts("bob")})])
    await loads.refresh(NOW)
    slow.answer = {"primary": shifts("ann")}
    for _ in range(2):
        await loads.refresh(NOW)
        assert frozenset({"ann"}) == loads.snapshot()["primary"].on_call(NOW)
    assert [1] == list(loads.faults)


async def test_a_new_file_does_not_get_calendars_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that runs while the policies file changes is dropped, and the sources are loaded again at once."""
    slow, goes_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
            if "old" in calendars:
                slow.set()
                await goes_on.wait()
            return {name: shifts() for name in calendars}

    loads = ScheduleLoader([Source({"own": shifts()})], Slow())
    loads.use_calendars({"old": "old.ics"})
    running = asyncio.create_task(loads.refresh(NOW))
    await slow.wait()
    loads.use_calendars({"new": "new.ics"})
    goes_on.set()
    await running
    assert ["own"] == list(loads.snapshot())
    await loads.keep_loaded(MemoryStore(clock=ManualClock(START)))
    assert {"own", "new"} == {*loads.snapshot()}
    loads.use_calendars({"newer": "newer.ics"})
    assert {"own"} == {*loads.snapshot()}


@attrs.define
class Reader:
    """A reader of calendars that does what a calendar's place says."""

    places: list[str] = attrs.field(factory=list)

    async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
        [(name, place)] = calendars.items()
        self.places.append(place)
        if place == "hangs.ics":
            await asyncio.Event().wait()
        if place == "missing.ics":
            return {}
        return {name: shifts(place.removesuffix(".ics"))}


async def test_a_calendar_that_hangs_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each calendar is loaded by itself and counts at once. The log names the ones that are waited for."""
    monkeypatch.setattr(module, "FIRST_WAIT", timedelta(seconds=0.2))
    loads = ScheduleLoader([], Reader())
    loads.use_calendars({"other": "hangs.ics", "primary": "ann.ics"})
    await loads.keep_loaded(MemoryStore(clock=ManualClock(START)))
    assert {"primary": shifts("ann")} == loads.snapshot()
    said = "not all schedules are loaded yet, of the policies file: other: until then it is not known who is on call"
    assert [said] == [record.message for record in caplog.records]
    await loads.aclose()


async def test_calendars_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a calendar counts from its turn, so none of many is always too late. Few are loaded at once."""
    monkeypatch.setattr(module, "LOAD_TIMEOUT", timedelta(seconds=0.2))
    running: list[int] = []

    class Slow(Reader):
        async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
            running.append(len(running) and running[-1] + 1)
            await asyncio.sleep(0.05)
            running.append(running[-1] - 1)
            return await Reader.load(self, calendars)

    loads = ScheduleLoader([], Slow())
    loads.use_calendars({f"s{number}": "ann.ics" for number in range(40)})
    await loads.refresh(NOW)
    assert (40, {}) == (len(loads.snapshot()), loads.faults)
    assert max(running) < module.AT_ONCE


async def test_a_calendar_at_another_place_is_another_calendar() -> None:
    """The person of the one before is not paged while the new one cannot be read. The horizons are not compared."""
    loads = ScheduleLoader([Source({"own": shifts("own")})], Reader())
    loads.use_calendars({"primary": "ann.ics", "spare": "bob.ics", "own": "ann.ics"})
    await loads.refresh(NOW)
    loads.use_calendars({"primary": "missing.ics", "spare": "bob.ics", "own": "bob.ics"})
    assert {"own": shifts("own"), "spare": shifts("bob")} == loads.snapshot()
    await loads.refresh(NOW)
    assert {"own": shifts("own"), "spare": shifts("bob")} == loads.snapshot()
    assert "the policies file: schedule 'primary' is missing" == loads.faults["primary"]


async def test_a_new_file_during_the_read_of_the_clock() -> None:
    """The calendars of the last file are loaded, whenever it comes."""
    loads, reads = ScheduleLoader([], Reader()), []

    class Store(MemoryStore):
        async def read(self, work: Any) -> Any:
            reads.append(1)
            if len(reads) == 1:
                loads.use_calendars({"primary": "bob.ics"})
            return await super().read(work)

    store = Store(clock=ManualClock(START))
    loads.use_calendars({"primary": "ann.ics"})
    await asyncio.gather(loads.keep_loaded(store), loads.keep_loaded(store))
    await loads.keep_loaded(store)
    assert {"primary": shifts("bob")} == loads.snapshot()


async def test_a_store_that_is_down_delays_no_later_load() -> None:
    """If the store's instant cannot be read, the next call loads."""
    down = [StoreUnavailable("down")]

    class Store(MemoryStore):
        async def read(self, work: Any) -> Any:
            if down:
                raise down.pop()
            return await super().read(work)

    loads, store = ScheduleLoader([Source({"primary": shifts()})]), Store(clock=ManualClock(START))
    await loads.keep_loaded(store)
    assert {} == loads.snapshot()
    await loads.keep_loaded(store)
    assert {"primary": shifts()} == loads.snapshot()


async def test_loads_of_an_operator_do_not_overlap() -> None:
    """Of two calls, the one that began later has the last word."""
    first, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(Source):
        async def load(self) -> Mapping[str, Schedule]:
            answer = await Source.load(self)
            if self.loads == 1:
                first.set()
                await goes_on.wait()
            return answer

    source = Slow({"primary": shifts("ann")})
    loads = ScheduleLoader([source])
    one = asyncio.create_task(loads.load_now(NOW))
    await first.wait()
    source.answer = {"primary": shifts("bob")}
    two = asyncio.create_task(loads.load_now(NOW))
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(one, two)
    assert {"primary": shifts("bob")} == loads.snapshot()


async def test_what_a_source_returns_may_raise(caplog: pytest.LogCaptureFixture) -> None:
    """A mapping or a name that raises is a fault of its source, and the other sources count."""

    class Odd(dict[str, Schedule]):
        def items(self) -> Any:
            raise RuntimeError("a secret")

    loads = ScheduleLoader([Source(Odd(x=shifts())), Source({"good": shifts()})])
    await loads.refresh(NOW)
    assert ["good"] == list(loads.snapshot())
    assert loads.faults[0].startswith("Source: raised RuntimeError")
    assert "a secret" not in caplog.text


async def test_a_calendar_that_was_read_with_a_clock_ahead() -> None:
    """Before its window it is not known who is on call. Once the clock is right, the next load counts."""

    def window(today: datetime) -> Shifts:
        shift = Shift(person="ann", start=NOW - 90 * DAY, end=NOW + 90 * DAY)
        return Shifts(shifts=[shift], horizon=today + 90 * DAY, known_from=today - 7 * DAY)

    source = Source({"primary": window(NOW + 10 * DAY)})
    loads = ScheduleLoader([source])
    await loads.refresh(NOW + 10 * DAY)
    on_call = OnCall(schedules=loads.snapshot())
    assert (None, "") == on_call.on_call("primary", NOW)
    source.answer = {"primary": window(NOW)}
    await loads.refresh(NOW)
    assert frozenset({"ann"}) == loads.snapshot()["primary"].on_call(NOW)


async def test_a_new_file_ends_the_fault_of_the_calendars_before() -> None:
    """Health does not go on to name calendars that no file has any more."""

    class Broken:
        async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
            raise OSError(*calendars)

    loads = ScheduleLoader([Source({"own": shifts()})], Broken())
    loads.use_calendars({"old": "old.ics"})
    await loads.refresh(NOW)
    assert "the policies file: it raised OSError" in loads.faults["old"]
    loads.use_calendars({})
    await loads.refresh(NOW)
    assert {} == loads.faults


async def test_calendars_that_the_engine_does_not_read_are_told() -> None:
    """Health names the calendars of a policies file if the engine has no reader for them, and no source of the name."""
    file = Policies.from_mapping(
        {
            "policies": {"ops": {"levels": [{"after": "0m", "to": ["oncall:primary"]}]}},
            "schedules": {"primary": {"ical": "rota.ics"}, "spare": {"ical": "spare.ics"}},
        }
    )
    source = Source({"spare": shifts()})
    async with Engine(MemoryStore(clock=ManualClock(START)), schedules=[source], policies=file) as engine:
        health = await engine.health()
    assert ["primary"] == list(health.policies.unread_calendars)
    assert (
        "this engine does not read the calendars of the policies file (primary), so it does not know who is on call for"
        " them: give Engine(calendars=FileCalendars(folder))"
    ) in health.warnings


async def test_a_schedule_that_ends_soon_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says it when it begins to be so, and again only after the source has brought a later end."""
    source = Source({"short": shifts(horizon=NOW + 6 * DAY), "long": shifts()})
    loads = ScheduleLoader([source])
    for horizon in (6 * DAY, 6 * DAY, 8 * DAY, 8 * DAY):
        source.answer = {"short": shifts(horizon=NOW + horizon), "long": shifts()}
        await loads.refresh(NOW)
    await loads.refresh(NOW + 2 * DAY)
    said = [record.message for record in caplog.records if "ends at" in record.message]
    assert [
        f"schedule 'short' ends at {(NOW + days).isoformat()}: from then on it is not known who is on call"
        for days in (6 * DAY, 8 * DAY)
    ] == said


async def test_a_calendar_whose_last_shift_ends_soon_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A calendar is known for 90 days, also if its shifts end earlier. A warning comes before the gap."""
    ending = Shifts(shifts=[Shift(person="ann", start=NOW - DAY, end=NOW + 6 * DAY)], horizon=NOW + 90 * DAY)
    loads = ScheduleLoader([Source({"bare": ending})])
    await loads.refresh(NOW)
    assert NOW + 6 * DAY == loads.health(NOW)["bare"].runs_out
    said = (
        f"schedule 'bare' has no shift after {(NOW + 6 * DAY).isoformat()}: from then on no one is on call; add shifts"
    )
    assert [said] == [record.message for record in caplog.records]


@pytest.mark.parametrize(("length", "soon"), [(7 * DAY - SECOND, True), (7 * DAY, False)])
async def test_a_week_is_soon(length: timedelta, soon: bool) -> None:
    loads = ScheduleLoader([Source({"one": shifts(horizon=NOW + length)})])
    await loads.refresh(NOW)
    assert soon is loads.health(NOW)["one"].ends_soon


async def test_the_list_of_open_incidents_loads_schedules() -> None:
    """A process that only lists incidents knows whom the next level pages."""
    source = Source({"primary": shifts()})
    async with Engine(MemoryStore(clock=ManualClock(START)), schedules=[source]) as engine:
        await engine.open_incidents()
        assert ["primary"] == list(engine.schedules)


async def test_a_load_that_is_long_overdue_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not tick, for example one that serves the endpoints, does not answer with old people."""
    time = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: time[0])
    source = Source({"primary": shifts("ann")})
    loads, store = ScheduleLoader([source]), MemoryStore(clock=ManualClock(START))
    await loads.keep_loaded(store)
    source.answer = {"primary": shifts("bob")}
    time[0] += 3600
    await loads.keep_loaded(store)
    assert frozenset({"bob"}) == loads.snapshot()["primary"].on_call(NOW)


async def test_a_name_that_no_one_has_is_told() -> None:
    """Once a host's sources are loaded, health names the schedules of policies that are nowhere, and doubled ones."""
    file = Policies.from_mapping(
        {
            "policies": {"ops": {"levels": [{"after": "0m", "to": ["oncall:primry"]}]}},
            "schedules": {
                "rota": {"rotation": {"zone": "UTC", "start": "2026-01-05T09:00", "turn": "7d", "people": ["ann"]}}
            },
            "people": {"ann": "log"},
        }
    )
    source = Source({"primary": shifts(), "rota": shifts()})
    async with Engine(MemoryStore(clock=ManualClock(START)), schedules=[source], policies=file) as engine:
        health = await engine.health()
    assert ["primry"] == list(health.policies.missing_schedules)
    assert ["rota"] == list(health.policies.doubled_schedules)
    said = "\n".join(health.warnings)
    assert "a policy names schedule 'primry', which neither the policies file nor a source has" in said
    assert "schedule 'rota' is in the policies file and in a source: that of the file counts" in said


async def test_the_age_and_the_end_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    time = [100.0]
    monkeypatch.setattr(loaded, "monotonic", lambda: time[0])
    loads = ScheduleLoader([Source({"long": shifts(), "short": shifts(horizon=NOW + 6 * DAY)})])
    await loads.refresh(NOW)
    time[0] += 60
    found = loads.health(NOW)
    assert {"long": (60.0, False), "short": (60.0, True)} == {n: (one.age, one.ends_soon) for n, one in found.items()}


async def test_ticks_load_again_after_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first tick waits for the sources; later loads run beside the ticks, about five minutes apart."""
    time = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: time[0])
    source = Source({"primary": shifts()})
    async with Engine(MemoryStore(clock=ManualClock(START)), schedules=[source]) as engine:
        await engine.tick()
        assert (1, ["primary"]) == (source.loads, list(engine.schedules))
        time[0] += 269
        await engine.tick()
        assert 1 == source.loads
        time[0] += 62
        await engine.tick()
        await engine.schedule_loader._load_task.wait()
        assert 2 == source.loads


async def test_two_callers_wait_for_the_first_load() -> None:
    """A tick that finds the load started by another call does not go on without it."""
    loads, store = ScheduleLoader([Source({"primary": shifts()})]), MemoryStore(clock=ManualClock(START))
    seen = []

    async def one() -> None:
        await loads.keep_loaded(store)
        seen.append(list(loads.snapshot()))

    await asyncio.gather(one(), one(), one())
    assert [["primary"]] * 3 == seen


async def test_a_source_that_hangs_delays_the_first_tick_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine ticks without it, and says so; ``aclose`` ends the load."""
    monkeypatch.setattr(module, "FIRST_WAIT", timedelta(seconds=0.05))
    async with Engine(MemoryStore(clock=ManualClock(START)), schedules=[Source("hangs")]) as engine:
        await engine.tick()
        await engine.tick()
    assert 1 == sum("not all schedules are loaded yet, of Source" in record.message for record in caplog.records)


async def test_a_level_pages_the_default_target_until_the_first_load_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that is not loaded yet is unknown, and not empty: no level is passed over, and none is lost."""
    monkeypatch.setattr(module, "FIRST_WAIT", timedelta(seconds=0.05))
    file = Policies.from_mapping(
        {
            "policies": {"default": {"levels": [{"after": "0m", "to": ["oncall:primary"]}] * 2}},
            "people": {"ann": "slack:ann"},
        }
    )
    clock, answers = ManualClock(START), asyncio.Event()
    source = Source({"primary": shifts()}, answers)
    notifier = RecordingNotifier("ops", "slack:ann")
    settings = Settings(default_target="ops", tick_interval=timedelta(minutes=1))
    async with Engine(
        MemoryStore(clock=clock), settings=settings, policies=file, schedules=[source], notifiers=[notifier]
    ) as engine:
        await engine.open("k", severity="critical")
        async with asyncio.timeout(5):
            await engine.tick()
        assert ["ops"] == [page.target for page in notifier.pages]
        answers.set()
        await engine.schedule_loader._load_task.wait()
        clock.advance(timedelta(minutes=1))
        await engine.tick()
        assert ["ops", "slack:ann"] == [page.target for page in notifier.pages]


@pytest.mark.parametrize("value", [7, "x", [7], None])
def test_anything_but_sources_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match="schedules: is not a valid list of sources"):
        Engine(MemoryStore(clock=ManualClock(START)), schedules=value)


@pytest.mark.parametrize("value", [7, "x", object()])
def test_anything_but_a_reader_of_calendars_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"calendars: is not a valid reader of calendars; give an object with async"):
        Engine(MemoryStore(clock=ManualClock(START)), calendars=value)
