"""The filter for autogenerate: it hides what is the library's, and nothing of the host's."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from escalation_adapters.alembic import IncludeObject, include_object
from escalation_adapters.postgres import migrate

from .hosts import COLUMNS, DRIVERS, STATUS, connected, create, execute, tables

pytestmark = pytest.mark.direct("a migration connects directly")
OURS = "CREATE TABLE escalation_pages (id int PRIMARY KEY)"


def found(
    metadata: sa.MetaData, *, schema: str = "public", also: IncludeObject | None = None, **options: Any
) -> Callable[[sa.Connection], list[str]]:
    """Return what compares a database with a host's metadata, and returns the differences."""

    def compare(connection: sa.Connection) -> list[str]:
        chosen = include_object(connection, schema=schema, also=also)
        assert not connection.in_transaction()
        context = MigrationContext.configure(connection, opts={"include_object": chosen, **options})
        return sorted(_told(difference) for difference in compare_metadata(context, metadata))

    return compare


def _told(difference: Any) -> str:
    """Return the kind of a difference, and the name of its object."""
    kind, *rest = difference[0] if isinstance(difference, list) else difference
    return f"{kind} {rest[-1].name if hasattr(rest[-1], 'name') else rest}"


async def attach(dsn: str, schema: str = "public", **how: Any) -> None:
    """Attach to the host's alerts."""
    await migrate.attach(dsn, schema=schema, table="alerts", columns=COLUMNS, status=STATUS, existing="skip", **how)


@pytest.mark.parametrize(("driver", "asynchronous"), DRIVERS)
async def test_attached_table(pg_dsn: str, driver: str, asynchronous: bool) -> None:
    """Beside an attached table autogenerate finds nothing to do; without the filter it finds all of the library's."""
    create(pg_dsn, tables())
    await attach(pg_dsn)
    assert [] == await connected(pg_dsn, driver, asynchronous, found(tables()))

    everything = await connected(pg_dsn, driver, asynchronous, found(tables(), schema="elsewhere"))
    assert {"remove_column next_due_at", "remove_index escalation_due", "remove_table escalation_meta"} <= {*everything}


async def test_not_attached(pg_dsn: str) -> None:
    """Where nothing of the library is installed, nothing is hidden: not even a table of one of its names."""
    execute(pg_dsn, OURS)
    compared = await connected(pg_dsn, "psycopg", False, found(tables()))
    assert [
        "add_index alerts_by_title",
        "add_table alerts",
        "add_table notes",
        "remove_table escalation_pages",
    ] == compared


async def test_detached(pg_dsn: str) -> None:
    """The tables that a detach leaves are hidden as well."""
    create(pg_dsn, tables())
    await attach(pg_dsn)
    await migrate.detach(pg_dsn)
    assert [] == await connected(pg_dsn, "psycopg", False, found(tables()))


async def test_unfinished_attach(pg_dsn: str) -> None:
    """After an attach that was interrupted, its columns are hidden: the next attach goes on with them."""
    create(pg_dsn, tables())
    await attach(pg_dsn)
    execute(pg_dsn, "UPDATE escalation_meta SET name = 'attaching' WHERE name = 'incidents'")
    assert [] == await connected(pg_dsn, "psycopg", False, found(tables()))


@pytest.mark.parametrize("declared", [False, True])
async def test_table_that_the_attach_created(pg_dsn: str, declared: bool) -> None:
    """Of a table that an attach created, what the host does not declare is hidden: some columns, or all of it."""
    await migrate.attach(pg_dsn, create=True)
    metadata = sa.MetaData()
    if declared:
        sa.Table(
            "incidents",
            metadata,
            sa.Column("incident_key", sa.Text(), primary_key=True),
            sa.Column("severity", sa.Text()),
        )
    assert [] == await connected(pg_dsn, "psycopg", False, found(metadata))


async def test_other_schema(pg_dsn: str) -> None:
    """A schema that is not the connection's own, with a name that needs quotes; the other one is not looked at."""
    create(pg_dsn, tables("My App"))
    await attach(pg_dsn, "My App")
    ours = found(tables("My App"), schema="My App", include_schemas=True)
    assert [] == await connected(pg_dsn, "psycopg", True, ours)

    execute(pg_dsn, f"{OURS}; CREATE TABLE public.alerts (next_due_at timestamptz)")
    assert ["remove_table alerts", "remove_table escalation_pages"] == await connected(pg_dsn, "psycopg", True, ours)


async def test_search_path(pg_dsn: str) -> None:
    """A schema that is the connection's own, by its search path."""
    create(pg_dsn, tables("shop"))
    await attach(pg_dsn, "shop")
    execute(pg_dsn, f"ALTER DATABASE {pg_dsn.rpartition('dbname=')[2].split()[0]} SET search_path = shop")
    assert [] == await connected(pg_dsn, "psycopg", False, found(tables(), schema="shop"))


async def test_two_schemas(pg_dsn: str) -> None:
    """Two installations in one database: the filter of one takes the filter of the other."""
    for schema in ("one", "two"):
        create(pg_dsn, tables(schema))
        await attach(pg_dsn, schema)
    metadata = tables("one")
    for table in tables("two").tables.values():
        table.to_metadata(metadata)

    def compare(connection: sa.Connection) -> list[str]:
        also = include_object(connection, schema="two")
        return found(metadata, schema="one", also=also, include_schemas=True)(connection)

    assert [] == await connected(pg_dsn, "psycopg", False, compare)


CHANGES: Mapping[str, tuple[str, str]] = {
    "a column": ("ALTER TABLE alerts ADD old int", "remove_column old"),
    "an index": ("CREATE INDEX escalation_old ON alerts (title)", "remove_index escalation_old"),
    "a table": ("CREATE TABLE escalation_old (id int)", "remove_table escalation_old"),
    "an index of our name": (
        "DROP INDEX escalation_due; CREATE INDEX escalation_due ON notes (note)",
        "remove_index escalation_due",
    ),
    "a column of our name": ("ALTER TABLE notes ADD next_due_at timestamptz", "remove_column next_due_at"),
}
"""What the host has left in its database, and the difference."""


@pytest.mark.parametrize("change", list(CHANGES))
async def test_host_objects_stay_visible(pg_dsn: str, change: str) -> None:
    """What is the host's is compared as ever, whatever its name."""
    create(pg_dsn, tables())
    await attach(pg_dsn)
    statement, difference = CHANGES[change]
    execute(pg_dsn, statement)
    assert [difference] == await connected(pg_dsn, "psycopg", False, found(tables()))


async def test_declared_objects_are_compared(pg_dsn: str) -> None:
    """What the host's metadata declares is never hidden, even if the library has made it."""
    create(pg_dsn, tables())
    await attach(pg_dsn)
    metadata = tables()
    metadata.tables["alerts"].append_column(sa.Column("acknowledged_by", sa.Integer()))
    sa.Table("escalation_meta", metadata, sa.Column("name", sa.Text(), primary_key=True))
    compared = await connected(pg_dsn, "psycopg", False, found(metadata))
    assert 2 == len(compared)
    assert compared[0].startswith("modify_type")
    assert "remove_column value" == compared[1]


async def test_filter_of_the_host(pg_dsn: str) -> None:
    """The host's own filter decides about all that is not the library's."""
    create(pg_dsn, tables())
    await attach(pg_dsn)
    execute(pg_dsn, "CREATE TABLE spatial (id int); CREATE TABLE old (id int)")
    asked: list[str | None] = []

    def also(item: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:
        asked.append(name)
        return name != "spatial"

    assert ["remove_table old"] == await connected(pg_dsn, "psycopg", False, found(tables(), also=also))
    assert {"alerts", "notes", "spatial", "old"} <= {*asked}
    assert "escalation_meta" not in asked
