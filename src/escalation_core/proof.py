"""The proof of the promise, by all that is recorded."""

from collections.abc import Mapping

import attrs

from .delivery import PageState


@attrs.frozen(kw_only=True)
class Proof:
    """What is recorded, counted so that the promise shows."""

    escalations: int
    duplicates: int
    """Escalations of one (incident_key, episode, level) beyond the first: 0, or the promise is broken."""
    without_page: int
    """Escalations that have no page at all: 0, or the promise is broken."""
    adopted: int = 0
    """Escalations without a page that were there before the engine: another program recorded them, and paged or not."""
    without_escalation: int
    """Pages whose escalation is not recorded: 0, or the promise is broken."""
    copies: int = 0
    """Pages of one escalation to one target beyond the first: 0, or the promise is broken."""
    pages: Mapping[str, int]
    """Pages by state: pending, leased and cancelling ones are to be settled yet; an unknown one breaks the promise."""

    @property
    def holds(self) -> bool:
        """Whether the promise holds for all that is recorded."""
        broken = self.duplicates or self.without_page or self.without_escalation or self.copies
        return not broken and set(self.pages) <= {state.value for state in PageState}
