"""Pages of a history that are sent at once, for tests of the checks."""

from collections.abc import Iterable

import attrs

from escalation_core.testing.invariants.history import FinalPage, PageChange, RecordedEscalation, Request


@attrs.define
class Sent:
    """Pages that were leased, accepted and settled at once, with each of their changes."""

    pages: list[FinalPage] = attrs.field(factory=list)
    changes: list[PageChange] = attrs.field(factory=list)
    requests: list[Request] = attrs.field(factory=list)

    def add(
        self, escalation: RecordedEscalation, target: str, *, via: str | None = None, digest: str | None = None
    ) -> None:
        """Send one page of an escalation."""
        number, at, key = len(self.pages) + 1, escalation.at, escalation.unique_hash
        self.pages.append(
            FinalPage(id=number, key=escalation.key, episode=escalation.episode, level=escalation.level, target=target,
                      dedup_key=key, state="delivered", via=via, schedule_digest=digest)
        )  # fmt: skip
        steps: Iterable[tuple[str, str, float]] = [("pending", "leased", 0.01), ("leased", "delivered", 0.03)]
        self.changes += [
            PageChange(page=number, was=was, state=state, due_was=at, due=at, fence_was=fence, fence=fence + 1,
                       began=at + wait, at=at + wait, worker="w1")
            for fence, (was, state, wait) in enumerate(steps)
        ]  # fmt: skip
        self.requests.append(
            Request(dedup_key=key, target=target, worker="w1", at=at + 0.02, accepted=True, answered_at=at + 0.02)
        )
