"""What a tick and a delivery pass did: counts that add up, and a bounded number of examples."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

import attrs

from ..model import PageState
from ..rules.gate import Gate, Mode
from ..rules.plan import Decision, Escalate, Reason, Reschedule

MAX_EXAMPLES = 1000


@attrs.frozen(kw_only=True)
class Example:
    """One incident that a tick touched. ``outcome`` is ``escalate`` or the reason why it did not."""

    incident_key: str
    outcome: str
    episode: int | None = None
    level: int | None = None
    detail: str | None = None


@attrs.frozen(kw_only=True)
class DeliveryReport:
    """What one delivery pass did, in pages."""

    sent: int = 0
    """Attempts made."""
    delivered: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    stale: int = 0
    """Attempts whose lease had passed to another sender before they could be settled, or that were not made."""


@attrs.define(kw_only=True)
class TickReport:
    """What one tick did. ``mode`` says what held it back, if anything did."""

    at: datetime | None = None
    """The tick's instant, from the store's clock."""
    mode: Mode = Mode.OPEN
    paused_until: datetime | None = None
    dry_run: bool = False
    """Nothing was changed; the counts say what would have been."""
    escalated: int = 0
    exhausted: int = 0
    """Of those escalated, how many reached the maximum level."""
    rescheduled: Counter[str] = attrs.field(factory=Counter)
    skipped: Counter[str] = attrs.field(factory=Counter)
    pages: int = 0
    """Pages put in the outbox."""
    dead_pages: int = 0
    """Pages born dead: unroutable."""
    labels_left_out: int = 0
    """Escalations of incidents whose labels are too long, so that they were routed as if they had none."""
    unconfigured: Counter[str] = attrs.field(factory=Counter)
    """Escalations of severities without a window of their own, by severity."""
    latest: timedelta | None = None
    """The greatest lateness, fired minus due."""
    batches: int = 0
    behind: bool = False
    """After one tick interval there was still more to claim: this worker does not keep up."""
    duration: timedelta = timedelta()
    examples: list[Example] = attrs.field(factory=list)
    """At most 1,000."""
    recalculating: bool = False
    """A recalculation is under way and wants the next tick soon."""
    delivery: DeliveryReport | None = None

    @property
    def escalations(self) -> int:
        """``escalated``, under the name that ``POST tick`` gives it (ADR 0039)."""
        return self.escalated

    @property
    def skipped_idempotent(self) -> int:
        """How many escalations were recorded already."""
        return self.skipped[Reason.ALREADY_RECORDED]

    @property
    def changed(self) -> bool:
        """Whether any row was written."""
        return not self.dry_run and bool(self.escalated or self.rescheduled or self.skipped)

    def as_dict(self) -> dict[str, object]:
        """Return the same for JSON, under the names of ``POST tick`` (ADR 0039)."""
        return {
            "escalations": self.escalated,
            "at": None if self.at is None else self.at.isoformat(),
            "mode": self.mode.value,
            "paused_until": None if self.paused_until is None else self.paused_until.isoformat(),
            "dry_run": self.dry_run,
            "exhausted": self.exhausted,
            "rescheduled": dict(self.rescheduled),
            "skipped": dict(self.skipped),
            "skipped_idempotent": self.skipped_idempotent,
            "pages": self.pages,
            "dead_pages": self.dead_pages,
            "labels_left_out": self.labels_left_out,
            "unconfigured": dict(self.unconfigured),
            "behind": self.behind,
            "latest_ms": None if self.latest is None else self.latest.total_seconds() * 1000,
            "escalation_tick_ms": round(self.duration.total_seconds() * 1000, 3),
            "examples": [attrs.asdict(example) for example in self.examples],
            "delivery": None if self.delivery is None else attrs.asdict(self.delivery),
        }

    def note(self, at: datetime, gate: Gate) -> None:
        """Note the tick's instant and what holds it back."""
        self.at = at
        self.mode, self.paused_until = gate.mode, gate.until

    def log_fields(self) -> dict[str, object]:
        """Return the fields of a tick's one log line; metrics that hosts know by name keep that name."""
        return {
            "escalations_count": self.escalated,
            "skipped_idempotent": self.skipped_idempotent,
            "escalation_tick_ms": round(self.duration.total_seconds() * 1000, 1),
            "rescheduled": self.rescheduled.total(),
            "unreadable": self.skipped["unreadable"],
            "pages": self.pages,
            "dead_pages": self.dead_pages,
            "behind": self.behind,
            "mode": self.mode.value,
            "dry_run": self.dry_run,
        }

    def count(self, decisions: Iterable[Decision], keys: Iterable[str]) -> None:
        """Add what was decided about the incidents with these keys."""
        for decision, key in zip(decisions, keys, strict=True):
            if isinstance(decision, Escalate):
                self.escalated += 1
                self.exhausted += decision.exhausted
                outcome, detail = "escalate", None
                if decision.lateness is not None:
                    self.latest = decision.lateness if self.latest is None else max(self.latest, decision.lateness)
            elif isinstance(decision, Reschedule):
                self.rescheduled[decision.reason.value] += 1
                outcome, detail = decision.reason.value, None
            else:
                self.skipped[decision.reason.value] += 1
                outcome, detail = decision.reason.value, decision.detail
            if len(self.examples) < MAX_EXAMPLES:
                incident = decision.incident
                self.examples.append(
                    Example(
                        incident_key=key,
                        outcome=outcome,
                        episode=None if incident is None else incident.episode,
                        level=None if incident is None else incident.level,
                        detail=detail,
                    )
                )


@attrs.define
class DeliveryCount:
    """A delivery pass that is being counted."""

    sent: int = 0
    stale: int = 0
    outcomes: Counter[PageState] = attrs.field(factory=Counter)

    def report(self) -> DeliveryReport:
        """Return the counts as they stand."""
        return DeliveryReport(
            sent=self.sent,
            delivered=self.outcomes[PageState.DELIVERED],
            retried=self.outcomes[PageState.PENDING],
            dead=self.outcomes[PageState.DEAD],
            cancelled=self.outcomes[PageState.CANCELLED],
            stale=self.stale,
        )
