"""Alembic: an attach and a detach as operations of a revision, and a filter that keeps autogenerate off our objects.

Import this module in ``env.py``: the import registers ``op.attach_escalation`` and ``op.detach_escalation``.
"""

import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import attrs

from .extras import needs

with needs(__name__, "alembic"):
    import sqlalchemy
    from alembic.operations import MigrateOperation, Operations
    from sqlalchemy.engine import AdaptedConnection
    from sqlalchemy.schema import SchemaItem, Table

from escalation_core import BuiltinPolicy, InvalidValue

from .blocking_verbs import finish
from .postgres import migrate
from .postgres.attach import INDEXES
from .postgres.existing import Existing
from .postgres.installation import own_tables
from .postgres.mapping import StatusMapping

log = logging.getLogger("escalation_adapters.alembic")

IncludeObject = Callable[[SchemaItem, str | None, Any, bool, SchemaItem | None], bool]
"""The type of ``include_object`` in ``context.configure``."""


def include_object(
    connection: sqlalchemy.Connection, *, schema: str = "public", also: IncludeObject | None = None
) -> IncludeObject:
    """Return a filter for ``context.configure(include_object=...)`` that hides the library's objects.

    It hides what the database has and the host's metadata does not declare: the engine's own tables, the columns and
    indexes that an attach added to the host's table, and the table itself if an attach created it. It reads their names
    from the database at the first comparison: a read before ``context.configure`` would begin a transaction, which
    Alembic then would not commit.

    ``also`` is the host's own filter, or the filter of another schema: an object is included if both include it.
    """
    ours = _Ours(connection, schema)

    def include(item: SchemaItem, name: str | None, type_: Any, reflected: bool, compare_to: SchemaItem | None) -> bool:
        if reflected and compare_to is None and ours.has(item, name, type_):
            return False
        return also is None or also(item, name, type_, reflected, compare_to)

    return include


class _Ours:
    """The library's objects in one schema of a database, read once."""

    def __init__(self, connection: sqlalchemy.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._names: frozenset[tuple[str, str, str]] | None = None

    def has(self, item: SchemaItem, name: str | None, type_: str) -> bool:
        """Return whether a reflected object is the library's."""
        table = item if isinstance(item, Table) else getattr(item, "table", None)
        if table is None or (table.schema or self._connection.dialect.default_schema_name) != self._schema:
            return False
        if self._names is None:
            self._names = frozenset(self._read())
        return (type_, table.name, name) in self._names

    def _read(self) -> list[tuple[str, str, str]]:
        """Return the kind, the table and the name of each object."""
        if not sqlalchemy.inspect(self._connection).has_table("escalation_meta", schema=self._schema):
            return []
        meta = sqlalchemy.table(
            "escalation_meta", sqlalchemy.column("name"), sqlalchemy.column("value"), schema=self._schema
        )
        # As text: the type of a JSON value depends on the driver.
        query = sqlalchemy.select(sqlalchemy.cast(meta.c.value, sqlalchemy.Text)).where(
            meta.c.name.in_(["incidents", "attaching"])
        )
        found = [("table", name, name) for name in own_tables()]
        for value in map(json.loads, self._connection.execute(query).scalars()):
            name, added = value["name"], value["added"]
            if value["created"]:
                found.append(("table", name, name))
                added = value["columns"].values()
            found += [("column", name, column) for column in added]
            found += [("index", name, index) for index in INDEXES]
        return found


@Operations.register_operation("attach_escalation")
@attrs.frozen(slots=False)
class AttachEscalation(MigrateOperation):
    """Migrates a schema and attaches it to the host's table, as ``migrate.attach`` does, in the revision's transaction.

    In a revision, write ``op.attach_escalation("alerts", columns={...})``. Type checkers do not know that name:
    ``op.invoke(AttachEscalation("alerts", columns={...}))`` does the same.

    With ``--sql`` the operation cannot look at the table: ``columns`` must name each column that is there, ``existing``
    must be chosen, and ``types={"status": "public.alert_state"}`` gives the type of a status column that is not text.
    ``policy`` decides how many open incidents would page now, which the refusal of a table with open incidents says.
    """

    table: str | None = None
    columns: Mapping[str, str] | None = attrs.field(default=None, kw_only=True)
    status: StatusMapping | None = attrs.field(default=None, kw_only=True)
    existing: Existing | None = attrs.field(default=None, kw_only=True)
    create: bool = attrs.field(default=False, kw_only=True)
    trigger: bool = attrs.field(default=True, kw_only=True)
    schema: str = attrs.field(default="public", kw_only=True)
    types: Mapping[str, str] | None = attrs.field(default=None, kw_only=True)
    policy: BuiltinPolicy | None = attrs.field(default=None, kw_only=True)

    @classmethod
    def attach_escalation(cls, operations: Operations, *args: Any, **options: Any) -> None:
        """Attach to a table of the host's; the arguments are those of ``AttachEscalation``."""
        operations.invoke(cls(*args, **options))


@Operations.register_operation("detach_escalation")
@attrs.frozen(slots=False, kw_only=True)
class DetachEscalation(MigrateOperation):
    """Detaches a schema from the host's table, as ``migrate.detach`` does, in the revision's transaction.

    ``drop_tables`` drops the engine's own tables as well, with all history: nothing of the library is left.
    ``tick_interval`` is the workers' own: the operation refuses while one of them still ticks.

    ``table``, ``columns``, ``status`` and ``create`` are used only with ``--sql``, which cannot read the mapping: give
    them as in the attach.
    """

    drop_tables: bool = False
    tick_interval: timedelta = timedelta(minutes=1)
    schema: str = "public"
    table: str = "incidents"
    columns: Mapping[str, str] | None = None
    status: StatusMapping | None = None
    create: bool = False

    @classmethod
    def detach_escalation(cls, operations: Operations, **options: Any) -> None:
        """Detach from the host's table; the arguments are those of ``DetachEscalation``."""
        operations.invoke(cls(**options))


@Operations.implementation_for(AttachEscalation)
def _attach(operations: Operations, wanted: AttachEscalation) -> None:
    given: dict[str, Any] = {
        "schema": wanted.schema,
        "columns": wanted.columns,
        "status": wanted.status,
        "existing": wanted.existing,
        "create": wanted.create,
        "trigger": wanted.trigger,
    }
    if operations.migration_context.as_sql:
        if wanted.table is None and not wanted.create:
            remedy = "name it; after a release, which changes an attached schema, run the revision online"
            raise InvalidValue("table", "is missing, and --sql cannot look at the database", remedy)
        text = migrate.print_sql(table=wanted.table or "incidents", types=wanted.types, **given)
        operations.migration_context.impl.static_output(text)
    else:
        given |= {"table": wanted.table, "policy": wanted.policy, "say": log.info}
        _run(operations, partial(migrate.attach_within, **given))


@Operations.implementation_for(DetachEscalation)
def _detach(operations: Operations, wanted: DetachEscalation) -> None:
    given: dict[str, Any] = {"schema": wanted.schema, "drop_tables": wanted.drop_tables}
    if operations.migration_context.as_sql:
        mapping: dict[str, Any] = {"columns": wanted.columns, "status": wanted.status, "create": wanted.create}
        text = migrate.print_detach_sql(table=wanted.table, tick_interval=wanted.tick_interval, **mapping, **given)
        operations.migration_context.impl.static_output(text)
    else:
        _run(operations, partial(migrate.detach_within, tick_interval=wanted.tick_interval, **given))


def _run(operations: Operations, work: Callable[[sqlalchemy.Connection], Coroutine[Any, Any, object]]) -> None:
    """Run work on the revision's connection, in its transaction."""
    connection = operations.get_bind()
    dialect = connection.dialect
    if (dialect.name, dialect.driver) != ("postgresql", "psycopg"):
        raise InvalidValue(
            "connection",
            f"is of {dialect.name}+{dialect.driver}, and not of postgresql+psycopg",
            "in env.py, write url = make_url(url).set(drivername='postgresql+psycopg'); or print the revision's SQL:"
            " alembic upgrade --sql",
        )
    within = connection.connection.dbapi_connection
    if isinstance(within, AdaptedConnection):
        # SQLAlchemy's bridge: it waits for the coroutine, in the event loop that runs this revision.
        within.run_async(lambda _: work(connection))
    else:
        finish(work(connection))
