"""The overwritten instants: the rows that an engine recognizes, for how long, and how many it remembers."""

from datetime import datetime

import attrs
import pytest

from escalation_core.engine.overwritten import MAX_OVERWRITTEN, Overwritten
from escalation_core.model import NEEDS_REPLAN, Candidate

from ..kit import MINUTE, START, incident


def candidate(key: str = "k", due_at: datetime | None = START) -> Candidate:
    """Return a row that a store claimed."""
    return Candidate(incident_key=key, incident=None, due_at=due_at)


def again(overwritten: Overwritten, *rows: Candidate) -> list[bool]:
    """Return for each row whether the engine recognizes it."""
    return [overwritten.recognize(row).again for row in rows]


def test_unknown_row_is_returned_as_it_is() -> None:
    """An engine that overwrote no row recognizes no row, not even one without an instant."""
    for row in (candidate(), candidate(due_at=None)):
        assert row is Overwritten().recognize(row)


@pytest.mark.parametrize("due_at", [START, NEEDS_REPLAN, None])
def test_row_that_has_its_old_instant_is_recognized(due_at: datetime | None) -> None:
    """The engine sets ``again`` in a row that has the overwritten instant, and changes nothing else."""
    overwritten = Overwritten()
    overwritten.keep([candidate(due_at=due_at)])
    row = Candidate(
        incident_key="k", incident=incident(), due_at=due_at, fault="f", attempts=2, labels_left_out=True, more=True
    )
    assert attrs.evolve(row, again=True) == overwritten.recognize(row)
    assert False is row.again


@pytest.mark.parametrize("ticks", [0, 1])
def test_row_with_another_instant_is_returned_as_it_is(ticks: int) -> None:
    """The engine does not recognize a row that has the instant that it wrote, or none, or another key."""
    overwritten = Overwritten()
    overwritten.keep([candidate()])
    for _ in range(ticks):
        overwritten.next_tick()
    for row in (candidate(due_at=START + MINUTE), candidate(due_at=None), candidate("other")):
        assert row is overwritten.recognize(row)


def test_row_that_was_overwritten_in_both_ticks_is_recognized_by_either_instant() -> None:
    """A host's trigger may undo the write of this tick or of the last one."""
    overwritten = Overwritten()
    overwritten.keep([candidate()])
    overwritten.next_tick()
    overwritten.keep([candidate(due_at=START + MINUTE)])
    later = candidate(due_at=START + 2 * MINUTE)
    assert [True, True, False] == again(overwritten, candidate(), candidate(due_at=START + MINUTE), later)


def test_row_is_forgotten_after_two_ticks() -> None:
    """The engine recognizes a row in the same tick and the next one, but not in the third."""
    overwritten, found = Overwritten(), []
    overwritten.keep([candidate()])
    for _ in range(3):
        found += again(overwritten, candidate())
        overwritten.next_tick()
    assert [True, True, False] == found


def test_rows_of_two_ticks_are_known_together() -> None:
    """The engine remembers the rows of the last tick beside those of this one."""
    overwritten = Overwritten()
    overwritten.keep([candidate("a"), candidate("b")])
    overwritten.next_tick()
    overwritten.keep([candidate("c")])
    rows = [candidate(key) for key in "abc"]
    assert [True, True, True] == again(overwritten, *rows)
    overwritten.next_tick()
    assert [False, False, True] == again(overwritten, *rows)


@pytest.mark.parametrize("ticks", [0, 1])
def test_latest_overwritten_instant_counts(ticks: int) -> None:
    """If the engine overwrites a row twice, it recognizes the later instant."""
    overwritten = Overwritten()
    overwritten.keep([candidate(due_at=START)])
    for _ in range(ticks):
        overwritten.next_tick()
    overwritten.keep([candidate(due_at=START + MINUTE)])
    assert [True] == again(overwritten, candidate(due_at=START + MINUTE))


def test_empty_batch_forgets_nothing() -> None:
    """A batch without rows leaves the rows of the batches before it."""
    overwritten = Overwritten()
    overwritten.keep([candidate()])
    overwritten.keep([])
    assert [True] == again(overwritten, candidate())


@pytest.mark.parametrize("first", [0, 1, MAX_OVERWRITTEN - 1, MAX_OVERWRITTEN])
def test_rows_beyond_the_limit_are_not_remembered(first: int) -> None:
    """The engine remembers the first 10,000 rows of a tick, however the tick splits them in batches."""
    rows = [candidate(str(number)) for number in range(10_002)]
    overwritten = Overwritten()
    overwritten.keep(rows[:first])
    overwritten.keep(rows[first:])
    overwritten.keep([candidate("late")])
    expected = [True] * 10_000 + [False] * 3
    assert expected == again(overwritten, *rows, candidate("late"))


def test_limit_counts_anew_in_each_tick() -> None:
    """A full tick leaves the next tick all of its 10,000 rows."""
    overwritten = Overwritten()
    overwritten.keep([candidate(f"old {number}") for number in range(MAX_OVERWRITTEN)])
    overwritten.next_tick()
    rows = [candidate(f"new {number}") for number in range(MAX_OVERWRITTEN + 1)]
    overwritten.keep(rows)
    assert [True, False] == again(overwritten, rows[-2], rows[-1])
    assert [True, True] == again(overwritten, candidate("old 0"), candidate(f"old {MAX_OVERWRITTEN - 1}"))


def test_two_engines_do_not_share_their_memory() -> None:
    """An engine does not recognize the rows that another engine overwrote."""
    one, other = Overwritten(), Overwritten()
    one.keep([candidate()])
    assert [False] == again(other, candidate())
