"""Reading the audit: the entries of each source, their order, and reading on with a cursor."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from escalation_core import AuditEntry, Escalation
from escalation_core.engine.audit import read_audit
from escalation_core.model import AuditCursor, AuditSource, PageRecord, PageState, parse_cursor
from escalation_core.ports import Transaction
from escalation_core.testing import MemoryStore

from ..kit import DAY, SECOND, START, page
from .helpers import TICK

SAVED = ("at", "action", "incident_key", "episode", "level", "actor", "reason", "target")
"""The fields of an entry that a store saves."""
Place = tuple[timedelta, int, int]
"""An entry's distance from START, its source and its id."""


def escalation(level: int, after: timedelta = timedelta(), key: str = "k") -> Escalation:
    """Return an escalation that was recorded at a distance from START."""
    return Escalation(incident_key=key, episode=2, level=level, created_at=START + after)


def sent(number: int, after: timedelta = timedelta(), **fields: Any) -> PageRecord:
    """Return a page that was delivered at a distance from START."""
    return page(**{"id": number, "state": PageState.DELIVERED, "due_at": START + after, **fields})


def note(after: timedelta = timedelta(), key: str | None = "k") -> AuditEntry:
    """Return a note that was written at a distance from START."""
    return AuditEntry(at=START + after, action="open", incident_key=key)


async def write(store: MemoryStore, *records: Escalation | PageRecord | AuditEntry) -> None:
    """Write records to the store, each to its table."""

    async def work(tx: Transaction) -> None:
        await tx.ledger.record([one for one in records if isinstance(one, Escalation)])
        await tx.outbox.write([one for one in records if isinstance(one, PageRecord)])
        await tx.journal.note([one for one in records if isinstance(one, AuditEntry)])

    await store.transact(work)


async def read(store: MemoryStore, **given: Any) -> Sequence[AuditEntry]:
    """Read the audit since START, at most 99 entries, unless the test gives other values."""
    values = {"since": START, "limit": 99, **given}
    return await store.read(lambda tx: read_audit(tx, **values))


def places(entries: Sequence[AuditEntry]) -> list[Place]:
    """Return the place of each entry by its cursor, which must have the entry's own instant."""
    found = [parse_cursor(entry.cursor or "") for entry in entries]
    assert [entry.at for entry in entries] == [place.at for place in found]
    return [(place.at - START, place.source, place.id) for place in found]


# --- entries


async def test_entry_of_each_source(store: MemoryStore) -> None:
    """The audit shows escalations, settled pages and notes with all of their values and their cursors."""
    said = AuditEntry(
        at=START + 2 * SECOND,
        action="acknowledge",
        incident_key="k",
        episode=2,
        level=3,
        actor="anna",
        reason="seen",
        target="t",
    )
    await write(store, escalation(3), sent(5, SECOND, episode=2, level=3, target="ops", reason="busy"), said)
    noted, delivered, escalated = await read(store)
    assert said == AuditEntry(**{field: getattr(noted, field) for field in SAVED})
    assert [(2 * SECOND, 3, 1), (SECOND, 2, 5), (0 * SECOND, 1, 1)] == places([noted, delivered, escalated])
    expected = AuditEntry(
        at=START + SECOND,
        action="page delivered",
        incident_key="k",
        episode=2,
        level=3,
        reason="busy",
        target="ops",
        cursor=AuditCursor(START + SECOND, AuditSource.PAGE, 5).cursor,
    )
    assert expected == delivered
    first = AuditCursor(START, AuditSource.ESCALATION, 1).cursor
    assert AuditEntry(at=START, action="escalate", incident_key="k", episode=2, level=3, cursor=first) == escalated


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (PageState.PENDING, []),
        (PageState.LEASED, []),
        (PageState.CANCELLING, []),
        (PageState.DELIVERED, ["page delivered"]),
        (PageState.CANCELLED, ["page cancelled"]),
        (PageState.DEAD, ["page dead"]),
    ],
)
async def test_only_settled_pages_are_entries(store: MemoryStore, state: PageState, expected: list[str]) -> None:
    """The audit shows a settled page by its state, and no page that is still unsettled."""
    await write(store, sent(1, state=state))
    assert expected == [entry.action for entry in await read(store)]


async def test_audit_of_one_key(store: MemoryStore) -> None:
    """With a key the audit leaves out the entries of other keys, and notes without a key."""
    for key in ("other", "k"):
        await write(store, escalation(1, key=key), sent(ord(key[0]), incident_key=key), note(key=key))
    await write(store, note(key=None))
    assert ["k"] * 3 == [entry.incident_key for entry in await read(store, incident_key="k")]
    assert [] == await read(store, incident_key="unknown")
    assert 7 == len(await read(store))


# --- order and limits


async def test_entries_of_one_instant_are_sorted_by_source_and_id(store: MemoryStore) -> None:
    """At one instant escalations come first, then pages, then notes, each with the lowest id first."""
    await write(store, note(), note(), sent(9), sent(2), escalation(2), escalation(1))
    zero = timedelta()
    expected = [(zero, 1, 1), (zero, 1, 2), (zero, 2, 2), (zero, 2, 9), (zero, 3, 1), (zero, 3, 2)]
    assert expected == places(await read(store))


@pytest.mark.parametrize("limit", range(1, 8))
async def test_limit_keeps_the_newest_of_all_sources(store: MemoryStore, limit: int) -> None:
    """The limit counts the entries of all sources together, and keeps the newest."""
    await write(store, note(0 * SECOND), escalation(1, SECOND), sent(1, 2 * SECOND))
    await write(store, note(3 * SECOND), sent(2, 4 * SECOND), escalation(2, 5 * SECOND))
    expected = [(5, 1, 2), (4, 2, 2), (3, 3, 2), (2, 2, 1), (1, 1, 1), (0, 3, 1)]
    found = places(await read(store, limit=limit))
    assert [(n * SECOND, source, number) for n, source, number in expected[:limit]] == found


async def test_audit_begins_at_its_instant(store: MemoryStore) -> None:
    """The audit has the entries of each source at ``since``, and none from before it."""
    for n, after in enumerate((-TICK, timedelta(), TICK), 1):
        await write(store, escalation(n, after), sent(n, after), note(after))
    expected = [(after, source, number) for after, number in ((TICK, 3), (0 * TICK, 2)) for source in (1, 2, 3)]
    assert expected == places(await read(store))


# --- reading on


async def crowded(store: MemoryStore) -> list[Place]:
    """Write three entries of each source at each of three instants; return the places of all."""
    for n in range(3):
        for number in range(1, 4):
            after = n * SECOND
            await write(store, escalation(3 * n + number, after), sent(3 * n + number, after), note(after))
    return places(await read(store))


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 26, 27, 28])
async def test_reader_gets_each_entry_once(store: MemoryStore, limit: int) -> None:
    """A reader who passes the last cursor back gets every entry once, in order, for any limit."""
    everything = await crowded(store)
    assert 27 == len(everything)
    found: list[Place] = []
    after: AuditCursor | None = None
    for _ in range(0, 27, limit):
        entries = await read(store, limit=limit, after=after)
        found += places(entries)
        after = parse_cursor(entries[-1].cursor or "")
    assert everything == found
    assert [] == await read(store, limit=limit, after=after)


@pytest.mark.parametrize("number", range(27))
async def test_reader_goes_on_behind_any_entry(store: MemoryStore, number: int) -> None:
    """With the cursor of any entry, the audit has all entries behind it and no other."""
    everything = await crowded(store)
    after, source, own = everything[number]
    assert everything[number + 1 :] == places(await read(store, after=AuditCursor(START + after, source, own)))


async def test_new_entries_do_not_shift_a_reader(store: MemoryStore) -> None:
    """A reader who goes on gets no entry that is newer than the cursor, and misses none behind it."""
    everything = await crowded(store)
    last = parse_cursor((await read(store, limit=5))[-1].cursor or "")
    await write(store, escalation(99, DAY), sent(99, DAY), note(DAY))
    assert everything[5:] == places(await read(store, after=last))


async def test_reader_goes_on_behind_a_deleted_entry(store: MemoryStore) -> None:
    """A reader goes on with the cursor of an entry that a prune has deleted meanwhile."""
    await write(store, note(2 * SECOND), note(SECOND), note())
    last = parse_cursor((await read(store, limit=2))[-1].cursor or "")
    await store.transact(lambda tx: tx.operations.delete(AuditSource.NOTE, [2]))
    assert [(0 * SECOND, 3, 3)] == places(await read(store, after=last))


async def test_reader_goes_on_no_further_than_the_beginning(store: MemoryStore) -> None:
    """With a cursor the audit still ends at ``since``, and is empty if the cursor is older."""
    await write(store, escalation(98, -SECOND), sent(98, -SECOND), note(-SECOND))
    everything = await crowded(store)
    assert everything[1:] == places(await read(store, after=AuditCursor(START + 2 * SECOND, 1, everything[0][2])))
    assert [] == await read(store, after=AuditCursor(START - TICK, AuditSource.ESCALATION, 0))


async def test_reader_of_one_key_goes_on_with_that_key(store: MemoryStore) -> None:
    """With a key and a cursor, the audit has the entries of that key behind the cursor."""
    await write(store, note(2 * SECOND), note(SECOND, "other"), note(SECOND), note(key="other"), note())
    last = parse_cursor((await read(store, limit=1, incident_key="k"))[-1].cursor or "")
    found = places(await read(store, incident_key="k", after=last))
    assert [(SECOND, 3, 3), (0 * SECOND, 3, 5)] == found
