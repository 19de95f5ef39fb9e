"""What holds of every night, whatever its file and its script: the oracle's own consistency."""

from typing import Any

from hypothesis import given

from .ladder import Settings, exhausted
from .night import Night, play
from .oncall import Roster
from .records import TickReport
from .strategies import nights, scripts, settings
from .strategies_on_call import nights_on_call


@given(nights())
def test_every_night(case: tuple[Settings, dict[str, Any] | None, list[dict[str, Any]]]) -> None:
    """Escalations are unique, rise within an episode, and come only from ticks of an open row that may escalate."""
    parameters, file, script = case
    night = Night(parameters, file)
    for step in script:
        before, known = night.snapshot(), len(night.planner.escalations)
        play(night, [step])
        row, fresh = night.row, night.planner.escalations[known:]
        if fresh:
            assert (step["do"], len(fresh), before["resolved_at"]) == ("tick", 1, None)
            assert night.switches.enabled
            assert night.switches.v1
            assert (fresh[0].at, fresh[0].level) == (step["at"], before["level"] + 1)
        if row is not None and row.state == "open" and row.next_due_at is None:
            assert exhausted(row, night.planner.ladder(row))
        if row is not None:
            assert (row.policy_level or 0) <= row.level
            assert row.state != "resolved" or row.next_due_at is None
    keys = [(each.episode, each.level) for each in night.planner.escalations]
    assert keys == sorted(set(keys))


@given(settings(), scripts())
def test_without_a_file(parameters: Settings, script: list[dict[str, Any]]) -> None:
    """Without a file the columns of the engine stay NULL."""
    for row in play(Night(parameters), script):
        assert [row.get(name) for name in ("policy_pin", "policy_since")] == [None, None]


@given(nights_on_call())
def test_every_night_with_schedules(case: tuple[Settings, dict[str, Any], list[dict[str, Any]], Roster]) -> None:
    """A tick that escalates pages at its last level, and passes only levels of one round over, all at one instant."""
    parameters, file, script, roster = case
    night = Night(parameters, file, roster=roster)
    for step in script:
        known = len(night.planner.escalations), len(night.planner.pages)
        report = play(night, [step])[0].get("report", TickReport())
        assert report.escalations == tuple(night.planner.escalations[known[0] :])
        assert report.pages == tuple(night.planner.pages[known[1] :])
        if not report.escalations:
            assert (report.pages, report.nobody_on_call) == ((), 0)
            continue
        assert night.row is not None
        *passed, last = report.escalations
        count = len(night.planner.ladder(night.row).levels)
        assert {each.outcome for each in passed} <= {"nobody"}
        assert last.outcome == ("default" if report.nobody_on_call else None)
        assert [each.level for each in report.escalations] == list(range(last.level - len(passed), last.level + 1))
        assert {(each.position - 1) // count for each in report.escalations} == {(last.position - 1) // count}
        assert {(each.at, each.episode, each.level) for each in report.pages} == {
            (step["at"], last.episode, last.level)
        }
        assert len({each.target for each in report.pages}) == len(report.pages) > 0
        assert not report.already_recorded
    keys = [(each.episode, each.level) for each in night.planner.escalations]
    assert len(keys) == len(set(keys))
