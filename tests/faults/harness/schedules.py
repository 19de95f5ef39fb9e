"""The schedules of a run: a file with shifts, and a host's source that reads it and fails again and again."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs

from escalation_core import Schedule, Shift, Shifts
from escalation_core.testing.invariants import Roster

LAST = datetime(3000, 1, 1, tzinfo=UTC).timestamp()
"""Stands for a horizon that never comes."""
SHIFT = 1.5
"""Seconds of a shift of the schedule whose people change."""
ENDS = 5.0
"""Seconds from the beginning of a run to the horizon of the schedule that ends."""
HANDOVER = 6.0
"""Seconds from the beginning of a run until bob takes over."""
LONG = 3600.0
POLL = 0.02
"""Seconds after which a source looks again whether its file is there."""
ANSWERED = "the source of schedules answers"
log = logging.getLogger("tests.faults")


def rosters(began: float) -> Mapping[str, Roster]:
    """Return who is on call in a run that begins now."""
    at = float(int(began))
    turns = [("ann" if n % 2 else "bob", at + SHIFT * n, at + SHIFT * (n + 1)) for n in range(int(LONG / SHIFT))]
    return {
        "gap": Roster(shifts=[("ann", at - LONG, at - 1)], horizon=at + LONG),
        "stale": Roster(shifts=[("ann", at - LONG, at + LONG)], horizon=at - 1),
        "unmapped": Roster(shifts=[("cid", at - LONG, at + LONG)], horizon=at + LONG),
        "quick": Roster(shifts=turns, horizon=at + LONG),
        "ends": Roster(shifts=[("ann", at - LONG, at + LONG)], horizon=at + ENDS),
        "handover": Roster(
            shifts=[("ann", at - LONG, at + HANDOVER), ("bob", at + HANDOVER, at + LONG)], horizon=at + LONG
        ),
    }


def write(path: Path, found: Mapping[str, Roster]) -> Mapping[str, Roster]:
    """Write the file that a source reads, and return the rosters with the digests of its schedules."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({name: [list(each.shifts), each.horizon] for name, each in found.items()}))
    new.replace(path)
    return {name: attrs.evolve(found[name], digest=schedule.digest) for name, schedule in _read(path).items()}


@attrs.define
class FailingSource:
    """A source of schedules that loads well at first. Later loads raise, hang, or return yesterday's schedules.

    Whatever it does later, the engine must keep what was loaded first.
    """

    path: Path
    late: bool = False
    """Whether a load waits until the file is there."""
    loads: int = 0

    async def load(self) -> Mapping[str, Schedule]:
        """Return the schedules of the file, or fail."""
        while self.late and not self.path.exists():  # noqa: ASYNC110 - another process writes the file
            await asyncio.sleep(POLL)
        self.loads += 1
        if self.loads == 1:
            log.info(ANSWERED)
        match self.loads % 5:
            case 2:
                raise OSError("the calendar server is down")
            case 3:
                await asyncio.Event().wait()
            case 4:
                over = datetime.now(UTC) - timedelta(days=1)
                return {name: Shifts(shifts=(), horizon=over) for name in _read(self.path)}
        return _read(self.path)


def _read(path: Path) -> dict[str, Shifts]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: _shifts(shifts, horizon) for name, (shifts, horizon) in found.items()}


def _shifts(shifts: Sequence[tuple[str, float, float]], horizon: float) -> Shifts:
    return Shifts(
        shifts=[Shift(person=person, start=_instant(start), end=_instant(end)) for person, start, end in shifts],
        horizon=_instant(min(horizon, LAST)),
    )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
