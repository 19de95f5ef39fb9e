"""Attach a schema to a host's table, attach it again with another mapping, and detach it: what happens to the table.

Each step is one transaction, except that indexes are built without blocking writers.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from psycopg import sql

from .existing import TYPES
from .mapping import COLUMNS, READ, WRITTEN
from .statements import fill
from .table import IncidentsTable

FUNCTIONS = ("escalation_host_check", "escalation_host_insert", "escalation_host_update")
TRIGGERS = tuple(f"zz_{name}" for name in FUNCTIONS)
"""The triggers that react to host writes. PostgreSQL runs triggers by name: ``zz`` makes these run last."""
INDEXES = ("escalation_due", "escalation_canary", "escalation_unseen")
_DEFAULTS = {"level": " NOT NULL DEFAULT 0", "episode": " NOT NULL DEFAULT 1"}
_KEPT = tuple(name for name in TYPES if name != "next_due_at")
"""Columns whose values a detach keeps. ``next_due_at`` is planned anew."""
_ON_INSERT = """
    CASE
        WHEN NEW.{status} = ANY ({acknowledged}) THEN
            NEW.{acknowledged_at} := coalesce(NEW.{acknowledged_at}, now());
            NEW.{resolved_at} := NULL;
        WHEN NEW.{status} = ANY ({resolved}) THEN
            NEW.{resolved_at} := coalesce(NEW.{resolved_at}, now());
        ELSE
            NEW.{resolved_at} := NULL;
            {note_word}
    END CASE;
"""
_ON_UPDATE = """-- The status decides; the instants follow it.
    IF NEW.{status} IS DISTINCT FROM OLD.{status} THEN
        CASE
            WHEN NEW.{status} = ANY ({acknowledged}) THEN
                IF NOT coalesce(OLD.{status} = ANY ({acknowledged}), false) THEN
                    NEW.{acknowledged_at} := now();
                END IF;
                NEW.{resolved_at} := NULL;
            WHEN NEW.{status} = ANY ({resolved}) THEN
                IF NOT coalesce(OLD.{status} = ANY ({resolved}), false) THEN
                    NEW.{resolved_at} := now();
                END IF;
            ELSE
                {reopen_acknowledged}NEW.{resolved_at} := NULL;
                {note_word}
        END CASE;
    END IF;
    """
_FITS = """AND NOT EXISTS (
            SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
            LEFT JOIN pg_type was ON was.oid = to_regtype({status_type})
            WHERE a.attrelid = TG_RELID AND a.attname = {status_name} AND (
                t.oid IS DISTINCT FROM was.oid AND 'e' IN (t.typtype, coalesce(was.typtype, 'e'))
                OR t.typtype = 'e' AND EXISTS (
                    SELECT FROM unnest({word_texts}::text[]) AS w (word)
                    WHERE NOT EXISTS (SELECT FROM pg_enum e WHERE e.enumtypid = t.oid AND e.enumlabel = w.word))))"""
"""Whether the row triggers can compare the status: an enum is still the same type, and still has the mapped words."""
_WORDS = """
INSERT INTO {schema}.escalation_meta (name, value)
SELECT 'status word ' || i.{status}::text, to_jsonb(now()) FROM {incidents} i
WHERE i.{status} IS NOT NULL AND i.{status} <> ALL ({words}) GROUP BY i.{status}::text LIMIT 100
ON CONFLICT (name) DO NOTHING;
"""
_NOTE_WORD = """IF NEW.{status} IS NOT NULL AND NEW.{status} <> ALL ({words}) THEN
                    INSERT INTO {schema}.escalation_meta (name, value)
                    VALUES ('status word ' || NEW.{status}::text, to_jsonb(now())) ON CONFLICT (name) DO NOTHING;
                END IF;"""


def trigger_sql(table: IncidentsTable) -> str:
    """Return the SQL that creates the triggers and their functions."""
    names = dict(table.sql_names())
    columns = sorted(set(table.host_columns))
    names["column_names"] = sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(map(sql.Literal, columns)))
    names["column_count"] = sql.Literal(len(columns))
    names["fits"] = sql.Literal(f"escalation.fits_{hashlib.sha256(table.schema.encode()).hexdigest()[:8]}")
    own = "    IF was_acknowledged"
    copies = [
        sql.SQL("NEW.{} := coalesce(NEW.{}, NEW.{}){};\n    ").format(
            names[name], names[name], sql.Identifier(column), sql.SQL("::text" if name == "severity" else "")
        )
        for name, column in table.reads.items()
    ]
    names["read_on_insert"] = sql.SQL("").join(copies)
    names |= {"status_on_insert": sql.SQL(""), "status_on_update": sql.SQL(""), "status_fits": sql.SQL("")}
    if table.status is not None:
        names |= _status_names(table)
    text = (files(__package__) / "triggers.sql").read_text(encoding="utf-8")
    if "acknowledged_by" not in own_columns(table):
        # The host's own column: only the verbs write it.
        before, _, after = text.partition(own)
        text = before + after.partition("END IF;\n")[2]
    return fill(text, names)


def trigger_sources(table: IncidentsTable) -> Mapping[str, str]:
    """Return the MD5 of each function's source, as PostgreSQL keeps it."""
    found = re.findall(
        r"FUNCTION [^\n]*\.(\w+)\(\) RETURNS trigger\n.*?\$body\$(.*?)\$body\$", trigger_sql(table), re.DOTALL
    )
    return {name: hashlib.md5(body.encode(), usedforsecurity=False).hexdigest() for name, body in found}


def _status_names(table: IncidentsTable) -> dict[str, sql.Composable]:
    assert table.status is not None  # noqa: S101 - the caller has looked
    names = table.sql_names() | {
        "status": sql.Identifier(table.status.column),
        "acknowledged": table.status_words(table.status.acknowledged),
        "resolved": table.status_words(table.status.resolved),
        "words": table.status_words(table.status.words),
    }
    names["note_word"] = sql.SQL(fill(_NOTE_WORD, names))
    clear = "NEW.{acknowledged_at} := NULL;\n                " if table.status.acknowledged else ""
    names["reopen_acknowledged"] = sql.SQL(fill(clear, names))
    names["status_name"] = sql.Literal(table.status.column)
    names["status_type"] = sql.Literal(table.types.get("status", "text"))
    names["word_texts"] = sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(map(sql.Literal, table.status.words)))
    return {
        "status_fits": sql.SQL(fill(_FITS, names)),
        "status_on_insert": sql.SQL(fill(_ON_INSERT, names)),
        "status_on_update": sql.SQL(fill(_ON_UPDATE, names)),
    }


def own_columns(table: IncidentsTable) -> set[str]:
    """Return the engine's names of the columns that an attach added, or that came with a table which it created."""
    return {name for name, column in table.columns.items() if table.created or column in table.added}


def without_concurrency(text: str) -> str:
    """Return statements on indexes in the form for a transaction, where PostgreSQL builds no index concurrently."""
    return text.replace(" CONCURRENTLY", "")


def index_sql(table: IncidentsTable) -> Mapping[str, str]:
    """Return the statement that builds each index, by its name, without blocking writers."""
    names = table.sql_names()
    bucket = sql.SQL("('x' || substr(md5({key}::text), 1, 8))::bit(32)::bigint % 100").format(key=names["incident_key"])
    names |= {"bucket": bucket, "is_open": table.is_open(None)}
    texts = {
        "escalation_due": "({next_due_at}) WHERE {next_due_at} IS NOT NULL",
        "escalation_canary": "(({bucket}), {next_due_at}) WHERE {next_due_at} IS NOT NULL",
        # Open rows without next_due_at: exhausted rows, rows that were left alone when the table was attached, and rows
        # that were written while the triggers were off. No claim finds the last kind: workers search it here, by key.
        "escalation_unseen": "({incident_key}) WHERE {next_due_at} IS NULL AND {is_open}",
    }
    return {
        name: fill(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {{incidents}} {text}", names)
        for name, text in texts.items()
    }


def create_sql(table: IncidentsTable) -> str:
    """Return the SQL that creates an incidents table with every column."""
    names = table.sql_names()
    columns = "{incident_key} text PRIMARY KEY, {first_seen} timestamptz NOT NULL DEFAULT now()"
    return (
        fill(f"CREATE TABLE {{incidents}} ({columns})", names)
        + ";\n"
        + add_sql(table, missing_in(table, ["first_seen"]))
    )


def missing_in(table: IncidentsTable, there: Sequence[str]) -> list[str]:
    """Return the engine's names of columns whose column in SQL is not among those that are there."""
    known = {table.columns["incident_key"], *there}
    return [name for name in TYPES if table.columns[name] not in known]


def add_sql(table: IncidentsTable, missing: Sequence[str]) -> str:
    """Return the SQL that adds missing columns. A default is constant, so PostgreSQL rewrites no row."""
    names = table.sql_names()
    added = [fill(f"ADD COLUMN {{{name}}} {TYPES[name]}{_DEFAULTS.get(name, '')}", names) for name in missing]
    return "" if not added else fill("ALTER TABLE {incidents} ", names) + ", ".join(added) + ";\n"


def drop_sql(table: IncidentsTable, indexes: Sequence[str] = INDEXES) -> str:
    """Return the SQL that removes triggers and functions, and all or some of the indexes, from the table."""
    names = table.sql_names()
    lines = [f"DROP TRIGGER IF EXISTS {name} ON {{incidents}};\n" for name in TRIGGERS]
    lines += [f"DROP FUNCTION IF EXISTS {{schema}}.{name}();\n" for name in FUNCTIONS]
    lines += [f"DROP INDEX IF EXISTS {{schema}}.{name};\n" for name in indexes]
    return fill("".join(lines), names)


def drop_functions_sql(table: IncidentsTable) -> str:
    """Return the SQL that removes the functions, and the triggers that run them, from wherever they are."""
    lines = [f"DROP FUNCTION IF EXISTS {{schema}}.{name}() CASCADE;\n" for name in FUNCTIONS]
    return fill("".join(lines), table.sql_names())


def keep_sql(table: IncidentsTable) -> str:
    """Return the SQL that keeps the values of added columns in a table of the engine's, before a detach drops them."""
    names = table.sql_names()
    own = [name for name in _KEPT if table.columns[name] in table.added]
    if not own:
        return ""
    pairs = ", ".join(f"'{name}', i.{{{name}}}" for name in own)
    changed = " OR ".join(
        f"i.{{{name}}} <> {default}"
        if (default := {"level": 0, "episode": 1}.get(name)) is not None
        else f"i.{{{name}}} IS NOT NULL"
        for name in own
    )
    return fill(
        "INSERT INTO {schema}.escalation_detached (incident_key, kept) "  # noqa: S608 - names, quoted by ``fill``
        f"SELECT i.{{incident_key}}::text, jsonb_strip_nulls(jsonb_build_object({pairs})) FROM {{incidents}} i "
        f"WHERE i.{{incident_key}} IS NOT NULL AND ({changed}) "
        "ON CONFLICT (incident_key) DO UPDATE SET kept = excluded.kept;\n",
        names,
    )


def restore_sql(table: IncidentsTable, added: Sequence[str]) -> str:
    """Return the SQL that restores values which a detach kept, of the columns that were just added."""
    own = [name for name in _KEPT if name in added]
    if not own:
        return ""
    names = table.sql_names()
    values = ", ".join(
        f"{{{name}}} = coalesce((d.kept->>'{name}')::{TYPES[name]}, i.{{{name}}})"
        if name != "labels"
        else "{labels} = coalesce(d.kept->'labels', i.{labels})"
        for name in own
    )
    return fill(
        f"UPDATE {{incidents}} i SET {values} FROM {{schema}}.escalation_detached d "  # noqa: S608 - as above
        "WHERE i.{incident_key}::text = d.incident_key;\n"
        "DELETE FROM {schema}.escalation_detached;\n",
        names,
    )


def words_sql(table: IncidentsTable) -> str:
    """Return the statement that records each word of the status which no list has, so that health reports it."""
    if table.status is None:
        return ""
    names = table.sql_names() | {
        "status": sql.Identifier(table.status.column),
        "words": table.status_words(table.status.words),
    }
    return fill(_WORDS, names)


def written_columns(table: IncidentsTable) -> Sequence[tuple[str, str, str]]:
    """Return each column of the table that the engine uses, what it stands for, and the verbs that write it."""
    rows = []
    for name in COLUMNS:
        column = table.columns[name]
        added = " (added)" if column in table.added else ""
        rows.append((column, f"{name}{added}", WRITTEN.get(name, "open (a new incident)")))
    rows += [(column, f"{name}{READ}", "never; read when a row is inserted") for name, column in table.reads.items()]
    if table.status is not None:
        rows.append((table.status.column, "status", "open, acknowledge, unacknowledge, resolve"))
    return rows
