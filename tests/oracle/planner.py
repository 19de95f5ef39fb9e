"""The planning of a row: which text plans it, what ends its acknowledgement, where it is in its walk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from json import dumps
from typing import Any

from .ladder import BUILT_IN, Ladder, Settings, ack_end, built_in, exhausted, normal, read_ladder
from .records import Cancelled, Escalation, Note, Page, Pin, Row, Version

MAX_SEVERITY = 60


def digest(file: Mapping[str, Any], name: str) -> str:
    """Return the sha256 of the canonical JSON of a policy and the hours that it names."""
    policy = file["policies"][name]
    used = {policy.get("clock")} | {level.get("deliver") for level in policy["levels"]}
    hours = {key: value for key, value in file.get("hours", {}).items() if key in used}
    text = dumps({"hours": hours, "policy": policy}, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()


@dataclass
class Planner:
    """All that plans one row: the settings, the file in force, the stored texts, and what was recorded."""

    settings: Settings
    file: Mapping[str, Any] | None = None
    digest_of: Callable[[Mapping[str, Any], str], str] = digest
    versions: dict[str, Version] = field(default_factory=dict)
    """The stored texts, by digest: two policies with one text have one version."""
    escalations: list[Escalation] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    unsent: list[tuple[int, int]] = field(default_factory=list)
    """Episode and level of the pages that no worker has claimed."""
    cancelled: list[Cancelled] = field(default_factory=list)
    _read: dict[tuple[str, str], Ladder] = field(default_factory=dict)
    """The policies that were read, by name and digest."""

    def knows(self, name: str) -> bool:
        """Tell whether a name can be assigned."""
        return name == BUILT_IN or (self.file is not None and name in self.file["policies"])

    def plan(self, row: Row, now: datetime, *, expire: bool = False) -> bool:
        """Bring the row's acknowledgement, pin and position up to date, in this order.

        Only a tick lets an acknowledgement expire. Returns False if the row needs a policy that this engine cannot
        assign.
        """
        readable = self._find_lost(row, now)
        if expire:
            self._expire(row, now)
        if readable and row.policy_pin is not None and row.policy_pin.startswith("!"):
            row.policy_pin = str(row.pinned)
            if row.state == "open":
                self._restart_exhausted(row, now, now)
        assigned = self._assign(row, now)
        if expire:
            # A row that had no pin, or another one, until now.
            self._expire(row, now)
        return readable and assigned

    def trial(self) -> "Planner":
        """Return a copy for a planning that may be thrown away."""
        return replace(
            self,
            versions=dict(self.versions),
            escalations=list(self.escalations),
            pages=list(self.pages),
            notes=list(self.notes),
            unsent=list(self.unsent),
            cancelled=list(self.cancelled),
        )

    def ladder(self, row: Row) -> Ladder:
        """Return the policy by which the row is planned: that of its pin."""
        pin = row.pinned
        version = self._version(row)
        if pin is None or version is None:
            return built_in(self.settings, row.severity)
        key = (pin.name, pin.digest)
        if key not in self._read:
            self._read[key] = read_ladder(pin.name, version.policy, version.hours)
        return self._read[key]

    def forget(self, known: set[str], written: Row | None) -> None:
        """Forget all texts that are not ``known``, but the one that the row is pinned to, if it is written."""
        pin = None if written is None else written.pinned
        for found in set(self.versions) - known:
            if pin is None or found != pin.digest:
                del self.versions[found]

    def stored_at(self, row: Row) -> datetime | None:
        """Return the instant at which the text of the row's pin was stored; None for the built-in policy."""
        version = self._version(row)
        return None if version is None else version.stored_at

    def cancel(self, now: datetime) -> None:
        """Cancel all unsent pages."""
        self.cancelled += [Cancelled(now, *page) for page in self.unsent]
        self.unsent.clear()

    def note(self, row: Row, now: datetime, what: str) -> None:
        """Note something about the row."""
        self.notes.append(Note(now, what, row.episode, row.level))

    def note_exhausted(self, row: Row, now: datetime) -> None:
        """Note that the walk is over, once for each episode and level."""
        found = Note(now, "exhausted", row.episode, row.level)
        if not any(replace(each, at=now) == found for each in self.notes):
            self.notes.append(found)

    def restart(self, row: Row, now: datetime, since: datetime) -> None:
        """Begin the walk again in a new episode, at the same level."""
        self.cancel(now)
        row.episode += 1
        row.policy_level, row.policy_since = row.level, since
        self.note(row, now, "restart")

    def rebind(self, row: Row, now: datetime, name: str, *, restart: bool, was_exhausted: bool) -> None:
        """Pin the version of the file in force; the position stays, unless it is past the end of the new walk."""
        pin = row.pinned
        row.policy_pin = str(Pin(name, self._store(name, now), self._severity(row) if pin is None else pin.severity))
        self.note(row, now, "rebound")
        if restart or (exhausted(row, self.ladder(row)) and not was_exhausted):
            self.restart(row, now, now)

    def _version(self, row: Row) -> Version | None:
        pin = row.pinned
        return None if pin is None else self.versions.get(pin.digest)

    def _store(self, name: str, now: datetime) -> str:
        """Store the text of a policy once, and return its digest."""
        if name == BUILT_IN:
            return ""
        assert self.file is not None
        found = self.digest_of(self.file, name)
        version = Version(self.file["policies"][name], self.file.get("hours", {}), now)
        self.versions.setdefault(found, version)
        return found

    def _find_lost(self, row: Row, now: datetime) -> bool:
        """Rebind a row whose text is lost; return False without a file, which cannot replace it."""
        pin = row.pinned
        if pin is None or pin.name == BUILT_IN or self._version(row) is not None:
            return True
        if self.file is None:
            return False
        if self.knows(pin.name) and self.digest_of(self.file, pin.name) == pin.digest:
            self._store(pin.name, now)
            return True
        over = row.state == "open" and row.next_due_at is None
        begun = "!" if row.policy_pin is not None and row.policy_pin.startswith("!") else ""
        self.rebind(row, now, pin.name if self.knows(pin.name) else BUILT_IN, restart=False, was_exhausted=over)
        row.policy_pin = f"{begun}{row.policy_pin}"
        return True

    def _expire(self, row: Row, now: datetime) -> None:
        ladder = self.ladder(row)
        end = ack_end(row, ladder, now, self.stored_at(row))
        if row.state != "acknowledged" or end is None or end > now:
            return
        row.acknowledged_at = row.acknowledged_by = None
        self.cancel(now)
        self.note(row, now, "ack_expired")
        if ladder.restarts:
            self.restart(row, now, end)
        else:
            self._restart_exhausted(row, now, end)

    def _restart_exhausted(self, row: Row, now: datetime, since: datetime) -> None:
        ladder = self.ladder(row)
        if ladder.name != BUILT_IN and exhausted(row, ladder):
            self.restart(row, now, since)

    def _severity(self, row: Row) -> str:
        return normal(row.severity)[:MAX_SEVERITY]

    def _assign(self, row: Row, now: datetime) -> bool:
        severity = self._severity(row)
        if self.file is not None and row.policy_pin is None and row.level > 0:
            row.policy_pin = str(Pin(BUILT_IN, "", severity))
        pin = row.pinned
        if pin is None:
            fits = self.file is None and row.policy in {None, BUILT_IN}
        else:
            fits = pin.severity == severity and row.policy in {None, pin.name}
        if fits:
            return True
        if pin is not None and row.policy == pin.name:
            # The host's word is what the pin bears: no file is needed to know it.
            row.policy_pin = str(Pin(pin.name, pin.digest, severity))
            return True
        if self.file is None:
            self._note_unknown(row, now)
            return False
        name = self._choose(row, severity) if row.policy is None else row.policy
        if pin is not None and name == pin.name:
            row.policy_pin = str(Pin(name, pin.digest, severity))
            return True
        if not self.knows(name):
            self._note_unknown(row, now)
            return False
        row.policy_pin = str(Pin(name, self._store(name, now), severity))
        if pin is not None:
            self._change_walk(row, name, now)
        return True

    def _note_unknown(self, row: Row, now: datetime) -> None:
        """Note the host's word once, if it is unknown here."""
        name = row.policy
        if name is None or self.knows(name) or any(each.about == name for each in self.notes):
            return
        self.notes.append(Note(now, "unknown policy", row.episode, row.level, name))

    def _choose(self, row: Row, severity: str) -> str:
        """Return what ``assign`` names: the last rule that matches."""
        assert self.file is not None
        chosen = "default" if "default" in self.file["policies"] else BUILT_IN
        for rule in self.file.get("assign", ()):
            wanted = rule.get("severity")
            labels = rule.get("labels", {})
            if (wanted is None or normal(wanted) == normal(row.severity)) and all(
                row.labels.get(key) == value for key, value in labels.items()
            ):
                chosen = rule["policy"]
        return chosen

    def _change_walk(self, row: Row, name: str, now: datetime) -> None:
        """Go on where the policy was in this episode, or begin its walk."""
        recorded = [each.position for each in self.escalations if (each.episode, each.policy) == (row.episode, name)]
        if recorded:
            row.policy_level = max(row.level - min(recorded[-1], self.ladder(row).total), 0)
        else:
            row.policy_level = row.level
            past = (row.policy_since, row.last_escalated_at)
            row.policy_since = max((min(each, now) for each in past if each is not None), default=None)
