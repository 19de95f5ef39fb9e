"""The list of open incidents: its order, its parts, its filters and what it says of each incident."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Conditions, Engine, InvalidValue, OpenIncidents, Rejected, Settings
from escalation_core.model import Candidate
from escalation_core.rules.upcoming import HeldBy
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.memory.incidents import Incidents

from ..kit import HOUR, MINUTE, engine_of, ticks


def keys(found: OpenIncidents) -> list[str]:
    return [one.incident_key for one in found.incidents]


async def test_list_tells_next_escalation_and_pages(store: MemoryStore, clock: ManualClock) -> None:
    """An open incident has its next escalation, whom that pages, and the pages of its present episode alone."""
    answers = {"ops": None, "managers": Rejected("HTTP 404")}
    notifier = RecordingNotifier(*answers, answer=lambda page: answers[page.target] or RecordingNotifier().answer(page))
    settings = Settings.from_env(
        {
            "ESC_ROUTES": '[{"targets": ["ops", "managers"]}]',
            "ESC_TARGETS": '{"ops": "https://a.test", "managers": "https://b.test"}',
        }
    )
    engine = Engine(store, settings=settings, notifiers=[notifier])
    await engine.open("k", severity="critical", labels={"team": "storage"})
    await ticks(engine, clock, 5 * MINUTE)
    await engine.resolve("k")
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    found = await engine.open_incidents()
    [one] = found.incidents
    assert (clock(), False) == (found.at, found.more)
    assert one.incident is not None
    assert (1, 2) == (one.incident.level, one.incident.episode)
    assert clock() + 30 * MINUTE == one.upcoming.at
    assert one.next_pages is not None
    assert (2, ("ops", "managers")) == (one.next_pages.level, one.next_pages.targets)
    assert [("ops", "delivered", 2), ("managers", "dead", 2)] == [
        (page.target, page.state.value, page.episode) for page in one.pages
    ]


async def test_list_in_parts(store: MemoryStore, clock: ManualClock) -> None:
    """Each incident is in one part, in the order of escalation; exhausted ones come last; ended ones are left out."""
    engine = engine_of(store, max_level=1)
    for key in ("ended", "taken", "worn out"):
        await engine.open(key, severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await engine.resolve("ended")
    await engine.acknowledge("taken")
    for key in ("c", "a", "b"):
        await engine.open(key, severity="critical")
    await engine.open("later", severity="warning")
    await store.host.insert("bad", first_seen=clock(), level=-1)
    ordered = ["bad", "a", "b", "c", "later", "worn out"]
    assert ordered == keys(await engine.open_incidents())
    for limit in (1, 2, 4, 5):
        read: list[str] = []
        after: str | None = None
        while True:
            part = await engine.open_incidents(limit=limit, after=after)
            read += keys(part)
            if not part.more:
                break
            after = part.incidents[-1].cursor
        assert ordered == read, limit
    assert not (await engine.open_incidents(limit=6)).more


async def test_row_that_cannot_be_read_is_listed(store: MemoryStore, clock: ManualClock) -> None:
    """A list has unreadable rows with their fault, whatever its conditions and its span."""
    engine = engine_of(store)
    await store.host.insert("bad", first_seen=clock(), level=-1, severity="critical")
    await engine.tick()
    for found in (
        await engine.open_incidents(),
        await engine.open_incidents(within=HOUR),
        await engine.open_incidents(match=Conditions(severity="warning")),
    ):
        [one] = found.incidents
        assert ("bad", None, HeldBy.UNREADABLE) == (one.incident_key, one.incident, one.upcoming.held_by)
        assert "level" in str(one.fault)
        assert one.next_pages is None


async def test_conditions(store: MemoryStore, clock: ManualClock) -> None:
    """Conditions leave out the incidents that do not meet them, as the conditions of a route do."""
    engine = engine_of(store)
    await engine.open("high", severity=" Critical ", labels={"team": "storage"})
    await ticks(engine, clock, 5 * MINUTE)
    await engine.open("low", severity="critical", labels={"team": "shop"})
    await engine.open("warned", severity="warning", labels={"team": "storage", "zone": "a"})
    for conditions, wanted in (
        (Conditions(), ["low", "warned", "high"]),
        (Conditions(severity="CRITICAL"), ["low", "high"]),
        (Conditions(min_level=1), ["high"]),
        (Conditions(labels={"team": "storage"}), ["warned", "high"]),
        (Conditions(severity="warning", labels={"team": "shop"}), []),
    ):
        assert wanted == keys(await engine.open_incidents(match=conditions)), conditions
    for number in range(2100):  # more than are read at once
        await engine.open(f"other {number:03}", severity="other")
    found = await engine.open_incidents(match=Conditions(severity="critical"), limit=1)
    assert (["low"], True) == (keys(found), found.more)
    found = await engine.open_incidents(match=Conditions(severity="critical"), after=found.incidents[0].cursor)
    assert (["high"], False) == (keys(found), found.more)


async def test_what_falls_due_within_a_span(store: MemoryStore, clock: ManualClock) -> None:
    """A span leaves out what escalates later and what is exhausted; a pause beyond the span hides nothing."""
    engine = engine_of(store, max_level=1)
    await engine.open("worn out", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await engine.open("soon", severity="critical")
    await engine.open("later", severity="warning")
    await engine.open("asleep", severity="critical")
    await engine.snooze("asleep", 2 * HOUR)
    await store.host.insert("by the host", severity="warning", first_seen=clock())
    await store.host.insert("by the host, soon", severity="critical", first_seen=clock())
    assert ["by the host, soon", "soon"] == keys(await engine.open_incidents(within=5 * MINUTE))
    assert ["by the host, soon", "soon"] == keys(await engine.open_incidents(within=14 * MINUTE))
    every = {"by the host", "by the host, soon", "later", "soon"}
    assert every == set(keys(await engine.open_incidents(within=15 * MINUTE)))
    assert "asleep" in keys(await engine.open_incidents(within=timedelta.max))
    await engine.pause(HOUR)
    held = await engine.open_incidents(within=5 * MINUTE)
    assert {HeldBy.PAUSED} == {one.upcoming.held_by for one in held.incidents}
    assert {"soon", "by the host, soon"} <= set(keys(held))


async def test_rows_that_are_left_out_are_read_in_large_parts(store: MemoryStore, clock: ManualClock) -> None:
    """Windows that are longer now leave many rows out of a span: the engine reads on in large parts."""
    for number in range(3000):
        await engine_of(store).open(f"{number:04}", severity="critical")
    longer = engine_of(store, critical_window=2 * HOUR, warning_window=2 * HOUR)
    parts: list[int] = []
    real = Incidents.list_open

    async def counted(self: Incidents, **options: Any) -> Sequence[Candidate]:
        parts.append(options["limit"])
        return await real(self, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Incidents, "list_open", counted)
        assert [] == keys(await longer.open_incidents(within=HOUR))
    assert len(parts) < 5, parts


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"within": timedelta()}, "within"),
        ({"within": -HOUR}, "within"),
        ({"after": "nonsense"}, "after"),
        ({"after": "-."}, "after"),
        ({"after": "999999999999999999.k"}, "after"),
        ({"after": 7}, "after"),
        ({"after": "0.a b"}, "after"),
        ({"after": "0._w=="}, "after"),  # not UTF-8
        ({"after": "0.abc"}, "after"),
    ],
)
async def test_bad_input(store: MemoryStore, wrong: dict[str, object], field: str) -> None:
    """A limit, a span or a cursor that is not valid is refused, and the error names it."""
    with pytest.raises(InvalidValue, match=f"^{field}: "):
        await engine_of(store).open_incidents(**wrong)  # type: ignore[arg-type]


async def test_any_key_makes_a_cursor(store: MemoryStore, clock: ManualClock) -> None:
    """A cursor holds any key, also one with dots, dashes and line ends."""
    engine = engine_of(store)
    for key in ("-.1", "ключ.7", "—help"):
        await engine.open(key)
    await store.host.insert("a\nb", first_seen=clock())
    await store.host.insert("x" * 600, first_seen=clock())
    found = (await engine.open_incidents()).incidents
    assert 5 == len(found)
    for one in found:
        assert one.cursor.isascii()
        assert one.cursor.isprintable()
        assert " " not in one.cursor
        following = await engine.open_incidents(after=one.cursor)
        assert one.incident_key not in keys(following)
