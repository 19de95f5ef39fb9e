"""Refused rows: the rows that are written, deferred and passed over, and the number of writes that this takes."""

from collections.abc import Sequence

import attrs
import pytest

from escalation_core import Incident, StoreRefused, StoreUnavailable
from escalation_core.engine import refused_rows
from escalation_core.engine.refused_rows import MAX_TRIES, defer_or_pass_over, write_apart
from escalation_core.model import Canary, Deferral
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock

from ..kit import HOUR, MINUTE, START, incident, put
from .refusing import RefusingStore

Refused = list[tuple[str, str]]


@pytest.fixture
def store(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> RefusingStore:
    """A store that refuses nothing until a test says what; its own time limits the search."""
    refusing = RefusingStore(clock)
    monkeypatch.setattr(refused_rows, "monotonic", lambda: refusing.time)
    return refusing


async def written(store: RefusingStore, keys: Sequence[str], *refuses: str) -> tuple[list[str], Refused]:
    """Raise incidents to level 1 apart; return the keys of each part that was written, and the refused keys."""
    store.refuses = {"advance": frozenset(refuses)}
    rows = [incident(key) for key in keys]
    await put(store, *rows)

    async def work(tx: Transaction) -> tuple[list[str], list[tuple[Incident, str]]]:
        async def write(some: Sequence[Incident]) -> str:
            await tx.incidents.advance(some)
            return " ".join(one.incident_key for one in some)

        return await write_apart(tx, [attrs.evolve(one, level=1) for one in rows], write)

    parts, refused = await store.transact(work)
    done = " ".join(parts).split()
    assert {key: int(key in done) for key in keys} == {key: store.rows[key]["level"] for key in keys}
    return parts, [(one.incident_key, fault) for one, fault in refused]


def faults(*keys: str) -> Refused:
    """Return refused keys, each with the store's refusal of that key."""
    return [(key, f"advance refuses {key}") for key in keys]


def tries(store: RefusingStore) -> list[str]:
    """Return the keys of each write, in the order of the writes."""
    return [keys for _, keys in store.calls]


# --- writing apart


async def test_rows_that_the_store_accepts_take_one_write(store: RefusingStore) -> None:
    """If the store refuses no row, the engine writes all rows at once."""
    assert (["a b c d"], []) == await written(store, "abcd")
    assert ["a b c d"] == tries(store)


async def test_no_rows_take_no_write(store: RefusingStore) -> None:
    """Without rows the engine writes nothing."""
    assert ([], []) == await written(store, "")
    assert [] == store.calls


@pytest.mark.parametrize(
    ("refuses", "parts", "expected"),
    [
        ("a", ["b", "c d", "e f g h"], ["a b c d e f g h", "a b c d", "a b", "a", "b", "c d", "e f g h"]),
        ("d", ["a b", "c", "e f g h"], ["a b c d e f g h", "a b c d", "a b", "c d", "c", "d", "e f g h"]),
        ("e", ["a b c d", "f", "g h"], ["a b c d e f g h", "a b c d", "e f g h", "e f", "e", "f", "g h"]),
        ("h", ["a b c d", "e f", "g"], ["a b c d e f g h", "a b c d", "e f g h", "e f", "g h", "g", "h"]),
    ],
)
async def test_one_refused_row_of_eight_takes_seven_writes(
    store: RefusingStore, refuses: str, parts: list[str], expected: list[str]
) -> None:
    """The engine halves each refused part, writes the others in order, and keeps the refused row's refusal."""
    assert (parts, faults(refuses)) == await written(store, "abcdefgh", refuses)
    assert expected == tries(store)


async def test_several_refused_rows_keep_their_order_and_refusals(store: RefusingStore) -> None:
    """The engine returns parts and refused rows in the rows' order; the second half takes the odd row."""
    assert (["a", "c", "d"], faults("b", "e")) == await written(store, "abcde", "b", "e")
    assert ["a b c d e", "a b", "a", "b", "c d e", "c", "d e", "d", "e"] == tries(store)


async def test_rows_that_are_all_refused_are_each_tried_alone(store: RefusingStore) -> None:
    """If the store refuses every row, the engine tries each row alone and writes none."""
    assert ([], faults("a", "b", "c", "d")) == await written(store, "abcd", *"abcd")
    assert ["a b c d", "a b", "a", "b", "c d", "c", "d"] == tries(store)


async def test_single_refused_row_is_tried_once(store: RefusingStore) -> None:
    """The engine does not repeat the write of a single refused row."""
    assert ([], faults("a")) == await written(store, "a", "a")
    assert ["a"] == tries(store)


async def test_search_ends_after_so_many_writes(store: RefusingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the last try on, the engine writes each part that is left once, and refuses it whole."""
    monkeypatch.setattr(refused_rows, "MAX_TRIES", 3)
    found = await written(store, "abcdefgh", "b", "d")
    whole = [(key, "advance refuses b") for key in "ab"] + [(key, "advance refuses d") for key in "cd"]
    assert (["e f g h"], whole) == found
    assert ["a b c d e f g h", "a b c d", "a b", "c d", "e f g h"] == tries(store)


async def test_limit_bounds_the_writes_of_a_large_batch(store: RefusingStore) -> None:
    """With 1,000 refused rows, the engine ends after 500 tries and one for each part that is left."""
    keys = [f"k{number}" for number in range(1000)]
    parts, refused = await written(store, keys, *keys)
    assert ([], keys) == (parts, [key for key, _ in refused])
    lengths = [len(part.split()) for part in tries(store)]
    assert (MAX_TRIES + 3, 500) == (len(lengths), lengths[-1])


async def test_limit_is_enough_for_thirty_rows_of_a_thousand(store: RefusingStore) -> None:
    """The engine finds 30 refused rows that lie far apart, and writes the 970 others."""
    keys = [f"k{number}" for number in range(1000)]
    parts, refused = await written(store, keys, *keys[16::33])
    assert faults(*keys[16::33]) == refused
    assert (970, 30) == (len(" ".join(parts).split()), len(refused))
    assert len(store.calls) < MAX_TRIES


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (3.0, ["a b c d", "a b", "a", "b", "c d"]),
        (5.0, ["a b c d", "a b", "a", "b", "c d"]),
        (5.001, ["a b c d", "a b", "c d"]),
        (10.001, ["a b c d"]),
    ],
)
async def test_search_ends_after_ten_seconds(store: RefusingStore, seconds: float, expected: list[str]) -> None:
    """The engine splits no part whose write ends more than ten seconds after the beginning."""
    store.seconds = seconds
    parts, refused = await written(store, "abcd", "a")
    assert expected == tries(store)
    lost = {1: "abcd", 3: "ab", 5: "a"}[len(expected)]
    assert [(key, "advance refuses a") for key in lost] == refused
    assert [key for key in "abcd" if key not in lost] == " ".join(parts).split()


async def test_store_that_is_down_ends_the_search(store: RefusingStore) -> None:
    """The engine passes StoreUnavailable on after one write, and the store keeps no part."""
    store.error = StoreUnavailable
    with pytest.raises(StoreUnavailable, match=r"^advance refuses b$"):
        await written(store, "abcd", "b")
    assert ["a b c d"] == tries(store)
    assert {0} == {found["level"] for found in store.rows.values()}


# --- deferring and passing over


def deferral(key: str) -> Deferral:
    """Return a deferral of a row for an hour."""
    return Deferral(incident_key=key, fault="refused", attempts=1, until=START + HOUR)


async def defer(store: RefusingStore, rows: str, altered: str = "", **refuses: str) -> None:
    """Defer rows of the store at START, and pass over altered ones; each row is due at START."""
    store.refuses = {verb.replace("_", " "): keys for verb, keys in refuses.items()}
    await put(store, *(incident(key, next_due_at=START) for key in rows + altered))
    over = [deferral(key) for key in altered]
    await store.transact(lambda tx: defer_or_pass_over(tx, [deferral(key) for key in rows], START, over))
    assert list(altered) == [one.incident_key for one in over], "the caller's list does not change"


def left(store: RefusingStore) -> dict[str, object]:
    """Return for each row its next_due_at, its deferral, and the end of its passing over."""
    return {key: (found["next_due_at"], *store.unreadable.get(key, ())) for key, found in store.rows.items()}


@pytest.mark.parametrize(
    ("rows", "altered", "refuses", "calls", "deferred", "passed"),
    [
        ("", "", "", [], "", ""),
        ("ab", "", "", [("defer", "a b")], "ab", ""),
        ("ab", "", "b", [("defer", "a b"), ("pass over", "a b")], "", "ab"),
        ("ab", "xy", "", [("defer", "a b"), ("pass over", "x y")], "ab", "xy"),
        ("ab", "xy", "a", [("defer", "a b"), ("pass over", "x y a b")], "", "xyab"),
        ("", "xy", "xy", [("pass over", "x y")], "", "xy"),
    ],
    ids=["nothing", "deferred", "refused", "altered", "refused-and-altered", "altered-alone"],
)
async def test_rows_are_deferred_or_passed_over(
    store: RefusingStore,
    rows: str,
    altered: str,
    refuses: str,
    calls: list[tuple[str, str]],
    deferred: str,
    passed: str,
) -> None:
    """The engine defers all rows, or passes all over if one is refused; it always passes altered rows over."""
    await defer(store, rows, altered, defer=refuses)
    assert calls == store.calls
    expected = {key: (START + HOUR, deferral(key), None) for key in deferred}
    assert expected | {key: (START, deferral(key), START + HOUR) for key in passed} == left(store)


async def test_no_claim_finds_the_rows_before_their_time(store: RefusingStore, clock: ManualClock) -> None:
    """A claim finds a deferred row and a row that is passed over at the end of the deferral."""
    await defer(store, "a", "x")

    async def claimed(tx: Transaction) -> list[str]:
        rows = await tx.incidents.claim(until=clock(), limit=9, canary=Canary(100))
        return [one.incident_key for one in rows]

    clock.advance(59 * MINUTE)
    assert [] == await store.transact(claimed)
    clock.advance(MINUTE)
    assert ["x", "a"] == await store.transact(claimed)


@pytest.mark.parametrize(("rows", "altered"), [("ab", ""), ("ab", "x"), ("", "x")])
async def test_store_that_refuses_its_own_table_is_the_cause(store: RefusingStore, rows: str, altered: str) -> None:
    """If the store also refuses to pass rows over, the engine raises that refusal, and nothing is written."""
    with pytest.raises(StoreRefused, match=r"^pass over refuses [ax]$"):
        await defer(store, rows, altered, defer="b", pass_over="ax")
    assert dict.fromkeys(rows + altered, (START,)) == left(store)


async def test_store_that_is_down_passes_no_row_over(store: RefusingStore) -> None:
    """The engine passes StoreUnavailable on, and does not take it for a refusal of the rows."""
    store.error = StoreUnavailable
    with pytest.raises(StoreUnavailable, match=r"^defer refuses a$"):
        await defer(store, "a", "x", defer="a")
    assert [("defer", "a")] == store.calls
    assert {"a": (START,), "x": (START,)} == left(store)
