"""Convert values between Python and SQLite: instants and spans as whole microseconds, labels as JSON."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from escalation_core import Incident, InvalidValue, canary_bucket
from escalation_core.model import (
    MAX_CLAIM_LABELS_BYTES,
    MAX_LABELS_BYTES,
    MAX_NAME_CHARS,
    MAX_SUMMARY_CHARS,
    Candidate,
)

Row = tuple[Any, ...]

COLUMNS = (
    "incident_key",
    "severity",
    "first_seen",
    "level",
    "episode",
    "last_escalated_at",
    "acknowledged_at",
    "acknowledged_by",
    "resolved_at",
    "snoozed_until",
    "next_due_at",
    "summary",
    "labels",
    "policy",
    "policy_pin",
    "policy_level",
    "policy_since",
)
SQL_NAMES = {name: name for name in COLUMNS} | {"level": "escalation_level"}
"""The column in SQL of each of these."""
INSTANTS = tuple(name for name in COLUMNS if name.endswith(("_at", "_seen", "_until", "_since")))
WHOLE = ", ".join(f"i.{SQL_NAMES[name]}" for name in COLUMNS)
"""An incident's columns, in the order in which they are read here."""
LEFT_OUT = "left out"
"""The text that is selected in the place of labels that are too long."""
_CUT = {
    "i.severity": f"substr(i.severity, 1, {MAX_NAME_CHARS})",
    "i.acknowledged_by": f"substr(i.acknowledged_by, 1, {MAX_NAME_CHARS})",
    "i.policy": f"substr(i.policy, 1, {MAX_NAME_CHARS})",
    "i.policy_pin": f"substr(i.policy_pin, 1, {MAX_NAME_CHARS})",
    "i.summary": f"substr(i.summary, 1, {MAX_SUMMARY_CHARS})",
    "i.labels": f"CASE WHEN length(CAST(i.labels AS BLOB)) > {MAX_LABELS_BYTES} THEN '{LEFT_OUT}' ELSE i.labels END",
}
SELECTED = ", ".join(_CUT.get(column, column) for column in WHOLE.split(", "))
"""The same columns, with each text cut to the length that a page carries: a thousand rows fit into memory."""

WITHOUT_LABELS = ", ".join("NULL" if column == "i.labels" else _CUT.get(column, column) for column in WHOLE.split(", "))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LABELS = COLUMNS.index("labels")
_DUE_AT = COLUMNS.index("next_due_at")


def micros(instant: datetime) -> int:
    """Return an instant as microseconds since 1970 in UTC."""
    return (instant - _EPOCH) // _MICROSECOND


def optional_micros(instant: datetime | None) -> int | None:
    """Return an instant as microseconds since 1970 in UTC, or None."""
    # As in micros, without a call more: a tick converts thousands.
    return None if instant is None else (instant - _EPOCH) // _MICROSECOND


def instant(value: int) -> datetime:
    """Return microseconds since 1970 as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=value)


def optional_instant(value: int | None) -> datetime | None:
    """Return microseconds since 1970 as a datetime in UTC, or None."""
    return None if value is None else instant(value)


def span_micros(span: timedelta) -> int:
    """Return a span as microseconds."""
    return span // _MICROSECOND


def to_row(values: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row, with its canary bucket last, from values by an incident's field names."""
    cells = [optional_micros(values[name]) if name in INSTANTS else values[name] for name in COLUMNS]
    cells[_LABELS] = json.dumps(dict(values["labels"]), ensure_ascii=False)
    return (*cells, canary_bucket(values["incident_key"]))


def from_row(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row's values, unchecked, by an incident's field names."""
    return dict(zip(COLUMNS, _values(row), strict=True))


def read_incident(row: Sequence[Any]) -> Incident:
    """Return the incident of a selected row; raise InvalidValue if the row is not valid."""
    return Incident.from_row(_values(row))


def _values(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row's values, unchecked, in the order of an incident's fields. A tick reads thousands of rows."""
    key, severity, first_seen, level, episode, last, acked, acked_by, resolved, snoozed, due, summary, *rest = row
    labels, policy, pin, walked, since = rest
    return (
        key,
        severity,
        None if first_seen is None else _read_instant(first_seen, "first_seen"),
        level,
        episode,
        None if last is None else _read_instant(last, "last_escalated_at"),
        None if acked is None else _read_instant(acked, "acknowledged_at"),
        acked_by,
        None if resolved is None else _read_instant(resolved, "resolved_at"),
        None if snoozed is None else _read_instant(snoozed, "snoozed_until"),
        None if due is None else _read_instant(due, "next_due_at"),
        summary,
        {} if labels in (None, "{}", LEFT_OUT) else json.loads(labels),
        policy,
        pin,
        walked,
        None if since is None else _read_instant(since, "policy_since"),
    )


def _read_instant(value: int, field: str) -> datetime:
    """Return a column's instant."""
    try:
        return _EPOCH + timedelta(microseconds=value)  # as in instant
    except OverflowError:
        raise InvalidValue(field, "lies outside the years 1 to 9999", "write an instant within them") from None


def read_claimed(row: Sequence[Any]) -> Candidate:
    """Return the candidate of a selected row, which ends with the number of times that it was deferred."""
    try:
        incident, fault = read_incident(row[:-1]), None
        due_at = incident.next_due_at
    except InvalidValue as error:
        incident, fault, due_at = None, str(error), optional_instant(row[_DUE_AT])
    return Candidate(
        incident_key=row[0],
        incident=incident,
        due_at=due_at,
        fault=fault,
        attempts=row[len(COLUMNS)],
        labels_left_out=row[_LABELS] == LEFT_OUT,
    )


def read_claims(rows: Iterable[Row]) -> list[Candidate]:
    """Return the candidates, until their labels together take more than ``MAX_CLAIM_LABELS_BYTES``."""
    claimed: list[Candidate] = []
    size = 0
    for row in rows:
        if (size := size + len(row[_LABELS] or "")) > MAX_CLAIM_LABELS_BYTES:
            claimed[-1] = attrs.evolve(claimed[-1], more=True)
            break
        claimed.append(read_claimed(row))
    return claimed
