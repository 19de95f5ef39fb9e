"""One incident's night: verbs, ticks, and what an operator does to the engine. Host writes are in ``host_writes``."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, TypeVar, cast

from .host_writes import insert, write
from .hours import is_open, next_open
from .ladder import BUILT_IN, Ladder, Settings, exhausted, next_due, position
from .oncall import Override, Roster
from .planner import Planner, digest
from .records import EPOCH, Escalation, Page, Refused, Row, TickReport

CLOCK_TOLERANCE = timedelta(seconds=2)
"""A heartbeat this far ahead of the clock shows that the clock stepped back."""


Step = TypeVar("Step", bound=Callable[..., None])


def writes(step: Step) -> Step:
    """Store no text but that of the row's pin, and that one only if the step changes the row."""

    @wraps(step)
    def run(night: "Night", *args: Any, **given: Any) -> None:
        before, known = None if night.row is None else replace(night.row), set(night.planner.versions)
        step(night, *args, **given)
        night.planner.forget(known, None if night.row == before else night.row)

    return cast("Step", run)


@dataclass(frozen=True)
class Switches:
    """What may keep a tick from its work; ``inside`` says whether the incident is inside the canary."""

    enabled: bool = True
    v1: bool = True
    paused: bool = False
    dry_run: bool = False
    inside: bool = True


class Night:
    """One incident key, from its first row on. ``now`` of each verb is the instant of the database's clock."""

    def __init__(
        self,
        settings: Settings | None = None,
        file: Mapping[str, Any] | None = None,
        digest_of: Callable[[Mapping[str, Any], str], str] = digest,
        roster: Roster | None = None,
    ) -> None:
        """Begin without a row. ``digest_of(file, name)`` returns the version of a policy of a file.

        Without a roster there are no schedules, all targets have a notifier, and the router names ``router``.
        """
        self.planner = Planner(Settings() if settings is None else settings, file, digest_of)
        self.switches = Switches()
        self.roster = Roster() if roster is None else roster
        self.overrides: list[Override] = []
        """In the order in which they were made."""
        self.row: Row | None = None
        self.recalc_wanted = False
        self.heartbeat: datetime | None = None
        self.restarted = False
        """Whether the worker has started again since its last tick. The first tick writes a heartbeat in any case."""

    def snapshot(self) -> dict[str, Any]:
        """Return the row as plain data; ``policy_level`` NULL is 0. Without a row, return an empty mapping."""
        if self.row is None:
            return {}
        plain = asdict(self.row) | {"state": self.row.state, "policy_level": self.row.policy_level or 0}
        return {key: value.astimezone(UTC) if isinstance(value, datetime) else value for key, value in plain.items()}

    # --- verbs

    @writes
    def open(self, now: datetime, **given: Any) -> None:
        """Open the incident, or update it. ``given``: severity, labels, policy, first_seen; what is left out stays.

        Raises:
            Refused: The policy is unknown.
        """
        first_seen = given.pop("first_seen", None) or now
        if given.get("policy") is not None and not self.planner.knows(given["policy"]):
            raise Refused("unknown policy")
        if self.row is None:
            self.row = Row(severity=None, first_seen=first_seen)
        elif self.row.state == "resolved":
            self.row = Row(self.row.severity, first_seen, self.row.labels, self.row.episode + 1, policy=self.row.policy)
        for name, value in given.items():
            setattr(self.row, name, value)
        self._plan(self.row, now)

    @writes
    def acknowledge(self, now: datetime, by: str = "ann") -> None:
        """Acknowledge; again only if the policy has an ``ack_timeout``."""
        row = self._row("open", "acknowledged")
        if row.state == "open":
            row.acknowledged_at, row.acknowledged_by = now, by
            self.planner.cancel(now)
            self._plan(row, now)
            return
        if self._trial(row, now).ack_timeout is not None:
            row.acknowledged_at = now
            self._plan(row, now)
            self.planner.note(row, now, "acknowledged again")

    @writes
    def unacknowledge(self, now: datetime) -> None:
        """End the acknowledgement; the exhausted ladder of a named policy begins again."""
        row = self._row("open", "acknowledged")
        if row.state == "acknowledged":
            row.acknowledged_at = row.acknowledged_by = None
            self.planner.cancel(now)
            if row.pinned is not None:
                row.policy_pin = f"!{row.pinned}"
            self._plan(row, now)

    def resolve(self, now: datetime) -> None:
        """End the incident."""
        row = self._row("open", "acknowledged", "resolved")
        if row.state != "resolved":
            row.resolved_at, row.next_due_at = now, None
            self.planner.cancel(now)

    @writes
    def change_severity(self, now: datetime, severity: str | None) -> None:
        """Change the severity, and with it maybe the policy."""
        row = self._row("open", "acknowledged")
        row.severity = severity
        self._plan(row, now)

    @writes
    def snooze(self, now: datetime, until: datetime | None) -> None:
        """Hold escalations back until an instant, or no longer."""
        row = self._row("open")
        row.snoozed_until = until
        self._plan(row, now)

    @writes
    def drain(self, now: datetime) -> None:
        """Lower the level by one, in a new episode."""
        row = self._row("open")
        if row.level == 0:
            raise Refused("level 0")
        row.level -= 1
        row.episode += 1
        if row.policy_level is not None:
            row.policy_level = min(row.policy_level, row.level)
        self.planner.cancel(now)
        self._plan(row, now)

    @writes
    def rebind(self, now: datetime, *, restart: bool = False) -> None:
        """Take the version in force of the row's own policy, at the position where the row is."""
        row = self._row("open", "acknowledged")
        planner, trial = self.planner.trial(), replace(row)
        planner.plan(trial, now)
        wanted = BUILT_IN if trial.pinned is None else trial.pinned.name
        if self.planner.file is None or wanted == BUILT_IN or not self.planner.knows(wanted):
            raise Refused("not pinned to a policy of the file")
        self._plan(row, now)
        self.planner.rebind(row, now, wanted, restart=restart, was_exhausted=exhausted(row, self.planner.ladder(row)))
        self._plan(row, now)

    # --- what a host or an operator does

    def host_write(self, now: datetime, **columns: Any) -> None:
        """Insert the row by SQL, or update columns of it; the triggers do their part."""
        if self.row is None:
            self.row = insert(now, columns)
        else:
            self.row = write(self.row, self.planner, now, columns)

    def file(self, _: datetime, file: Mapping[str, Any] | None) -> None:
        """Start the worker with another file, or none. The next tick ends with a recalc."""
        self.planner.file = file
        self.recalc_wanted = self.restarted = True

    def replace_roster(self, _: datetime, roster: Roster) -> None:
        """Give the worker other schedules, people, or targets."""
        self.roster = roster

    def override(self, _: datetime, schedule: str, person: str, begin: datetime, end: datetime) -> None:
        """Put one person on call, from ``begin`` up to ``end``."""
        self.overrides.append(Override(schedule, person, begin, end))

    def set_back(self, _: datetime, levels: int) -> None:
        """Lower the level past the triggers, so that the episode stays and has later events, and ask for a planning."""
        row = self._row("open")
        row.level = max(row.level - levels, row.policy_level or 0)
        row.next_due_at = EPOCH

    def lose_texts(self, _: datetime) -> None:
        """Delete the stored texts of all policies."""
        self.planner.versions.clear()

    def switch(self, _: datetime, **switches: bool) -> None:
        """Start the worker with other switches."""
        self.switches = replace(self.switches, **switches)
        self.restarted = True

    def deliver(self, _: datetime) -> None:
        """Send all pages that a worker may claim."""
        if self._works() and self.switches.v1:
            self.planner.unsent.clear()

    # --- ticks

    def tick(self, now: datetime) -> TickReport:
        """Run a tick, write the heartbeat, and run the recalc that was asked for."""
        row, heartbeat, report = self.row, self.heartbeat, TickReport()
        if row is not None and self._works() and self.switches.inside:
            report = self._claim(row, now)
        dry = self.switches.dry_run
        stepped = heartbeat is not None and heartbeat > now + CLOCK_TOLERANCE
        first = self.restarted or (self.recalc_wanted and not dry)
        self.restarted = False
        recent = heartbeat is not None and not stepped and now - heartbeat < self.planner.settings.tick / 4
        # A dry run writes its heartbeat as well, but leaves a step of the clock to another tick.
        if (first or not recent) and not (dry and stepped):
            self.heartbeat = now
        if not dry and (stepped or self.recalc_wanted):
            self.recalc(now, ahead=heartbeat if stepped else None)
        return report

    @writes
    def recalc(self, now: datetime, ahead: datetime | None = None) -> None:
        """Write what a planning writes, but never an event. A row whose acknowledgement SQL ended waits for its tick.

        ``ahead`` is the reading of a clock that has stepped back since: a first_seen up to it counts as now.
        """
        row, asked = self.row, self.recalc_wanted or ahead is None
        self.recalc_wanted = False
        if row is None or row.state == "resolved" or (row.next_due_at is None and not asked):
            return
        if ahead is not None and now < row.first_seen <= ahead + self.planner.settings.tick:
            row.first_seen = now
        elif row.next_due_at == EPOCH:
            return
        if row.last_escalated_at is not None:
            row.last_escalated_at = min(row.last_escalated_at, now)
        if (row.policy_pin or "").startswith("!"):
            row.next_due_at = EPOCH
        elif row.next_due_at != EPOCH:
            self._plan(row, now)

    def _works(self) -> bool:
        return self.switches.enabled and not self.switches.paused and not self.switches.dry_run

    def _claim(self, row: Row, now: datetime) -> TickReport:
        may, report = self.switches.v1, TickReport()
        if row.next_due_at is None or row.next_due_at > now or (row.next_due_at != EPOCH and not may):
            return report
        if row.last_escalated_at is not None:
            row.last_escalated_at = min(row.last_escalated_at, now)
        claimed, planner = replace(row), self.planner.trial()
        ladder, due, assigned = self._plan_claimed(row, now)
        if due is not None and row.state == "open" and due <= now:
            opens = self._closed_until(ladder, position(row), now)
            if opens is not None:
                self.planner.note(row, now, "put off")
                row.next_due_at = self._until(opens, now, assigned=assigned)
            elif may:
                passed, recipients = self._pass(row, ladder, now)
                highest = self._highest_recorded(row, passed)
                if highest is None:
                    report = self._record(row, passed, recipients, now)
                    self._write_due(row, ladder, now, assigned=assigned)
                else:
                    # The record wins: this planning is taken back, and another one begins at its level.
                    vars(row).update(vars(claimed))
                    self.planner = planner
                    row.level = highest.level
                    row.last_escalated_at = min(max(row.last_escalated_at or highest.at, highest.at), now)
                    self._plan_claimed(row, now)
                    report = TickReport(already_recorded=1)
        return report

    def _plan_claimed(self, row: Row, now: datetime) -> tuple[Ladder, datetime | None, bool]:
        """Plan the row for a tick; return its policy, when it is due, and whether it could be assigned."""
        known = set(self.planner.versions)
        assigned = self.planner.plan(row, now, expire=self.switches.v1)
        self.planner.forget(known, row)
        ladder = self.planner.ladder(row)
        return ladder, self._write_due(row, ladder, now, assigned=assigned), assigned

    def _write_due(self, row: Row, ladder: Ladder, now: datetime, *, assigned: bool) -> datetime | None:
        due = self._due(row, ladder, now)
        row.next_due_at = self._until(due, now, assigned=assigned)
        self._note_exhausted(row, now, due)
        return due

    def _highest_recorded(self, row: Row, passed: list[Escalation]) -> Escalation | None:
        """Return the highest event of the episode, if one of these is recorded already."""
        recorded = {each.level: each for each in self.planner.escalations if each.episode == row.episode}
        return recorded[max(recorded)] if any(each.level in recorded for each in passed) else None

    def _record(
        self, row: Row, passed: list[Escalation], recipients: Mapping[str, str | None], now: datetime
    ) -> TickReport:
        """Record a level that pages, and the empty ones before it."""
        row.level, row.last_escalated_at = passed[-1].level, now
        pages = [Page(now, row.episode, row.level, *each) for each in recipients.items()]
        self.planner.escalations += passed
        self.planner.pages += pages
        if any(self.roster.serves(each.target) for each in pages):
            self.planner.unsent.append((row.episode, row.level))
        alone = passed[-1].outcome == "default"
        if alone:
            self.planner.note(row, now, "nobody_on_call")
        return TickReport(tuple(passed), tuple(pages), nobody_on_call=int(alone))

    def _pass(self, row: Row, ladder: Ladder, now: datetime) -> tuple[list[Escalation], dict[str, str | None]]:
        """Return the escalations up to the first level that is not empty, and the recipients of the last of them."""
        n, level, passed = position(row), row.level, []
        while True:
            to = ladder.level(n).to
            level += 1
            recipients = self.roster.recipients(to, now, self.overrides)
            ends = ladder.ends_round(n) or self._closed_until(ladder, n + 1, now) is not None
            outcome = None if recipients else "default" if ends else "nobody"
            passed.append(Escalation(now, row.episode, level, ladder.name, n, to, outcome))
            if outcome != "nobody":
                return passed, recipients or self.roster.instead()
            n += 1

    def _until(self, due: datetime | None, now: datetime, *, assigned: bool) -> datetime | None:
        """Return what a tick writes: a row whose policy it cannot assign is claimed again within a tick interval."""
        soon = now + self.planner.settings.tick
        return due if assigned else soon if due is None else min(due, soon)

    def _closed_until(self, ladder: Ladder, n: int, now: datetime) -> datetime | None:
        """Return when the hours of the level at a position open, if they are closed now."""
        hours = ladder.level(n).deliver
        return None if hours is None or is_open(hours, now) else next_open(hours, now)

    def _plan(self, row: Row, now: datetime) -> None:
        """Plan the row for a verb or a recalc."""
        marked = row.next_due_at == EPOCH
        assigned = self.planner.plan(row, now)
        ladder = self.planner.ladder(row)
        due = self._due(row, ladder, now)
        if due is not None and row.state == "open" and due <= now:
            due = self._closed_until(ladder, position(row), now) or due
        if marked and due is None and row.state == "acknowledged" and row.policy_pin is None:
            assigned = False  # a worker with a file has not seen the row
        row.next_due_at = due if assigned else EPOCH
        self._note_exhausted(row, now, due)

    def _trial(self, row: Row, now: datetime) -> Ladder:
        """Return the policy by which a planning would plan the row."""
        planner, trial = self.planner.trial(), replace(row)
        planner.plan(trial, now)
        return planner.ladder(trial)

    def _note_exhausted(self, row: Row, now: datetime, due: datetime | None) -> None:
        if due is None and row.state == "open" and row.next_due_at is None:
            self.planner.note_exhausted(row, now)

    def _due(self, row: Row, ladder: Ladder, now: datetime) -> datetime | None:
        return next_due(row, ladder, now, self.planner.settings.tick, self.planner.stored_at(row))

    def _row(self, *states: str) -> Row:
        if self.row is None:
            raise Refused("unknown key")
        if self.row.state not in states:
            raise Refused(self.row.state)
        return self.row


def play(night: Night, script: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Play steps such as ``{"do": "snooze", "at": INSTANT, "until": None}``; return the row after each of them.

    ``refused`` of a row says whether its verb was refused; ``report`` is there after a tick.
    """
    after = []
    for step in script:
        arguments = {key: value for key, value in step.items() if key not in {"do", "at"}}
        try:
            report = getattr(night, step["do"])(step["at"], **arguments)
            done = {"refused": False} | ({} if report is None else {"report": report})
        except Refused:
            done = {"refused": True}
        after.append(night.snapshot() | done)
    return after
