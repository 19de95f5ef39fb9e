"""The state of each target, for health and metrics."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..model import Budget, LastAttempts, Pace, TargetRecord
from ..rules.pace import in_force
from .shares import Shares

LATELY = timedelta(days=1)
"""How long health shows a target that this engine does not serve after its last attempt failed."""


@attrs.frozen(kw_only=True)
class TargetHealth:
    """The state of one target. Instants are in UTC."""

    backlog: int
    """How many unsettled pages it has."""
    oldest_page: datetime | None
    """When the oldest of them was recorded; None if it has none."""
    budget: Budget | None
    """The budget in force now: lowered while its receiver asks for fewer messages; None if there is no limit."""
    throttled_until: datetime | None
    """No worker claims a page before this instant, because the receiver asked for fewer; None if it did not."""
    last_delivered_at: datetime | None
    """When its receiver last accepted a page, as the workers wrote it with their heartbeats."""
    last_failed_at: datetime | None
    """When an attempt to send a page last failed."""
    last_error: str | None
    """Why it failed. Reasons contain no secret."""
    fallback: str | None
    """The target that gets its undelivered pages, by this engine's settings."""

    @property
    def failing(self) -> bool:
        """Whether the last attempt to this target failed."""
        return self.last_failed_at is not None and (
            self.last_delivered_at is None or self.last_failed_at > self.last_delivered_at
        )

    def as_dict(self, at: datetime) -> dict[str, object]:
        """Return the state for JSON, with names in camel case, as ``Health.as_dict`` has them."""
        budget = self.budget
        return {
            "backlog": self.backlog,
            "oldestPageMs": max(at - (self.oldest_page or at), timedelta()) // timedelta(milliseconds=1),
            "budget": None if budget is None else {"rate": budget.rate, "burst": budget.burst},
            "throttledUntil": _text(self.throttled_until),
            "lastDeliveredAt": _text(self.last_delivered_at),
            "lastFailedAt": _text(self.last_failed_at),
            "lastError": self.last_error,
            "fallback": self.fallback,
        }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def targets_health(
    records: Sequence[TargetRecord],
    *,
    served: Mapping[str, object],
    unwritten: Mapping[str, LastAttempts],
    shares: Shares,
    now: datetime,
) -> Mapping[str, TargetHealth]:
    """Return the state of each target that this engine serves, has unsettled pages, or failed lately, by name.

    ``unwritten`` are the last attempts of this engine that no heartbeat has written yet.
    """
    known = {record.target: record for record in records}
    found: dict[str, TargetHealth] = {}
    for name in sorted({*served, *known}):
        record = known.get(name) or TargetRecord(
            target=name, pace=Pace(target=name), attempts=LastAttempts(target=name)
        )
        last, held_until = record.attempts.later(unwritten.get(name, record.attempts)), record.pace.held_until
        one = TargetHealth(
            backlog=record.backlog,
            oldest_page=record.oldest_page,
            budget=in_force(shares.budgets.get(name), record.pace, now),
            throttled_until=held_until if held_until is not None and held_until > now else None,
            last_delivered_at=last.delivered_at,
            last_failed_at=last.failed_at,
            last_error=last.error,
            fallback=shares.fallbacks.of.get(name),
        )
        lately = one.failing and one.last_failed_at is not None and one.last_failed_at > now - LATELY
        if name in served or one.backlog or lately:
            found[name] = one
    return found
