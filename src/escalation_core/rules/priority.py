"""The priority of a page: its incident's severity, and whether it is the first page of the episode.

The worst pages have the lowest number. A claim takes the pages of a target by priority, and the oldest first within
one. A page that has waited for ``STARVED_AFTER`` goes before all others, so that no page waits for ever.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..model import PageRecord, normal_severity

STARVED_AFTER = timedelta(minutes=10)
"""A page that has been due for this long goes first, whatever its priority is."""
MAX_SEVERITIES = 100
"""How many severities an order has at most."""
WORST_FIRST = ("critical", "error", "warning", "info")
"""The default order of severities."""


@attrs.frozen
class SeverityOrder:
    """The order of severities, worst first, as the settings give it."""

    severities: Sequence[str] = WORST_FIRST
    _ranks: Mapping[str, int] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Number the severities."""
        ranks = {normal_severity(name): rank for rank, name in enumerate(self.severities)}
        object.__setattr__(self, "_ranks", ranks)

    def rank(self, severity: str | None) -> int:
        """Return the place of a severity. One that the order does not name counts as ``warning``, or comes last."""
        found = self._ranks.get(normal_severity(severity or ""))
        return self._ranks.get("warning", len(self._ranks)) if found is None else found

    def priority(self, severity: str | None, *, first: bool) -> int:
        """Return the priority of a page. Within one severity the first page of an episode goes before later ones."""
        return 2 * self.rank(severity) + (not first)


def claim_order(page: PageRecord, now: datetime) -> tuple[int, datetime, int]:
    """Return the place of a page among the pages of its target that are due: the lowest one is claimed first.

    This is the rule of ``Outbox.claim``. A store without SQL calls this function.
    """
    starved = page.due_at <= now - STARVED_AFTER
    return -1 if starved else page.priority, page.due_at, page.id
