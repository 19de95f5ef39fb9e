"""What this engine wrote over in its last two ticks, so that a row that has the same instant again is recognized."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from ..model import Candidate

MAX_OVERWRITTEN = 10_000
"""How many rows of a tick are recognized in the next one."""


@attrs.define
class Overwritten:
    """The instants that rows had before an engine wrote theirs, by key, of this tick and of the one before."""

    _now: dict[str, datetime | None] = attrs.field(factory=dict)
    _before: dict[str, datetime | None] = attrs.field(factory=dict)

    def next_tick(self) -> None:
        """Begin a tick."""
        self._before, self._now = self._now, {}

    def keep(self, rows: Sequence[Candidate]) -> None:
        """Keep the instants that these rows had."""
        for row in rows[: MAX_OVERWRITTEN - len(self._now)]:
            self._now[row.incident_key] = row.due_at

    def recognize(self, row: Candidate) -> Candidate:
        """Return the row, marked as ``again`` if it has the instant again that was overwritten a moment ago.

        A host may have marked it anew. Or a trigger of the host undoes what the engine writes, and without an end.
        """
        known = self._now if row.incident_key in self._now else self._before
        again = row.incident_key in known and known[row.incident_key] == row.due_at
        return attrs.evolve(row, again=True) if again else row
