"""The host's incidents table: the names and types of its columns, and the conversion of a row to an incident."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from psycopg import sql

from escalation_core import Incident, InvalidValue
from escalation_core.model import MAX_CLAIM_LABELS_BYTES, MAX_LABELS_BYTES, MAX_NAME_CHARS, MAX_SUMMARY_CHARS, Candidate

from .mapping import COLUMNS, StatusMapping

INSTANTS = frozenset(name for name in COLUMNS if name.endswith(("_at", "_seen", "_until", "_since")))
LEFT_OUT = "left out"
"""The text that is selected in the place of labels that are too long."""
_NAMES = ("severity", "acknowledged_by", "policy", "policy_pin")
_LONGEST = dict.fromkeys(_NAMES, MAX_NAME_CHARS) | {"summary": MAX_SUMMARY_CHARS}
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
"""Python's first and last instant, as which the instants of rows beyond them are read (ADR 0011)."""
_ENDS = (FIRST.year, LAST.year)
_INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}
_UUID = re.compile(
    r"(?:urn:uuid:)?(?P<brace>\{)?(?P<digits>(?:[0-9a-f]{4}-?){7}[0-9a-f]{4})(?(brace)\})", re.ASCII | re.IGNORECASE
)
TEXTS = ("text", "character varying")
KEY_TYPES = (*TEXTS, "uuid", *_INTEGERS)


@attrs.frozen(kw_only=True)
class IncidentsTable:
    """The host's table: its name, and its columns and their types by the engine's names."""

    schema: str
    name: str = "incidents"
    columns: Mapping[str, str] = attrs.field(factory=lambda: dict(COLUMNS))
    types: Mapping[str, str] = attrs.field(
        factory=lambda: {"incident_key": "text", "severity": "text", "labels": "jsonb"}
    )
    reads: Mapping[str, str] = attrs.field(factory=dict)
    """Columns of the host that the engine copies into its own when a row is inserted, and never writes."""
    status: StatusMapping | None = None
    added: Sequence[str] = ()
    """Columns that an attach added: a detach drops them."""
    created: bool = False
    """Whether an attach created the table. Then a detach leaves it, with all its columns."""
    kinds: Mapping[str, str] = attrs.field(factory=dict)
    """The type of each mapped column of the host when the table was attached, by the column's name."""
    revision: int = 0
    """A random number of each attach. Workers notice by it that the mapping has changed."""

    def __attrs_post_init__(self) -> None:
        """Refuse names that would act as a placeholder, or end a function's body, in SQL."""
        for name in (self.schema, self.name, *self.host_columns):
            if any(text in name for text in ("%", "'", "$body$", "$do$")):
                raise InvalidValue("name", f"{name!r} holds %, ', $body$ or $do$", "rename it in the database")

    @property
    def host_columns(self) -> Sequence[str]:
        """Every column that the engine reads or writes."""
        status = [] if self.status is None else [self.status.column]
        return [*self.columns.values(), *self.reads.values(), *status]

    @property
    def unattached(self) -> Sequence[str]:
        """The engine's names of columns that an attach by an earlier version did not know."""
        return [name for name, column in self.columns.items() if column not in self.kinds]

    def sql_names(self) -> dict[str, sql.Composable]:
        """Return the SQL for each placeholder of the statements."""
        names: dict[str, sql.Composable] = {name: sql.Identifier(column) for name, column in self.columns.items()}
        names["schema"] = sql.Identifier(self.schema)
        names["schema_name"] = sql.Literal(names["schema"].as_string())
        names["incidents"] = sql.Identifier(self.schema, self.name)
        names["incidents_name"] = sql.Literal(names["incidents"].as_string())
        names["incident_key_name"] = sql.Literal(self.columns["incident_key"])
        names["key_type"] = sql.SQL(self.types["incident_key"])
        names["severity_type"] = sql.SQL(self.types["severity"])
        names["severity_type_name"] = sql.Literal(self.types["severity"])
        names["severity_name"] = sql.Literal(self.columns["severity"])
        names["labels_type"] = sql.SQL(self.types["labels"])
        names["status_type_name"] = sql.Literal(self.types.get("status", "text"))
        names["bucket"] = sql.SQL("('x' || substr(md5(i.{key}::text), 1, 8))::bit(32)::bigint % 100").format(
            key=names["incident_key"]
        )
        names["columns"] = sql.SQL(", ").join(sql.Identifier("i", column) for column in self.host_columns)
        names["is_open"] = self.is_open("i")
        names["is_unresolved"] = self.is_unresolved("i")
        names["first_seen_value"] = self.value("first_seen", "i")
        names["due"] = self.expression("next_due_at")
        names["row"] = sql.SQL(", ").join(self.expression(name) for name in COLUMNS)
        bare = (sql.SQL("NULL") if name == "labels" else self.expression(name) for name in COLUMNS)
        names["bare_row"] = sql.SQL(", ").join(bare)
        labels = self.value("labels", "p")
        names["labels_size"] = sql.SQL(
            "CASE WHEN {long} THEN least(octet_length({0}::text), {most}) ELSE 0 END"
        ).format(labels, long=_maybe_long(labels), most=MAX_LABELS_BYTES)
        names["most_labels"] = sql.Literal(MAX_CLAIM_LABELS_BYTES)
        names["whole_row"] = sql.SQL(", ").join(self.expression(name, whole=True) for name in COLUMNS)
        return names

    def expression(self, name: str, *, whole: bool = False) -> sql.Composable:
        """Return the expression that selects a column of the row i: no value in it can break the reading of other rows.

        Unless ``whole``, a text is cut to the length that a page carries, so that a thousand rows fit into memory.
        """
        column = self.value(name, "i")
        if name in INSTANTS:
            # Python has no datetime for infinity, or for years outside 1 to 9999: one such value would break its whole
            # batch. So they are clamped to Python's first and last instant, which ``_instant`` refuses (ADR 0011). The
            # result has no zone, because a session's zone could move an instant near the ends beyond them.
            return sql.SQL(
                "CASE WHEN {0} IS NOT NULL THEN least(greatest({0}, {first}), {last}) END AT TIME ZONE 'UTC'"
            ).format(
                column,
                first=sql.SQL("timestamptz '0001-01-01 00:00:00+00'"),
                last=sql.SQL("timestamptz '9999-12-31 23:59:59.999999+00'"),
            )
        if name in ("level", "episode", "policy_level"):
            return column
        if not whole and name in _LONGEST:
            return sql.SQL("left({}::text, {})").format(column, sql.Literal(_LONGEST[name]))
        if not whole and name == "labels":
            return sql.SQL(
                "CASE WHEN {long} AND octet_length({0}::text) > {most} THEN {left_out} ELSE {0}::text END"
            ).format(column, long=_maybe_long(column), most=MAX_LABELS_BYTES, left_out=LEFT_OUT)
        return sql.SQL("{}::text").format(column)

    def value(self, name: str, alias: str) -> sql.Composable:
        """Return the expression for a value of a row: the engine's own column, or what it stands for.

        A column that is mapped read-only gives the host's value until the engine has copied it, for example in rows
        from before the table was attached. A status decides alone whether a row is acknowledged or resolved: the
        instants are the engine's, and may be missing.
        """
        own = sql.Identifier(alias, self.columns[name])
        if name in self.reads:
            return sql.SQL("coalesce({}, {})").format(own, sql.Identifier(alias, self.reads[name]))
        if self.status is None or name not in ("acknowledged_at", "resolved_at"):
            return own
        since = sql.SQL("coalesce({}, {}, {})").format(
            own, sql.Identifier(alias, self.columns["last_escalated_at"]), self.value("first_seen", alias)
        )
        resolved = self.has_status("resolved", alias)
        if name == "resolved_at":
            return sql.SQL("CASE WHEN {} THEN {} END").format(resolved, since)
        if not self.status.acknowledged:
            return own
        return sql.SQL("CASE WHEN {} THEN {} WHEN {} THEN {} END").format(
            self.has_status("acknowledged", alias), since, resolved, own
        )

    def has_status(self, state: str, alias: str | None) -> sql.Composable:
        """Return the condition that a row's status is one of the words for a state."""
        assert self.status is not None  # noqa: S101 - the callers know it
        column = self.status.column
        name = sql.Identifier(column) if alias is None else sql.Identifier(alias, column)
        return sql.SQL("{} = ANY ({})").format(name, self.status_words(getattr(self.status, state)))

    def status_words(self, words: Sequence[str]) -> sql.Composable:
        """Return an array of words in the type of the status column."""
        kind = sql.SQL(self.types.get("status", "text"))
        listed = sql.SQL(", ").join(sql.Literal(word) for word in words)
        return sql.SQL("ARRAY[{}]::{}[]").format(listed, kind)

    def is_open(self, alias: str | None) -> sql.Composable:
        """Return the condition that a row is neither acknowledged nor resolved."""
        if self.status is None or not self.status.acknowledged:
            at = [self.columns["acknowledged_at"], *([] if self.status else [self.columns["resolved_at"]])]
            null = [sql.Identifier(column) if alias is None else sql.Identifier(alias, column) for column in at]
            conditions = [sql.SQL("{} IS NULL").format(name) for name in null]
        else:
            conditions = []
        if self.status is not None:
            column = self.status.column
            name = sql.Identifier(column) if alias is None else sql.Identifier(alias, column)
            ended = self.status_words([*self.status.acknowledged, *self.status.resolved])
            conditions.append(sql.SQL("({0} IS NULL OR {0} <> ALL ({1}))").format(name, ended))
        return sql.SQL("({})").format(sql.SQL(" AND ").join(conditions))

    def is_unresolved(self, alias: str) -> sql.Composable:
        """Return the condition that a row is not resolved."""
        if self.status is None:
            return sql.SQL("{} IS NULL").format(sql.Identifier(alias, self.columns["resolved_at"]))
        return sql.SQL("({} IS NOT TRUE)").format(self.has_status("resolved", alias))

    def canonical_key(self, incident_key: str) -> str:
        """Return the key as PostgreSQL writes it; a text that is not a uuid in a column of uuids, unchanged."""
        return (self.types["incident_key"] == "uuid" and canonical_uuid(incident_key)) or incident_key

    def legal_key(self, incident_key: str) -> bool:
        """Return True if a row can have this key: a uuid or integer must be written as PostgreSQL writes it."""
        kind = self.types["incident_key"]
        if kind == "uuid":
            return canonical_uuid(incident_key) == incident_key
        if kind in _INTEGERS:
            whole = re.fullmatch(r"0|-?[1-9][0-9]{0,18}", incident_key)
            return whole is not None and -(2 ** _INTEGERS[kind]) <= int(incident_key) < 2 ** _INTEGERS[kind]
        return True


def canonical_uuid(text: str) -> str | None:
    """Return a uuid as PostgreSQL writes it, from each spelling that PostgreSQL reads, and from a URN; else None."""
    match = _UUID.fullmatch(text)
    if match is None:
        return None
    digits = match["digits"].replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def not_null(table: IncidentsTable) -> str:
    """Return the statement that keeps rows without a key out of a table."""
    names = table.sql_names()
    alter = sql.SQL("ALTER TABLE {incidents} ALTER COLUMN {incident_key} SET NOT NULL")
    return alter.format(incidents=names["incidents"], incident_key=names["incident_key"]).as_string()


def _maybe_long(labels: sql.Composable) -> sql.Composable:
    """Return the condition that labels may be too long as text: compressed, a text takes 1/256 of its size or more."""
    return sql.SQL("pg_column_size({}) > {}").format(labels, MAX_LABELS_BYTES // 256)


def read_incident(row: Sequence[Any]) -> Incident:
    """Return the incident of a row selected as ``{row}``; raise InvalidValue if the row is not valid."""
    key, severity, first_seen, level, episode, last, acked, acked_by, resolved, snoozed, due, summary, *rest = row
    labels, policy, pin, walked, since = rest
    return Incident.from_row(
        (
            key,
            severity,
            None if first_seen is None else _instant(first_seen, "first_seen"),
            level,
            episode,
            None if last is None else _instant(last, "last_escalated_at"),
            None if acked is None else _instant(acked, "acknowledged_at"),
            acked_by,
            None if resolved is None else _instant(resolved, "resolved_at"),
            None if snoozed is None else _instant(snoozed, "snoozed_until"),
            # The engine writes its own column anew with each plan, so no value here makes the row unreadable.
            None if due is None else due.replace(tzinfo=UTC),
            summary,
            _labels(labels) if labels and labels != LEFT_OUT else {},
            policy,
            pin,
            walked,
            None if since is None else _instant(since, "policy_since"),
        )
    )


def read_claimed(row: Sequence[Any]) -> Candidate:
    """Return the candidate of a row selected as ``{row}, attempts, picked``."""
    try:
        incident, fault = read_incident(row[:-2]), None
        due_at = incident.next_due_at
    except InvalidValue as error:
        incident, fault, due = None, str(error), row[_DUE_AT]
        due_at = None if due is None else due.replace(tzinfo=UTC)
    return Candidate(
        incident_key=row[_KEY],
        incident=incident,
        due_at=due_at,
        fault=fault,
        attempts=row[-2],
        labels_left_out=row[_LABELS] == LEFT_OUT,
    )


_KEY = list(COLUMNS).index("incident_key")
_DUE_AT = list(COLUMNS).index("next_due_at")
_LABELS = list(COLUMNS).index("labels")


def _instant(value: datetime, field: str) -> datetime:
    """Return a column's instant in UTC."""
    instant = value.replace(tzinfo=UTC)
    if instant.year in _ENDS and instant in (FIRST, LAST):
        raise InvalidValue(field, "is infinite, or outside the years 1 to 9999", "write an instant within them")
    return instant


def _labels(text: str | None) -> dict[str, str]:
    """Return a host's JSON as labels. A value that is not text becomes its JSON; any other document, {}.

    The JSON is selected as text and parsed here, row by row: PostgreSQL accepts numbers and depths that Python refuses.
    """
    try:
        value = json.loads(text or "null")
        if not isinstance(value, dict):
            return {}
        return {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}
    except (ValueError, RecursionError):
        raise InvalidValue("labels", "are nested too deeply, or hold too long a number", "write texts") from None
