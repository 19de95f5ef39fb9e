"""What holds of every night, whatever its file and its script: the oracle's own consistency."""

from typing import Any

from hypothesis import given

from .ladder import Settings, exhausted
from .night import Night, play
from .strategies import nights, scripts, settings


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
