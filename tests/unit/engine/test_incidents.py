"""The verbs of incidents one by one: the columns each writes and keeps, and the calls each refuses."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest

from escalation_core import Engine, Incident, InvalidValue, Settings, State, TransitionRefused
from escalation_core.rules.transitions import Verb
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.memory.incidents import Incidents

from ..incident_in_state import NOW, T10, expected, stand
from ..kit import DAY, HOUR, MINUTE, SECOND, START, actions, engine_of, picture, row, states


async def test_notes_tell_who_and_where(store: MemoryStore, clock: ManualClock) -> None:
    """A note holds instant, key, episode, level and actor, as they are after the verb."""
    engine = await stand(store, clock, State.OPEN)
    await engine.drain("k", by="op")
    note = list(store.notes.values())[-1]
    assert NOW == note.at
    assert "drain" == note.action
    assert "k" == note.incident_key
    assert 2 == note.episode
    assert 0 == note.level
    assert "op" == note.actor


# --- open


async def test_open_creates(store: MemoryStore, clock: ManualClock) -> None:
    """Opening an unknown key creates an incident at level 0 of episode 1, first seen now, with severity warning."""
    engine = await stand(store, clock, State.UNKNOWN)
    result = await engine.open("k", by="op")
    born = Incident(incident_key="k", severity="warning", first_seen=NOW, next_due_at=NOW + 15 * MINUTE)
    assert born == result
    assert attrs.asdict(born) == row(store)
    assert ["open"] == actions(store)


@pytest.mark.parametrize(("given", "severity"), [(None, "warning"), ("critical", "critical"), ("", "")])
async def test_new_incidents_severity(given: str | None, severity: str, store: MemoryStore) -> None:
    """A new incident has severity warning unless a severity is given."""
    assert severity == (await Engine(store).open("k", severity=given)).severity


async def test_open_leaves_alone_what_is_not_said(store: MemoryStore, clock: ManualClock) -> None:
    """A field that open does not get stays unchanged; summary and labels can be given separately."""
    engine = await stand(store, clock, State.OPEN)
    await engine.open("k", summary="new")
    assert expected(summary="new") == row(store)
    await engine.open("k", labels={})
    assert expected(summary="new", labels={}) == row(store)


async def test_open_with_another_severity_recomputes(store: MemoryStore, clock: ManualClock) -> None:
    """Opening with another severity recomputes the due instant of a live incident."""
    engine = Engine(store)
    await engine.open("k", severity="critical")
    await engine.open("k", severity="warning")
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_reopened_key_keeps_what_is_not_said(store: MemoryStore, clock: ManualClock) -> None:
    """A new episode keeps severity, summary and labels of the old one, and drops acknowledgement and snooze."""
    engine = await stand(
        store, clock, State.RESOLVED, acknowledged_at=T10, acknowledged_by="first", snoozed_until=START + DAY
    )
    again = await engine.open("k")
    assert "critical" == again.severity
    assert "disk" == again.summary
    assert {"a": "1"} == again.labels
    assert None is again.acknowledged_at
    assert None is again.acknowledged_by
    assert None is again.snoozed_until


async def test_new_episode_is_beyond_the_ledger(store: MemoryStore, clock: ManualClock) -> None:
    """A row that its host deleted and opens again gets an episode above every recorded one, and escalates."""
    engine = await stand(store, clock, State.OPEN)
    await store.host.delete("k")
    again = await engine.open("k", severity="critical")
    assert (2, 0) == (again.episode, again.level)
    clock.advance(5 * MINUTE)
    assert 1 == (await engine.tick()).escalated


async def test_reopened_episode_is_paged_from_level_1(store: MemoryStore, clock: ManualClock) -> None:
    """Level 1 of a new episode is a new escalation with its own dedup key."""
    engine = await stand(store, clock, State.RESOLVED)
    await engine.open("k")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    assert [(1, 1), (2, 1)] == [(one.episode, one.level) for one in store.ledger.values()]
    assert 2 == len({page.dedup_key for page in store.pages.values()})


async def test_first_seen_in_the_future_waits(store: MemoryStore, clock: ManualClock) -> None:
    """The window counts from first_seen, even in the future; open takes any time zone and stores UTC."""
    tokyo = (START + HOUR).astimezone(ZoneInfo("Asia/Tokyo"))
    one = await Engine(store).open("k", severity="critical", first_seen=tokyo)
    assert (START + HOUR, START + HOUR + 5 * MINUTE) == (one.first_seen, one.next_due_at)
    assert UTC is one.first_seen.tzinfo


async def test_open_that_comes_second_is_an_update(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process inserts the key between look and insert, open updates that incident."""
    await Engine(store).open("k", severity="critical", summary="theirs")
    load, looked = Incidents.load, []

    async def blind_once(self: Incidents, key: str, *, lock: bool = True) -> Incident | None:
        looked.append(key)
        return None if len(looked) == 1 else await load(self, key, lock=lock)

    monkeypatch.setattr(Incidents, "load", blind_once)
    result = await Engine(store).open("k", summary="mine")
    assert "critical" == result.severity
    assert "mine" == result.summary
    assert 1 == result.episode


# --- bad values


BAD: list[tuple[str, dict[str, Any]]] = [
    ("incident_key", {"incident_key": ""}),
    ("incident_key", {"incident_key": 7}),
    ("severity", {"severity": 7}),
    ("severity", {"severity": "a\0"}),
    ("summary", {"summary": b"x"}),
    ("summary", {"summary": "\ud800"}),
    ("labels", {"labels": [("a", "1")]}),
    ("labels", {"labels": {7: "a"}}),
    ("labels['a']", {"labels": {"a": 7}}),
    ("first_seen", {"first_seen": datetime(2025, 1, 1)}),  # noqa: DTZ001 - naive on purpose
    ("first_seen", {"first_seen": "2025-01-01"}),
    ("first_seen", {"first_seen": datetime.max.replace(tzinfo=timezone(-HOUR))}),
    ("by", {"by": 7}),
    ("by", {"by": "a\0"}),
]


@pytest.mark.parametrize(("field", "given"), BAD)
async def test_open_refuses_bad_values_by_name(field: str, given: dict[str, Any], store: MemoryStore) -> None:
    """Open refuses a bad value under its field's name before it writes anything."""
    before = picture(store)
    with pytest.raises(InvalidValue) as caught:
        await Engine(store).open(**{"incident_key": "k", **given})
    assert field == caught.value.field
    assert before == picture(store)


@pytest.mark.parametrize("verb", list(Verb))
async def test_bad_actors_are_refused(verb: Verb, store: MemoryStore, clock: ManualClock) -> None:
    """Each verb refuses an actor that is not text a store can hold, and writes nothing."""
    state = State.ACKNOWLEDGED if verb is Verb.UNACKNOWLEDGE else State.OPEN
    engine = await stand(store, clock, state)
    before = picture(store)
    arguments: dict[Verb, tuple[Any, ...]] = {Verb.SNOOZE: (None,), Verb.CHANGE_SEVERITY: ("warning",)}
    with pytest.raises(InvalidValue) as caught:
        await getattr(engine, verb.value)("k", *arguments.get(verb, ()), by="a\0")
    assert "by" == caught.value.field
    assert before == picture(store)


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.OPEN])
async def test_bad_keys_are_refused(verb: Verb, store: MemoryStore) -> None:
    """Each verb refuses an invalid key as a bad value, not as an unknown incident."""
    arguments: dict[Verb, tuple[Any, ...]] = {Verb.SNOOZE: (None,), Verb.CHANGE_SEVERITY: ("warning",)}
    with pytest.raises(InvalidValue) as caught:
        await getattr(Engine(store), verb.value)("a\n", *arguments.get(verb, ()))
    assert "incident_key" == caught.value.field


@pytest.mark.parametrize("severity", [None, 7, "a\0"])
async def test_change_severity_takes_text_alone(severity: Any, store: MemoryStore, clock: ManualClock) -> None:
    """change_severity refuses a severity that is not valid text."""
    engine = await stand(store, clock, State.OPEN)
    with pytest.raises(InvalidValue) as caught:
        await engine.change_severity("k", severity)
    assert "severity" == caught.value.field


async def test_verbs_refuse_rows_that_cannot_be_read(store: MemoryStore) -> None:
    """A verb on an unreadable row is refused with the wrong column and the remedy to correct the row."""
    await store.host.insert("k", level=None)
    with pytest.raises(TransitionRefused, match=r"correct its row: level: is ") as caught:
        await engine_of(store).acknowledge("k")
    assert "k" == caught.value.incident_key
    assert "unreadable" == caught.value.state
    assert "acknowledge" == caught.value.verb


# --- acknowledge, unacknowledge and resolve


async def test_first_actor_stays(store: MemoryStore, clock: ManualClock) -> None:
    """A second acknowledgement changes neither the actor nor the instant."""
    engine = await stand(store, clock, State.ACKNOWLEDGED)
    result = await engine.acknowledge("k", by="second")
    assert ("first", T10 + MINUTE) == (result.acknowledged_by, result.acknowledged_at)


async def test_cancelled_pages_stay_cancelled_after_unacknowledge(store: MemoryStore, clock: ManualClock) -> None:
    """After unacknowledge, cancelled pages stay cancelled, and the next level is paged."""
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier])
    await engine.open("k", severity="critical")
    clock.set(T10)
    await engine.tick(deliver=False)
    await engine.acknowledge("k", by="a")
    result = await engine.unacknowledge("k")
    assert 1 == result.level
    assert 1 == result.episode
    assert START == result.first_seen
    assert T10 == result.last_escalated_at
    assert None is result.acknowledged_at
    assert None is result.acknowledged_by
    await engine.deliver()
    assert ["cancelled"] == states(store)
    clock.advance(30 * MINUTE)
    await engine.tick()
    assert [2] == [page.level for page in notifier.pages]


async def test_resolving_twice_keeps_the_first_instant(store: MemoryStore, clock: ManualClock) -> None:
    """A second resolve does not change resolved_at."""
    engine = await stand(store, clock, State.RESOLVED)
    assert T10 + MINUTE == (await engine.resolve("k")).resolved_at


# --- severity and snooze


async def test_change_severity_recomputes(store: MemoryStore, clock: ManualClock) -> None:
    """A shorter window makes the incident due earlier; a longer window makes it due later."""
    engine = Engine(store)
    await engine.open("k", severity="warning")
    assert START + 5 * MINUTE == (await engine.change_severity("k", "critical")).next_due_at
    assert START + 15 * MINUTE == (await engine.change_severity("k", "other")).next_due_at


async def test_verbs_follow_the_settings_of_their_engine(store: MemoryStore) -> None:
    """Verbs use the windows of further severities in their engine's settings."""
    engine = Engine(store, settings=Settings(windows={"high": 7 * MINUTE}))
    assert START + 7 * MINUTE == (await engine.open("k", severity=" HIGH ")).next_due_at


async def test_snooze_until_none_ends_it(store: MemoryStore, clock: ManualClock) -> None:
    """Snooze with None ends the snooze, and the due instant is computed without it again."""
    engine = await stand(store, clock, State.OPEN)
    await engine.snooze("k", START + 9 * HOUR)
    await engine.snooze("k", None)
    assert expected() == row(store)


async def test_snoozed_incident_does_not_rise_and_its_pages_go(store: MemoryStore, clock: ManualClock) -> None:
    """A snoozed incident does not escalate before the snooze ends; a page recorded before the snooze is sent."""
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier])
    await engine.open("k", severity="critical")
    clock.set(T10)
    await engine.tick(deliver=False)
    await engine.snooze("k", START + 9 * HOUR)
    clock.set(START + 9 * HOUR - SECOND)
    assert 0 == (await engine.tick()).escalated
    assert [1] == [page.level for page in notifier.pages]
    clock.set(START + 9 * HOUR)
    assert 1 == (await engine.tick()).escalated


LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


async def test_snooze_reaches_to_the_year_9999(store: MemoryStore, clock: ManualClock) -> None:
    """Snooze takes the last second of the year 9999."""
    engine = await stand(store, clock, State.OPEN)
    result = await engine.snooze("k", LAST)
    assert (LAST, LAST) == (result.snoozed_until, result.next_due_at)


@pytest.mark.parametrize(
    "until",
    [
        datetime(2025, 1, 2),  # noqa: DTZ001 - naive on purpose
        LAST + timedelta(microseconds=1),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-HOUR)),
        "2025-01-02T00:00:00Z",
        1735776000,
        -MINUTE,
        timedelta(),
        timedelta.max,
    ],
)
async def test_bad_snoozes_are_refused(until: Any, store: MemoryStore, clock: ManualClock) -> None:
    """Snooze refuses an ``until`` that is not a positive span or an aware datetime up to 9999, and writes nothing."""
    engine = await stand(store, clock, State.OPEN)
    before = picture(store)
    with pytest.raises(InvalidValue) as caught:
        await engine.snooze("k", until)
    assert "until" == caught.value.field
    assert before == picture(store)


async def test_snooze_for_a_span(store: MemoryStore, clock: ManualClock) -> None:
    """A span counts from the store's current time."""
    engine = await stand(store, clock, State.OPEN)
    assert clock() + 2 * HOUR == (await engine.snooze("k", 2 * HOUR)).snoozed_until


async def test_snooze_into_the_past_delays_nothing(store: MemoryStore, clock: ManualClock) -> None:
    """A snooze that is over already is recorded, and does not change the due instant."""
    engine = await stand(store, clock, State.OPEN)
    assert T10 + 30 * MINUTE == (await engine.snooze("k", START - DAY)).next_due_at


async def test_why_is_kept_beside_what(store: MemoryStore, clock: ManualClock) -> None:
    """The audit shows the value of a new severity or snooze, and then the reason if one is given."""
    engine = await stand(store, clock, State.OPEN)
    since = clock()
    for reason in (None, "the team looks at it"):
        clock.advance(MINUTE)
        await engine.change_severity("k", "warning" if reason else "low", reason=reason)
        clock.advance(MINUTE)
        await engine.snooze("k", START + 9 * HOUR + (MINUTE if reason else SECOND), reason=reason)
    clock.advance(MINUTE)
    await engine.snooze("k", None, reason="it is back")
    assert [
        "ended: it is back",
        "until 2025-01-01T09:01:00+00:00: the team looks at it",
        "warning: the team looks at it",
        "until 2025-01-01T09:00:01+00:00",
        "low",
    ] == [entry.reason for entry in await engine.audit(since) if entry.action in ("change_severity", "snooze")]


# --- drain


async def test_drain_keeps_what_belongs_to_the_incident(store: MemoryStore, clock: ManualClock) -> None:
    """Drain keeps first_seen, last_escalated_at and snoozed_until; the due instant follows from the lower level."""
    engine = await stand(store, clock, State.OPEN, level=5, snoozed_until=START + MINUTE)
    result = await engine.drain("k")
    assert expected(level=4, episode=2, snoozed_until=START + MINUTE) == attrs.asdict(result)


async def test_drained_level_is_recorded_and_paged_once_more(store: MemoryStore, clock: ManualClock) -> None:
    """After a drain the same level is a new escalation of the new episode, and the old page is cancelled."""
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier])
    await engine.open("k", severity="critical")
    clock.set(T10)
    await engine.tick(deliver=False)
    await engine.drain("k")
    clock.advance(30 * MINUTE)
    await engine.tick()
    assert [(2, 1)] == [(page.episode, page.level) for page in notifier.pages]
    assert ["cancelled", "delivered"] == states(store)
    assert "drained" == store.pages[1].reason


async def test_drain_from_the_maximum_revives(store: MemoryStore, clock: ManualClock) -> None:
    """An exhausted incident that is drained escalates again."""
    engine = await stand(store, clock, State.OPEN, level=7, next_due_at=None)
    assert T10 + 30 * MINUTE == (await engine.drain("k")).next_due_at
    clock.set(T10 + 35 * MINUTE)
    assert (1, 1) == ((report := await engine.tick()).escalated, report.exhausted)
