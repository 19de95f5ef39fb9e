"""Print an attach and a detach as SQL for one transaction, which also records what it applies.

The SQL cannot look at the table before it is written, so the caller says what the table is like: the columns in the
mapping are there, and the others are not. If that is wrong, PostgreSQL refuses a statement, and nothing is changed.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from json import dumps

import attrs
from psycopg import sql

from escalation_core import InvalidValue

from .attach import (
    add_sql,
    create_sql,
    drop_sql,
    index_sql,
    keep_sql,
    missing_in,
    restore_sql,
    trigger_sql,
    without_concurrency,
    words_sql,
)
from .attaching import CANCEL
from .existing import Existing, held_sql, mark_sql
from .host_table import typed
from .installation import EVENTS, KEEP_EVENTS, Migration, migrations, own_tables
from .mapping import READ, StatusMapping, split_columns
from .statements import fill
from .table import KEY_TYPES, IncidentsTable

_SETTING = "SELECT set_config('escalation.engine', '{}', true);\n"
"""Keeps the triggers from the script's own writes."""
_UNTOUCHED = ("incident_key", "first_seen")
"""Columns that a host's table always has, under their own names if the mapping does not name others."""


def print_sql(
    *,
    schema: str = "public",
    table: str = "incidents",
    columns: Mapping[str, str] | None = None,
    status: StatusMapping | None = None,
    types: Mapping[str, str] | None = None,
    existing: Existing | None = None,
    create: bool = False,
    trigger: bool = True,
) -> str:
    """Return the SQL of all migrations and of an attach, as a script for one transaction.

    ``types`` names the type of the status column, ``{"status": "public.state"}``, if it is not text. ``existing``
    chooses which open incidents are planned; ``create`` makes a new table. The script applies the migrations to a
    schema that has not had any, and refuses a schema that is attached already.

    Raises:
        InvalidValue: neither ``existing`` nor ``create`` is given, or the mapping or a type is not valid.
    """
    if existing is None and not create:
        raise InvalidValue("existing", "is missing", "choose page or skip, or create for a table that is not there yet")
    for name, kind in (types or {}).items():
        if "." not in kind and kind not in KEY_TYPES:
            remedy = f"write schema.type, for example public.{kind}, or one of {', '.join(KEY_TYPES)}"
            raise InvalidValue("types", f"{kind!r}, the type of {name}, names no schema", remedy)
    attached, missing = _table(schema, table, columns, status, types, create=create)
    names = attached.sql_names()
    parts = [
        ("the schema", fill("CREATE SCHEMA IF NOT EXISTS {schema};\n", names) if create else ""),
        ("migrations", _migrations(schema)),
        ("the host's table", _SETTING.format("on") + (create_sql(attached) if create else add_sql(attached, missing))),
        ("values of an earlier attach", restore_sql(attached, missing)),
        ("triggers", trigger_sql(attached) if trigger else ""),
        ("this attach", fill(_RECORD, names | _recorded(attached, trigger=trigger))),
        ("indexes", "".join(f"{without_concurrency(text)};\n" for text in index_sql(attached).values())),
    ]
    chosen = existing or "page"
    statements = [held_sql(attached, chosen), *mark_sql(attached, chosen, batch=None)]
    parts.append(("open incidents", "".join(f"{text.as_string()};\n" for text in statements)))
    parts += [
        ("words of the status that no list has", words_sql(attached)),
        ("statistics", fill("ANALYZE {incidents};\n", names)),
        # The script may be a part of the host's transaction, whose later writes must run the triggers.
        ("the triggers act again", _SETTING.format("")),
    ]
    return "\n".join(f"-- {title}\n\n{text}" for title, text in parts if text)


def print_detach_sql(
    *,
    schema: str = "public",
    table: str = "incidents",
    columns: Mapping[str, str] | None = None,
    status: StatusMapping | None = None,
    create: bool = False,
    drop_tables: bool = False,
    tick_interval: timedelta = timedelta(minutes=1),
) -> str:
    """Return the SQL of a detach, as a script for one transaction. The arguments are those of the attach.

    ``create`` says that the attach created the table: then the table and its columns stay. ``tick_interval`` is the
    workers' own: the script refuses if a worker completed a tick within two of them.
    """
    attached, _ = _table(schema, table, columns, status, None, create=create)
    names = attached.sql_names()
    drop = sql.SQL("ALTER TABLE {} DROP COLUMN {};\n")
    drops = [drop.format(names["incidents"], sql.Identifier(name)).as_string() for name in attached.added]
    parts = [
        (
            "no worker may run",
            fill(_NO_WORKER, names | {"seconds": sql.Literal(int(2 * tick_interval.total_seconds()))}),
        ),
        ("the host's table", fill("LOCK TABLE {incidents} IN ACCESS EXCLUSIVE MODE;\n", names) + keep_sql(attached)),
        ("triggers and indexes", drop_sql(attached)),
        ("added columns", "".join(drops)),
        ("pages and records", fill(CANCEL.strip() + ";\n" + _FORGET, names)),
        ("the engine's own tables", _drop_tables(schema) if drop_tables else ""),
    ]
    return "\n".join(f"-- {title}\n\n{text}" for title, text in parts if text)


def _table(
    schema: str,
    name: str,
    columns: Mapping[str, str] | None,
    status: StatusMapping | None,
    types: Mapping[str, str] | None,
    *,
    create: bool,
) -> tuple[IncidentsTable, list[str]]:
    """Return the table as it will be, and the engine's names of the columns that the attach adds."""
    written, reads = split_columns(columns or {})
    given = [name for name, column in (columns or {}).items() if not column.endswith(READ)]
    there = [written[name] for name in {*given, *_UNTOUCHED} - set(reads)]
    table = IncidentsTable(schema=schema, name=name, columns=written, reads=reads, status=status, created=create)
    table = attrs.evolve(table, types={**table.types, **(types or {})})
    missing = missing_in(table, there)
    return attrs.evolve(table, added=[] if create else [written[name] for name in missing]), missing


def _migrations(schema: str) -> str:
    """Return a block that applies all migrations to a schema that has none, and refuses another version."""
    names: dict[str, sql.Composable] = {"schema": sql.Identifier(schema)}
    names["migrations_name"] = sql.Literal(sql.Identifier(schema, "escalation_migrations").as_string())
    names["schema_name"] = sql.Literal(names["schema"].as_string())
    names["version"] = sql.Literal(max(migration.version for migration in migrations()))
    names["apply"] = sql.SQL("\n".join(_applied(migration, names) for migration in migrations()))
    return fill(_MIGRATE, names)


def _applied(migration: Migration, names: Mapping[str, sql.Composable]) -> str:
    record = sql.SQL("INSERT INTO {}.escalation_migrations (version, name, checksum) VALUES ({}, {}, {});\n").format(
        names["schema"], *map(sql.Literal, (migration.version, migration.name, migration.checksum))
    )
    return without_concurrency(fill(migration.template, names)) + record.as_string()


def _recorded(table: IncidentsTable, *, trigger: bool) -> dict[str, sql.Composable]:
    value = attrs.asdict(table, filter=lambda field, _: field.name not in ("schema", "types", "kinds", "revision"))
    pairs = (sql.SQL("{}, c.kinds->{}").format(sql.Literal(n), sql.Literal(c)) for n, c in typed(table).items())
    return {
        "value": sql.Literal(dumps(value)),
        "host_columns": sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(map(sql.Literal, table.host_columns))),
        "types": sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs)),
        "trigger": sql.Literal("true" if trigger else "false"),
    }


def _drop_tables(schema: str) -> str:
    names: dict[str, sql.Composable] = {"schema": sql.Identifier(schema), "keep_events": sql.Literal(KEEP_EVENTS)}
    return fill(_DROP_EVENTS, names) + "".join(_drop(schema))


def _drop(schema: str) -> Iterator[str]:
    for name in own_tables():
        if name != EVENTS:
            yield f"DROP TABLE {sql.Identifier(schema, name).as_string()};\n"


_MIGRATE = """DO $do$
BEGIN
IF to_regclass({migrations_name}) IS NULL THEN
{apply}
ELSIF {version} IS DISTINCT FROM (SELECT max(version) FROM {schema}.escalation_migrations) THEN
    RAISE EXCEPTION 'the schema is at another version' USING HINT = 'run: escalation migrate up';
END IF;
END
$do$;
"""
_RECORD = """INSERT INTO {schema}.escalation_meta (name, value) VALUES ('triggers', {trigger})
ON CONFLICT (name) DO UPDATE SET value = excluded.value;
INSERT INTO {schema}.escalation_meta (name, value)
SELECT 'incidents', {value}::jsonb || jsonb_build_object('kinds', c.kinds, 'types', {types},
    'revision', floor(random() * 2147483647)::int)
FROM (
    SELECT jsonb_object_agg(a.attname, CASE n.nspname WHEN 'pg_catalog' THEN format_type(t.oid, NULL)
        ELSE quote_ident(n.nspname) || '.' || quote_ident(t.typname) END) AS kinds
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE a.attrelid = {incidents_name}::regclass AND a.attname = ANY ({host_columns}::name[])
) c;
"""
_NO_WORKER = """DO $do$
BEGIN
IF EXISTS (SELECT FROM {schema}.escalation_workers WHERE ticked_at > now() - make_interval(secs => {seconds})) THEN
    RAISE EXCEPTION 'a worker completed a tick in the last % s', {seconds} USING HINT = 'stop the workers, and wait';
END IF;
END
$do$;
"""
_FORGET = """DELETE FROM {schema}.escalation_meta
WHERE name IN ('incidents', 'attaching', 'triggers') OR name LIKE 'status word %';
"""
_DROP_EVENTS = """DO $do$
BEGIN
IF NOT EXISTS (SELECT FROM {schema}.escalation_meta WHERE name = {keep_events}) THEN
    DROP TABLE {schema}.escalation_events;
END IF;
END
$do$;
"""
