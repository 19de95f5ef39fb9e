"""The engine lists and defers rows of a host that it cannot read or plan. Such rows hold up no other row."""

from datetime import timedelta
from typing import LiteralString

import pytest

from escalation_core import TransitionRefused

from .scene import DUE, MINUTE, UNREADABLE, Scene, insert, insert_unreadable


@pytest.mark.parametrize("labels", ['{"n": 1e5000}', '{"a": ' + "[" * 3000 + "]" * 3000 + "}"])
async def test_labels_that_python_cannot_read_stop_no_other_row(labels: str, scene: Scene) -> None:
    """Python cannot read some labels that PostgreSQL holds. Such a row is deferred and listed; other rows are paged."""
    insert(scene, "good", age=timedelta(hours=1))
    insert(scene, "bad", age=timedelta(hours=1))
    scene.sql("UPDATE incidents SET labels = %(labels)s::jsonb WHERE incident_key = 'bad'", labels=labels)
    paged = await scene.tick()
    listed = [key for key, _ in (await scene.engine.health()).stats.unreadable_examples]
    # The depth that Python can read depends on its version: the row must be either paged or listed.
    assert ["bad", "good"] == sorted([*(key for key, _, _ in paged), *listed])
    assert "good" not in listed
    scene.sql("UPDATE incidents SET labels = '{}', severity = 'warning' WHERE incident_key = 'bad'")
    assert [("bad", 1, 1)] == [*paged[:-1], *await scene.tick()]


async def test_unreadable_rows_are_listed_and_hold_up_no_other_row(scene: Scene) -> None:
    """Rows that cannot be read or planned are listed in health with their faults, and all others are paged."""
    insert(scene, "before", age=timedelta(hours=1))
    insert_unreadable(scene)
    insert(scene, "after", age=timedelta(hours=1))
    assert [("after", 1, 1), ("before", 1, 1)] == await scene.tick()
    assert {"unreadable": len(UNREADABLE)} == scene.report.skipped
    stats = (await scene.engine.health()).stats
    faults = dict(stats.unreadable_examples)
    assert (len(UNREADABLE), sorted(UNREADABLE)) == (stats.unreadable, sorted(faults))
    assert [] == [(key, faults[key]) for key, (_, fault) in UNREADABLE.items() if not faults[key].startswith(fault)]
    assert 0 == stats.overdue


async def test_unreadable_rows_are_put_back_for_longer_each_time(scene: Scene) -> None:
    """A row that stays unreadable is read again after 1, 2, 4 and more minutes, at most after an hour."""
    insert_unreadable(scene)
    waits = []
    for _ in range(9):
        assert [] == await scene.tick()
        dues = {scene.value(DUE, key=key) for key in UNREADABLE}
        assert 1 == len(dues)
        waits.append((dues.pop() - scene.clock()) // MINUTE)
        assert {"unreadable": len(UNREADABLE)} == scene.report.skipped
        scene.clock.advance(timedelta(minutes=waits[-1]) - timedelta(microseconds=1))
        assert [] == await scene.tick()
        assert {} == scene.report.skipped
        scene.clock.advance(timedelta(microseconds=1))
    assert [1, 2, 4, 8, 16, 32, 60, 60, 60] == waits


async def test_mended_row_is_heard(scene: Scene) -> None:
    """The next tick pages a row that the host corrects. Corrected and deleted rows leave health's list."""
    insert_unreadable(scene)
    assert [] == await scene.tick()
    scene.sql(
        "UPDATE incidents SET first_seen = %(now)s - interval '6 minutes', escalation_level = 0, snoozed_until = NULL"
        " WHERE incident_key <> 'infinity'"
    )
    scene.sql("DELETE FROM incidents WHERE incident_key = 'infinity'")
    # The engine takes a fall of the level to -1 as a drain, which begins a new episode.
    episodes = dict.fromkeys(UNREADABLE, 1) | {"negative-level": 2}
    assert sorted((key, episode, 1) for key, episode in episodes.items() if key != "infinity") == await scene.tick()
    stats = (await scene.engine.health()).stats
    assert (0, ()) == (stats.unreadable, tuple(stats.unreadable_examples))


async def test_keys_that_are_none_hold_up_no_other_row(scene: Scene) -> None:
    """Health lists rows with a key that is not valid like other unreadable rows. The engine pages the valid rows."""
    illegal = ["", "tab\tkey", "x" * 513, "é" * 257]
    for key in (*illegal, "good", "é" * 256):
        insert(scene, key, age=timedelta(hours=1))
    assert [("good", 1, 1), ("é" * 256, 1, 1)] == await scene.tick()
    stats = (await scene.engine.health()).stats
    assert sorted(illegal) == sorted(key for key, _ in stats.unreadable_examples)
    assert {"incident_key"} == {fault.partition(":")[0] for _, fault in stats.unreadable_examples}


async def test_dry_run_tells_the_same_and_changes_nothing(scene: Scene) -> None:
    """A dry run over new, due and unreadable rows reports what a tick then does, and leaves every row as it is."""
    insert_unreadable(scene)
    scene.sql(
        "INSERT INTO incidents (incident_key, severity, first_seen)"
        " SELECT 'k' || n, 'critical', %(now)s - make_interval(mins => n) FROM generate_series(1, 10) AS n"
    )
    rows: LiteralString = "SELECT string_agg(i::text || i.xmin::text, ',' ORDER BY incident_key) FROM incidents i"
    before = scene.value(rows)
    report = await scene.engine.tick(dry_run=True)
    assert (before, 0) == (scene.value(rows), scene.value("SELECT count(*) FROM escalation_unreadable"))
    assert 6 == len(await scene.tick())
    assert report.escalated == scene.report.escalated
    assert report.rescheduled == scene.report.rescheduled
    assert report.skipped == scene.report.skipped


async def test_verb_on_an_unreadable_row_names_the_fault(scene: Scene) -> None:
    """A verb refuses a row that cannot be read and names the column. ``recalc`` leaves no such row to replan."""
    insert_unreadable(scene)
    await scene.tick()
    for verb in (scene.engine.acknowledge, scene.engine.open):
        with pytest.raises(TransitionRefused, match=r"first_seen: is infinite, or outside the years 1 to 9999"):
            await verb("year-20000")
    assert len(UNREADABLE) == await scene.engine.recalc()
    assert 0 == scene.to_replan()
