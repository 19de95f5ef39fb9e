"""Operations for the project's migrations: attach the engine to a table, and update what a migration attached."""

from collections.abc import Mapping
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState

from escalation_core import StoreNotReady

from . import conf
from .not_ready import with_remedy
from .operation import (
    EscalationOperation,
    Existing,
    Words,
    attach,
    collect,
    in_transaction,
    make_status,
    not_chosen,
    read_columns,
)


class AttachEscalation(EscalationOperation):
    """Attach the engine to a table of the project, within the migration's transaction.

    The table needs a key (text, uuid or an integer; NOT NULL and unique) and ``first_seen`` with a time zone, or what
    ``columns`` maps to ``incident_key`` and ``first_seen``. The operation adds the engine's other columns to the table,
    and no field to its model. Reversed, it removes them: the table is as it was before. ``drop_tables`` then also drops
    the engine's own tables, with the history of escalations and pages.

    ``existing`` chooses which open incidents of the table the engine plans: ``page`` (all), ``skip`` (none until a
    recalculation) or an instant (those first seen since). Without it, the operation refuses a table that has any.
    """

    def __init__(
        self,
        table: str,
        columns: Mapping[str, str] | None = None,
        status: Words | None = None,
        existing: Existing | None = None,
        create: bool = False,
        trigger: bool = True,
        drop_tables: bool = False,
    ) -> None:
        self.table = table
        self.columns = columns
        self.status = status
        self.existing = existing
        self.create = create
        self.trigger = trigger
        self.drop_tables = drop_tables

    def describe(self) -> str:
        """Return what the operation does, as ``migrate --plan`` and ``sqlmigrate`` show it."""
        return f"Attach escalation-core to the table {self.table}"

    @property
    def migration_name_fragment(self) -> str:
        """The name that Django suggests for the migration's file."""
        return "attach_escalation"

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002 - Django's signature
        to_state: ProjectState,
    ) -> None:
        """Attach."""
        if not self.applies(app_label, schema_editor):
            return
        given: dict[str, Any] = {
            "table": self.table,
            "columns": self.columns,
            "status": make_status(self.status),
            "existing": self.existing,
            "create": self.create,
            "trigger": self.trigger,
        }
        if schema_editor.collect_sql:
            self._print(schema_editor, to_state, given)
        else:
            attach(schema_editor, given)

    def _print(self, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, given: dict[str, Any]) -> None:
        from ..postgres import migrate

        there, kinds = read_columns(self.table, state, schema_editor)
        given["columns"] = {**there, **(self.columns or {})}
        if self.existing is None and not self.create:
            raise not_chosen("the SQL cannot count the open incidents")
        if self.status is not None and self.status["column"] in kinds:
            given["types"] = {"status": kinds[self.status["column"]]}
        collect(schema_editor, migrate.print_sql(schema=conf.read().schema, **given))

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002 - Django's signature
        to_state: ProjectState,
    ) -> None:
        """Detach."""
        if not self.applies(app_label, schema_editor):
            return
        from ..blocking_verbs import finish
        from ..postgres import migrate

        configuration = conf.read()
        if schema_editor.collect_sql:
            there, _ = read_columns(self.table, to_state, schema_editor)
            text = migrate.print_detach_sql(
                schema=configuration.schema,
                table=self.table,
                columns={**there, **(self.columns or {})},
                status=make_status(self.status),
                create=self.create,
                tick_interval=configuration.settings.tick_interval,
                drop_tables=self.drop_tables,
            )
            collect(schema_editor, text)
            return
        with in_transaction(schema_editor):
            try:
                finish(
                    migrate.detach_within(
                        schema_editor.connection,
                        schema=configuration.schema,
                        tick_interval=configuration.settings.tick_interval,
                        drop_tables=self.drop_tables,
                    )
                )
            except StoreNotReady as error:
                # A person may have detached with the command line.
                remedy = "if there is nothing to detach, record that: manage.py migrate --fake with the same names"
                raise with_remedy(error, remedy) from None


class UpdateEscalation(EscalationOperation):
    """Bring the attached schema to the version that this release needs, and change its mapping.

    ``columns`` and ``status`` change the names that they give, and leave the rest. Open incidents keep their due
    instants until a recalculation, unless ``existing`` is ``page``. Reversed, it maps ``columns_before`` and
    ``status_before``, if they are given. The schema keeps its version.
    """

    def __init__(
        self,
        columns: Mapping[str, str] | None = None,
        status: Words | None = None,
        existing: Existing | None = "skip",
        columns_before: Mapping[str, str] | None = None,
        status_before: Words | None = None,
    ) -> None:
        self.columns = columns
        self.status = status
        self.existing = existing
        self.columns_before = columns_before
        self.status_before = status_before

    def describe(self) -> str:
        """Return what the operation does, as ``migrate --plan`` and ``sqlmigrate`` show it."""
        return "Update the tables and the mapping of escalation-core"

    @property
    def migration_name_fragment(self) -> str:
        """The name that Django suggests for the migration's file."""
        return "update_escalation"

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002 - Django's signature
        to_state: ProjectState,  # noqa: ARG002
    ) -> None:
        """Update."""
        self._attach(app_label, schema_editor, self.columns, self.status)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002 - Django's signature
        to_state: ProjectState,  # noqa: ARG002
    ) -> None:
        """Map the names from before, if they are given."""
        if self.columns_before is not None or self.status_before is not None:
            self._attach(app_label, schema_editor, self.columns_before, self.status_before)

    def _attach(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        columns: Mapping[str, str] | None,
        status: Words | None,
    ) -> None:
        if not self.applies(app_label, schema_editor):
            return
        if schema_editor.collect_sql:
            schema_editor.collected_sql.append("-- the SQL depends on the database: run manage.py migrate")
            return
        attach(schema_editor, {"columns": columns, "status": make_status(status), "existing": self.existing})
