"""The time that a worker sleeps."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import TickReport
from escalation_core.model import NEEDS_REPLAN, Paused
from escalation_core.rules.gate import Gate, Mode
from escalation_core.rules.sleep import until_next_claim, until_next_tick

from ..kit import HOUR, MINUTE, SECOND, START

ZERO = timedelta()
MOMENT = timedelta(milliseconds=1)
IDLE: dict[str, Any] = {}
BUSY: dict[str, Any] = {"escalated": 1}
OPEN = Gate()


def paused(until: datetime) -> Gate:
    return Gate(Mode.PAUSED, Paused(until))


TICK = [
    # the tick's report, the earliest row (an offset from now, or None), the gate, and the expected sleep
    ("nothing to come", IDLE, None, OPEN, MINUTE),
    ("due in a while", IDLE, 17 * SECOND, OPEN, 17 * SECOND),
    ("due in a moment", IDLE, timedelta(microseconds=1), OPEN, timedelta(microseconds=1)),
    ("due in an hour", IDLE, HOUR, OPEN, MINUTE),
    ("due at the tick", IDLE, MINUTE, OPEN, MINUTE),
    ("due after a busy tick", BUSY, 17 * SECOND, OPEN, 17 * SECOND),
    ("more is due after a busy tick", BUSY, ZERO, OPEN, ZERO),
    ("long due after a busy tick", BUSY, -HOUR, OPEN, ZERO),
    ("reschedules are changes", {"rescheduled": Counter(not_due=1)}, -HOUR, OPEN, ZERO),
    ("skips are changes", {"skipped": Counter(unreadable=1)}, -HOUR, OPEN, ZERO),
    ("due, but the tick changed nothing", IDLE, ZERO, OPEN, MINUTE),
    ("long due, but the tick changed nothing", IDLE, -HOUR, OPEN, MINUTE),
    ("to replan, but the tick changed nothing", IDLE, NEEDS_REPLAN - START, OPEN, MINUTE),
    ("dry run", {**BUSY, "dry_run": True}, ZERO, OPEN, MINUTE),
    ("dry run, due in a while", {"dry_run": True}, 17 * SECOND, OPEN, MINUTE),
    ("disabled", BUSY, ZERO, Gate(Mode.DISABLED), MINUTE),
    ("disabled, due in a while", IDLE, 17 * SECOND, Gate(Mode.DISABLED), MINUTE),
    ("V1 off", BUSY, ZERO, Gate(Mode.V1_OFF), MINUTE),
    ("paused for long", BUSY, ZERO, paused(START + HOUR), MINUTE),
    ("paused for a while", IDLE, None, paused(START + 17 * SECOND), 17 * SECOND),
    ("pause is over", IDLE, None, paused(START - SECOND), ZERO),
    ("fell due since the tick", {"at": START - MOMENT}, ZERO, OPEN, ZERO),
    ("fell due since the tick, long ago", {"at": START - HOUR}, -MINUTE, OPEN, ZERO),
    ("due at the tick's own instant, and it changed nothing", {"at": START - SECOND}, -SECOND, OPEN, MINUTE),
    ("due before the tick, and it changed nothing", {"at": START - SECOND}, -HOUR, OPEN, MINUTE),
    ("to replan before the tick, and it changed nothing", {"at": START - SECOND}, NEEDS_REPLAN - START, OPEN, MINUTE),
    ("due since the tick, but not yet", {"at": START - HOUR}, MOMENT, OPEN, MOMENT),
    ("fell due since a dry run", {"at": START - MOMENT, "dry_run": True}, ZERO, OPEN, MINUTE),
    ("fell due since the tick, disabled", {"at": START - MOMENT}, ZERO, Gate(Mode.DISABLED), MINUTE),
    ("fell due since the tick, V1 off", {"at": START - MOMENT}, ZERO, Gate(Mode.V1_OFF), MINUTE),
    ("fell due since the tick, paused meanwhile", {"at": START - MOMENT}, ZERO, paused(START + HOUR), MINUTE),
    ("the pause ended since the tick", {"at": START - MOMENT, "mode": Mode.PAUSED}, -HOUR, OPEN, ZERO),
    ("the pause ended, nothing is due", {"at": START - MOMENT, "mode": Mode.PAUSED}, SECOND, OPEN, SECOND),
    ("the pause ended since a dry run", {"mode": Mode.PAUSED, "dry_run": True}, -HOUR, OPEN, MINUTE),
    ("the clock stepped back since the tick", {"at": START + HOUR}, ZERO, OPEN, MINUTE),
    ("paused in a dry run", {"dry_run": True}, None, paused(START + 17 * SECOND), 17 * SECOND),
]


def sleep_after(report: TickReport, due: datetime | None, held: Gate, longest: timedelta) -> timedelta:
    """Call the rule with the arguments that the engine gives."""
    return until_next_tick(
        earliest=None if report.dry_run else due,
        now=START,
        gate=held,
        longest=longest,
        ticked_until=(report.at or START) if report.mode is Mode.OPEN else None,
        changed=report.changed,
    )


@pytest.mark.parametrize(
    ("did", "earliest", "held", "sleep"), [case[1:] for case in TICK], ids=[case[0] for case in TICK]
)
def test_sleep_after_a_tick(did: dict[str, Any], earliest: timedelta | None, held: Gate, sleep: timedelta) -> None:
    """The runner sleeps until the earliest row or the pause's end, for at most one interval, and never spins."""
    due = None if earliest is None else START + earliest
    assert sleep == sleep_after(TickReport(**did), due, held, MINUTE)


LEAST = timedelta(milliseconds=50)
CLAIM: list[tuple[str, timedelta | None, Gate, dict[str, Any], timedelta]] = [
    ("no page", None, OPEN, {}, MINUTE),
    ("due in a while", 17 * SECOND, OPEN, {}, 17 * SECOND),
    ("due in an hour", HOUR, OPEN, {}, MINUTE),
    ("due now", ZERO, OPEN, {}, LEAST),
    ("long due", -HOUR, OPEN, {}, LEAST),
    ("dry run", ZERO, OPEN, {"dry_run": True}, MINUTE),
    ("disabled", ZERO, Gate(Mode.DISABLED), {}, MINUTE),
    ("V1 off", ZERO, Gate(Mode.V1_OFF), {}, MINUTE),
    ("paused for long", ZERO, paused(START + HOUR), {}, MINUTE),
    ("paused for a while", ZERO, paused(START + 17 * SECOND), {}, 17 * SECOND),
    ("pause is over", ZERO, paused(START - SECOND), {}, ZERO),
]


@pytest.mark.parametrize(
    ("earliest", "held", "given_", "sleep"), [case[1:] for case in CLAIM], ids=[case[0] for case in CLAIM]
)
def test_sleep_before_a_claim(earliest: timedelta | None, held: Gate, given_: dict[str, Any], sleep: timedelta) -> None:
    """The delivery loop sleeps until the next page or the pause's end, for at most one interval, and never spins."""
    due = None if earliest is None else START + earliest
    assert sleep == until_next_claim(
        earliest=None if given_.get("dry_run") else due, now=START, gate=held, longest=MINUTE
    )


GATES = st.sampled_from([OPEN, Gate(Mode.DISABLED), Gate(Mode.V1_OFF), paused(START + 5 * SECOND)])


@given(
    st.none() | st.timedeltas(-HOUR, HOUR),
    GATES,
    st.booleans(),
    st.integers(0, 2),
    st.timedeltas(SECOND, 600 * SECOND),
    st.none() | st.timedeltas(-SECOND, HOUR),
    st.sampled_from([Mode.OPEN, Mode.PAUSED]),
)
def test_no_sleep_is_longer_than_a_tick(
    earliest: timedelta | None,
    held: Gate,
    dry_run: bool,
    escalated: int,
    tick: timedelta,
    since: timedelta | None,
    mode: Mode,
) -> None:
    """No sleep exceeds one interval, and a sleep of zero needs something new since the tick."""
    due = None if earliest is None else START + earliest
    at = None if since is None else START - since
    report = TickReport(dry_run=dry_run, escalated=escalated, at=at, mode=mode)
    sleep = sleep_after(report, due, held, tick)
    claim = until_next_claim(earliest=None if dry_run else due, now=START, gate=held, longest=tick)
    new = report.changed or mode is Mode.PAUSED or (due is not None and at is not None and at < due <= START)
    assert (new and held.may_escalate and not dry_run) or sleep > ZERO
    assert ZERO <= sleep <= tick
    assert ZERO < claim <= tick
