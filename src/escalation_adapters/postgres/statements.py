"""Read the statements of ``queries.sql`` by name, and fill in the identifiers of one installation."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

from psycopg import sql

from escalation_core.model import BUILTIN, LATELY, LevelOutcome

from .mapping import StatusMapping
from .table import IncidentsTable

PAGE = (
    "p.id, p.incident_key, p.episode, p.level, p.target, p.dedup_key, p.state, p.created_at AT TIME ZONE 'UTC',"
    " p.due_at AT TIME ZONE 'UTC', p.fence, p.attempts, (extract(epoch FROM p.tried_for) * 1000000)::bigint, p.reason,"
    " p.via, p.schedule_digest, p.priority, p.hand_over_at AT TIME ZONE 'UTC', p.bundle"
)
"""A page's columns, in the order in which outbox.py reads them. The session's DateStyle does not change their form."""


NOTICE = (
    "n.id, n.kind, n.incident_key, n.episode, n.level, n.target, n.dedup_key, n.at AT TIME ZONE 'UTC', n.actor,"
    " n.first_seen AT TIME ZONE 'UTC', n.state, n.created_at AT TIME ZONE 'UTC', n.due_at AT TIME ZONE 'UTC', n.fence,"
    " n.attempts, n.reason, n.bundle, n.for_threads"
)
"""A notice's columns, in the order in which notices.py reads them."""
PASSING = "_passing"
"""The suffix of a statement's name, for the form that leaves out passed-over rows."""
_PARTS = (
    "standing",
    "unless_passed",
    "claimed",
    "scanned",
    "due_targets",
    "due_notices",
    "still_unheard",
    "newer_level",
)
_PUT_TOGETHER = ("look", "stats")


@cache
def writes_incidents() -> frozenset[str]:
    """Return the names of the statements that write the host's table, and so may run a host's triggers."""
    return frozenset(name for name, text in templates().items() if re.search(r"(UPDATE|INTO) \{incidents\}", text))


@cache
def templates() -> Mapping[str, str]:
    """Return each statement of ``queries.sql`` by its name, which is its only comment, and without indents.

    psycopg keeps the parsed form only of statements up to 4,096 characters, and parses longer ones each time.
    """
    text = (files(__package__) / "queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: f"-- {name}\n{_without_comments(body)}" for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _without_comments(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))


def statements(table: IncidentsTable) -> dict[str, bytes]:
    """Return every statement, ready to be executed on this installation."""
    names = table.sql_names() | {"page": sql.SQL(PAGE), "notice": sql.SQL(NOTICE)}
    names |= {name: _part(name, names) for name in _PARTS if name != "unless_passed"}
    names["unless_passed"] = sql.SQL("")
    names |= _status_parts(table)
    names["builtin"] = sql.Literal(BUILTIN)
    names["nobody"] = sql.Literal(LevelOutcome.NOBODY.value)
    names["lately"] = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, LATELY)))
    texts = _texts(names, "")
    texts |= _texts(names | {"unless_passed": _part("unless_passed", names)}, PASSING)
    return {
        # A lone % is SQL's modulo operator, which psycopg needs doubled. Parameters are %(name)s.
        name: re.sub(r"%(?!\()", "%%", text).encode()
        for name, text in texts.items()
    }


def _status_parts(table: IncidentsTable) -> dict[str, sql.Composable]:
    if table.status is None:
        return dict.fromkeys(("status_column", "status_value", "status_moved"), sql.SQL(""))
    name, kind = sql.Identifier(table.status.column), sql.SQL(table.types.get("status", "text"))
    value = sql.SQL("{}::{}").format(sql.Literal(table.status.open[0]), kind)
    moved = sql.SQL(", {0} = CASE WHEN v.acked IS NULL AND {1} THEN {2} ELSE i.{0} END").format(
        name, table.has_status("acknowledged", "i"), value
    )
    return {
        "status_column": sql.SQL(", {}").format(name),
        "status_value": sql.SQL(", {}").format(value),
        "status_moved": moved if table.status.acknowledged else sql.SQL(""),
    }


def save(table: IncidentsTable, changed: Sequence[str], state: str) -> bytes:
    """Return the statement that writes these columns of one incident, and its status if the state may have changed.

    A status that is right already stays: each list may have several words.
    """
    names = table.sql_names()
    changes: list[sql.Composable] = []
    for name in changed:
        cast = sql.SQL("::{}").format(names[f"{name}_type"]) if f"{name}_type" in names else sql.SQL("")
        changes.append(sql.SQL("{} = {}{}").format(names[name], sql.Placeholder(name), cast))
    if table.status is not None and {"acknowledged_at", "resolved_at"} & set(changed):
        changes += _status_of(table, table.status, state)
    text = sql.SQL("{} {} WHERE {} = %(incident_key)s::{}").format(
        sql.SQL(fill(templates()["save"], names)), sql.SQL(", ").join(changes), names["incident_key"], names["key_type"]
    )
    return text.as_string().encode()


def _status_of(table: IncidentsTable, status: StatusMapping, state: str) -> Iterator[sql.Composable]:
    words = getattr(status, state, ())
    if words:
        is_right = table.is_open(None) if state == "open" else table.has_status(state, None)
        yield sql.SQL("{0} = CASE WHEN {1} THEN {0} ELSE {2}::{3} END").format(
            sql.Identifier(status.column), is_right, sql.Literal(words[0]), sql.SQL(table.types.get("status", "text"))
        )


def _texts(names: Mapping[str, sql.Composable], end: str) -> dict[str, str]:
    """Return every statement by its name. With an ``end``, return only those that differ while rows are passed over."""
    differ = [name for name, text in templates().items() if not end or "{unless_passed}" in text]
    texts = {name + end: fill(templates()[name], names) for name in differ if name not in _PARTS + _PUT_TOGETHER}
    for suffix in ("", "_canary"):
        parts = {
            "soonest": sql.SQL(texts[f"next_due{suffix}{end}"]),
            "overdue": sql.SQL(fill(templates()[f"overdue{suffix}"], names)),
        }
        for name in _PUT_TOGETHER:
            texts[name + suffix + end] = fill(templates()[name], {**names, **parts})
    return texts


def _part(name: str, names: Mapping[str, sql.Composable]) -> sql.SQL:
    """Return a part of other statements, without its first line, which is its name."""
    return sql.SQL(fill(templates()[name], names).partition("\n")[2])


def fill(template: str, names: Mapping[str, sql.Composable]) -> str:
    """Put an installation's names into a template's ``{placeholders}``."""

    def word(match: re.Match[str]) -> str:
        return names[match[1]].as_string()

    return re.sub(r"\{(\w+)\}", word, template)
