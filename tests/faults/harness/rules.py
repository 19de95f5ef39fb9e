"""The settings that all workers of a run share, and the kinds of faults that end a worker."""

import attrs

from escalation_core.testing.invariants import RunSettings
from escalation_core.testing.invariants.history import KILL

TOO_OLD = "too old"
"""A worker that finds the schema of a later version ends with an error."""
SECURED = "row level security"
"""A worker whose role may no longer read all rows ends with an error."""
ENDS = (KILL, TOO_OLD, SECURED)
"""The kinds of faults that end a worker."""


@attrs.frozen(kw_only=True)
class Rules(RunSettings):
    """The settings of a run, in seconds."""

    per_target: int = 32
    """Pages that a worker sends to one target at the same time."""
    defer: tuple[float, float] = (60.0, 3600.0)
    """The first and the longest back-off of a row that the database refuses, or that cannot be planned."""
