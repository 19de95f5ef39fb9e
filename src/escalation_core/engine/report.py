"""The reports of a tick and of a delivery pass: counts, and a limited number of examples."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..model import NewPage, NoticeState, PageState
from ..rules.gate import Gate, Mode
from ..rules.notices import LOST_NOTICE
from ..rules.plan import Decision, Escalate, Reason, Reschedule
from ..rules.routing import paged_targets, undeliverable_reasons

MAX_EXAMPLES = 1000


@attrs.frozen(kw_only=True)
class Example:
    """One incident that a tick claimed. ``outcome`` is ``escalate``, or the reason why it did not escalate.

    ``level`` is the level after the tick, and ``targets`` are those that the tick pages. ``detail`` says why a row
    cannot be read, or why a target of an escalation gets no page.
    """

    incident_key: str
    outcome: str
    episode: int | None = None
    level: int | None = None
    targets: Sequence[str] = ()
    detail: str | None = None


@attrs.frozen(kw_only=True)
class DeliveryReport:
    """The result of one delivery pass, as numbers of pages, and of notices."""

    sent: int = 0
    """Attempts to send a page."""
    delivered: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    stale: int = 0
    """Attempts whose lease had passed to another sender before they were settled, or was nearly over at the start."""
    notices_delivered: int = 0
    notices_lost: int = 0
    """Notices that ended untold: the receiver refused them, they were too old, or a newer one follows."""

    def __add__(self, other: "DeliveryReport") -> "DeliveryReport":
        """Return the counts of both passes together."""
        mine, others = attrs.asdict(self), attrs.asdict(other)
        return DeliveryReport(**{name: count + others[name] for name, count in mine.items()})


@attrs.define(kw_only=True)
class TickReport:
    """The result of one tick. ``mode`` says whether a switch or a pause limited the tick."""

    at: datetime | None = None
    """The tick's instant, from the store's clock."""
    mode: Mode = Mode.OPEN
    paused_until: datetime | None = None
    dry_run: bool = False
    """Whether the tick was a dry run: it changed no incident, and its counts are of what a tick would have done."""
    escalated: int = 0
    exhausted: int = 0
    """How many of the escalated incidents reached the end of their policy."""
    rescheduled: Counter[str] = attrs.field(factory=Counter)
    skipped: Counter[str] = attrs.field(factory=Counter)
    pages: int = 0
    """Pages written to the outbox."""
    dead_pages: int = 0
    """Pages written as dead, because they are unroutable."""
    in_place: int = 0
    """Pages to another target, because one that the policy names cannot be paged, or its schedule is not known."""
    happened: Counter[str] = attrs.field(factory=Counter)
    """What the plannings did besides, under the audit's names: for example ``ack_expired`` and ``unknown_policy``."""
    labels_left_out: int = 0
    """Escalations of incidents whose labels are too long, so that the router got none."""
    unconfigured: Counter[str] = attrs.field(factory=Counter)
    """Escalations of severities without their own window, by severity."""
    latest: timedelta | None = None
    """The greatest lateness of an escalation: its instant minus the due instant."""
    batches: int = 0
    behind: bool = False
    """Whether rows were still due after one tick interval: this worker is too slow for the load."""
    duration: timedelta = timedelta()
    examples: list[Example] = attrs.field(factory=list)
    """At most 1,000."""
    recalculating: bool = False
    """Whether a recalculation is running and needs the next tick soon."""
    delivery: DeliveryReport | None = None
    changes: bool = False
    """Whether there may be changes of which no notice is made yet."""

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
        """Return the report for JSON, with the names of ``POST tick`` (ADR 0039)."""
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
            "in_place": self.in_place,
            "happened": dict(self.happened),
            "labels_left_out": self.labels_left_out,
            "unconfigured": dict(self.unconfigured),
            "behind": self.behind,
            "latest_ms": None if self.latest is None else self.latest.total_seconds() * 1000,
            "escalation_tick_ms": round(self.duration.total_seconds() * 1000, 3),
            "examples": [attrs.asdict(example) for example in self.examples],
            "delivery": None if self.delivery is None else attrs.asdict(self.delivery),
        }

    def note(self, at: datetime, gate: Gate) -> None:
        """Set the tick's instant, its mode and the end of a pause."""
        self.at = at
        self.mode, self.paused_until = gate.mode, gate.until

    def log_fields(self) -> dict[str, object]:
        """Return the fields of the tick's log line. Hosts rely on the first three names (ADR 0039)."""
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

    def count(self, decisions: Iterable[Decision], keys: Iterable[str], pages: Iterable[NewPage] = ()) -> None:
        """Add the decisions about the incidents with these keys, and their pages, to the counts and examples."""
        # A tick may escalate many incidents, and only the first ones are examples.
        paged = _by_key(pages) if len(self.examples) < MAX_EXAMPLES else {}
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
                incident, own = decision.incident, paged.get(key, ())
                self.examples.append(
                    Example(
                        incident_key=key,
                        outcome=outcome,
                        episode=None if incident is None else incident.episode,
                        level=None if incident is None else incident.level,
                        targets=paged_targets(own),
                        detail=detail or "; ".join(undeliverable_reasons(own)) or None,
                    )
                )


def _by_key(pages: Iterable[NewPage]) -> Mapping[str, Sequence[NewPage]]:
    found: dict[str, list[NewPage]] = {}
    for page in pages:
        found.setdefault(page.incident_key, []).append(page)
    return found


@attrs.define
class DeliveryCount:
    """The running counts of a delivery pass."""

    sent: int = 0
    stale: int = 0
    outcomes: Counter[PageState] = attrs.field(factory=Counter)
    notices: Counter[NoticeState] = attrs.field(factory=Counter)

    def report(self) -> DeliveryReport:
        """Return a report with the present counts."""
        return DeliveryReport(
            sent=self.sent,
            delivered=self.outcomes[PageState.DELIVERED],
            retried=self.outcomes[PageState.PENDING],
            dead=self.outcomes[PageState.DEAD],
            cancelled=self.outcomes[PageState.CANCELLED],
            stale=self.stale,
            notices_delivered=self.notices[NoticeState.DELIVERED],
            notices_lost=sum(self.notices[state] for state in LOST_NOTICE),
        )
