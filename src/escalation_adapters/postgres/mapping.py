"""The mapping of a host's columns: what a host writes in ``--column`` and ``--status``."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from escalation_core import InvalidValue

COLUMNS = {
    "incident_key": "incident_key",
    "severity": "severity",
    "first_seen": "first_seen",
    "level": "escalation_level",
    "episode": "episode",
    "last_escalated_at": "last_escalated_at",
    "acknowledged_at": "acknowledged_at",
    "acknowledged_by": "acknowledged_by",
    "resolved_at": "resolved_at",
    "snoozed_until": "snoozed_until",
    "next_due_at": "next_due_at",
    "summary": "summary",
    "labels": "labels",
    "policy": "policy",
    "policy_pin": "policy_pin",
    "policy_level": "policy_level",
    "policy_since": "policy_since",
}
"""The engine's name of each column, and its default name in SQL."""
READABLE = ("first_seen", "severity", "summary", "labels")
"""Columns that may be mapped read-only: the engine copies the host's value when a row is inserted."""
READ = ":read"
WRITTEN: Mapping[str, str] = {
    "severity": "open, change_severity",
    "first_seen": "open (a new incident, or one that was resolved)",
    "level": "each escalation; open, drain",
    "episode": "open, drain",
    "last_escalated_at": "each escalation; open",
    "acknowledged_at": "acknowledge, unacknowledge, open",
    "acknowledged_by": "acknowledge, unacknowledge, open",
    "resolved_at": "resolve, open",
    "snoozed_until": "snooze, open",
    "next_due_at": "each tick, each verb",
    "summary": "open",
    "labels": "open",
    "policy": "open",
    **dict.fromkeys(("policy_pin", "policy_level", "policy_since"), "each planning by a policies file"),
}
"""The verbs that write each column. ``incident_key`` is written by the ``open`` that inserts a row."""


def _words(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen(kw_only=True)
class StatusMapping:
    """A column of the host that says whether an incident is open, acknowledged or resolved.

    Each word of the host belongs to one of the lists. The engine writes the first word of a list. A row with a word
    that is in no list counts as open, and health reports the word. Without a word for ``acknowledged`` an
    acknowledgement leaves the status as it is.

    Raises:
        InvalidValue: ``open`` or ``resolved`` is empty, or a word is not text or stands twice.
    """

    column: str
    open: Sequence[str] = attrs.field(converter=_words)
    acknowledged: Sequence[str] = attrs.field(default=(), converter=_words)
    resolved: Sequence[str] = attrs.field(converter=_words)

    def __attrs_post_init__(self) -> None:
        """Check the words."""
        for name in ("open", "resolved"):
            if not getattr(self, name):
                raise InvalidValue(f"status.{name}", "has no word", f"give the host's words: --{name} WORD,...")
        seen: set[str] = set()
        for word in self.words:
            if not isinstance(word, str) or not word or "'" in word or "%" in word:
                raise InvalidValue(
                    "status", f"the word {word!r} is not a text without ' and %", "give the host's words"
                )
            if word in seen:
                raise InvalidValue("status", f"the word {word!r} stands twice", "name each word in one list")
            seen.add(word)

    @property
    def words(self) -> Sequence[str]:
        """Every word."""
        return [*self.open, *self.acknowledged, *self.resolved]


def split_columns(columns: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the engine's columns with their names in SQL, and the host's columns that are only read.

    ``first_seen=created_at:read`` keeps the default name for the engine's own column, and reads ``created_at``.

    Raises:
        InvalidValue: a name is not one of the engine's, cannot be read-only, or two names share one column.
    """
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        raise InvalidValue("columns", f"the engine has no column {unknown[0]!r}", f"use {', '.join(COLUMNS)}")
    reads = {name: column.removesuffix(READ) for name, column in columns.items() if column.endswith(READ)}
    for name in reads:
        if name not in READABLE:
            raise InvalidValue("columns", f"{name!r} cannot be read-only", f"only {', '.join(READABLE)} can")
    written = COLUMNS | {name: column for name, column in columns.items() if name not in reads}
    taken = [*written.values(), *reads.values()]
    twice = sorted({column for column in taken if taken.count(column) > 1})
    if twice:
        raise InvalidValue("columns", f"the column {twice[0]!r} is mapped twice", "name another column for each")
    return written, reads
