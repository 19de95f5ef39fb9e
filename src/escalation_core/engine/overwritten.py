"""The instants that an engine overwrote in its last two ticks, to recognize a row that has its old instant again."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from ..model import Candidate

MAX_OVERWRITTEN = 10_000
"""How many rows of a tick the engine remembers at most."""


@attrs.define
class Overwritten:
    """The next_due_at that rows had before the engine wrote a new one, by key, in this tick and in the last one."""

    _now: dict[str, datetime | None] = attrs.field(factory=dict)
    _before: dict[str, datetime | None] = attrs.field(factory=dict)

    def next_tick(self) -> None:
        """Begin a tick."""
        self._before, self._now = self._now, {}

    def keep(self, rows: Sequence[Candidate]) -> None:
        """Remember the instants of these rows before the write."""
        for row in rows[: MAX_OVERWRITTEN - len(self._now)]:
            self._now[row.incident_key] = row.due_at

    def recognize(self, row: Candidate) -> Candidate:
        """Return the row, with ``again`` set if it has the instant that the engine overwrote in this or the last tick.

        Either the host has written the row again, or a trigger of the host undoes each write of the engine.
        """
        key, due = row.incident_key, row.due_at
        again = (key in self._now and self._now[key] == due) or (key in self._before and self._before[key] == due)
        return attrs.evolve(row, again=True) if again else row
