"""The settings that all workers of a run share, and the kinds of faults that end a worker."""

from collections.abc import Sequence

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
    bundle_after: float = 10.0
    """Pages are bundled if more wait than the budget takes in this time."""
    reserves: Sequence[str] = ()
    """The targets that only fallbacks page, in addition to the targets of the run."""
    refused_rates: tuple[float, float] = (90.0, 90.0)
    """Messages a second to a target without a budget after its first 429, and after many. The library's own rates would
    make most runs last for minutes."""
    defer: tuple[float, float] = (60.0, 3600.0)
    """The first and the longest back-off of a row that the database refuses, or that cannot be planned."""
