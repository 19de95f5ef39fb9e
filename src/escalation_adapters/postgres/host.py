"""Write to the incidents table as a host does, with plain SQL that fires the triggers. For tests."""

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import attrs
from psycopg import AsyncConnection, sql
from psycopg.types.json import Json

from escalation_core.testing.host import Row

from .mapping import COLUMNS
from .table import INSTANTS, IncidentsTable


@attrs.frozen
class PostgresHost:
    """Writes to the incidents table with a host's own SQL: the ``HostTable`` of the conformance checks."""

    dsn: str = attrs.field(repr=False)
    table: IncidentsTable

    async def insert(self, incident_key: str, **columns: Any) -> None:
        """INSERT a row."""
        await self._execute(*self._insert(incident_key, columns))

    async def update(self, incident_key: str, /, **columns: Any) -> None:
        """UPDATE columns of a row."""
        await self._execute(*self._update(incident_key, columns))

    async def past_triggers(self, incident_key: str, **columns: Any) -> None:
        """INSERT a row, or UPDATE it, while the table's triggers are disabled."""
        write = self._update if incident_key in await self.rows() else self._insert
        turn = sql.SQL("ALTER TABLE {} {} TRIGGER USER")
        async with await AsyncConnection.connect(self.dsn) as connection:
            await connection.execute(turn.format(self._incidents, sql.SQL("DISABLE")))
            await connection.execute(*write(incident_key, columns))
            await connection.execute(turn.format(self._incidents, sql.SQL("ENABLE")))

    def _insert(self, incident_key: str, columns: Mapping[str, Any]) -> tuple[sql.Composed, list[Any]]:
        values = {"incident_key": incident_key, **columns}
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            self._incidents,
            sql.SQL(", ").join(self._name(name) for name in values),
            sql.SQL(", ").join(sql.Placeholder() for _ in values),
        )
        return statement, _values(values)

    def _update(self, incident_key: str, columns: Mapping[str, Any]) -> tuple[sql.Composed, list[Any]]:
        statement = sql.SQL("UPDATE {} SET {} WHERE {} = %s").format(
            self._incidents,
            sql.SQL(", ").join(sql.SQL("{} = %s").format(self._name(name)) for name in columns),
            self._name("incident_key"),
        )
        return statement, [*_values(columns), incident_key]

    async def delete(self, incident_key: str) -> None:
        """DELETE a row."""
        statement = sql.SQL("DELETE FROM {} WHERE {} = %s").format(self._incidents, self._name("incident_key"))
        await self._execute(statement, [incident_key])

    async def rows(self) -> Mapping[str, Row]:
        """SELECT every row."""
        select = sql.SQL(", ").join(self.table.expression(name) for name in COLUMNS)
        async with await AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(sql.SQL("SELECT {} FROM {} i").format(select, self._incidents))
            return {row[0]: _row(row) for row in await cursor.fetchall()}

    @property
    def _incidents(self) -> sql.Identifier:
        return sql.Identifier(self.table.schema, self.table.name)

    def _name(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.table.columns[name])

    async def _execute(self, statement: sql.Composed, values: list[Any]) -> None:
        async with await AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            await connection.execute(statement, values)


def _values(columns: Mapping[str, Any]) -> list[Any]:
    return [Json(value) if name == "labels" else value for name, value in columns.items()]


def _row(values: tuple[Any, ...]) -> Row:
    row = dict(zip(COLUMNS, values, strict=True))
    for name in INSTANTS:
        row[name] = None if row[name] is None else row[name].replace(tzinfo=UTC)
    row["labels"] = json.loads(row["labels"] or "{}")
    return row
