"""What the operations share: on which database they work, in which transaction, and what they print for sqlmigrate."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import NotSupportedError, router, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from escalation_core import InvalidValue

from . import conf, database

Existing = str | datetime
"""``page``, ``skip``, or an instant: which open incidents of the table the engine plans."""
Words = Mapping[str, Any]
"""A status column and its words: ``{"column": ..., "open": [...], "acknowledged": [...], "resolved": [...]}``."""
_TYPES = {"varchar": "character varying"}


class EscalationOperation(Operation):
    """An operation on the engine's part of the database. It changes no state of a model."""

    reduces_to_sql = True
    reversible = True
    elidable = False

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: the columns that the engine adds are fields of no model."""

    def references_model(self, name: str, app_label: str) -> bool:  # noqa: ARG002 - Django's signature
        """Return True, so that a squashed migration keeps the order of the operations around this one."""
        return True

    def applies(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        """Return whether there is work on this database.

        There is none on an alias other than ESCALATION's, nor on SQLite, where the library creates the schema of its
        own file when it opens the file.
        """
        alias = schema_editor.connection.alias
        if alias != conf.read().database or not router.allow_migrate(alias, app_label):
            return False
        if schema_editor.connection.vendor == "sqlite":
            return False
        problem = database.find_problem(alias)
        if problem is not None:
            raise NotSupportedError(f"the database {alias!r}: {problem}")
        return True


def attach(schema_editor: BaseDatabaseSchemaEditor, given: Mapping[str, Any]) -> None:
    """Attach within the migration's transaction, with ESCALATION's schema and policy."""
    from ..blocking_verbs import finish
    from ..postgres import ExistingIncidents, migrate

    configuration = conf.read()
    where: dict[str, Any] = {"schema": configuration.schema, "policy": configuration.settings.policy}
    with in_transaction(schema_editor):
        try:
            finish(migrate.attach_within(schema_editor.connection, **where, **given))
        except ExistingIncidents as found:
            fault = f"{found.open_count} incidents are open, and {found.due_count} of them would page now"
            raise not_chosen(fault) from None


def not_chosen(why: str) -> InvalidValue:
    """Return the error of an attach that does not say what becomes of the open incidents."""
    return InvalidValue("existing", f"is not set; {why}", "write existing='page', 'skip' or an instant")


@contextmanager
def in_transaction(schema_editor: BaseDatabaseSchemaEditor) -> Iterator[None]:
    """Work in the migration's transaction, or in one of this operation alone if the migration is not atomic."""
    if schema_editor.connection.in_atomic_block:
        yield
    else:
        with transaction.atomic(using=schema_editor.connection.alias):
            yield


def collect(schema_editor: BaseDatabaseSchemaEditor, text: str) -> None:
    """Add SQL to what ``sqlmigrate`` prints, which begins a transaction only for an atomic migration."""
    parts = [text.strip()] if schema_editor.atomic_migration else ["BEGIN;", text.strip(), "COMMIT;"]
    schema_editor.collected_sql.extend(parts)


def make_status(words: Words | None) -> Any:
    """Return the status mapping of a migration's words."""
    if words is None:
        return None
    problem = conf.check_words(words)
    if problem is not None:
        raise InvalidValue("status", problem.fault, problem.remedy)
    from ..postgres import StatusMapping

    return StatusMapping(**words)


def read_columns(
    table: str, state: ProjectState, schema_editor: BaseDatabaseSchemaEditor
) -> tuple[dict[str, str], dict[str | None, str]]:
    """Return the columns of the project's model of a table, as a mapping, and their types.

    The mapping has the columns that the engine uses under their default names. The types are as PostgreSQL names them.
    """
    from ..postgres.mapping import COLUMNS

    kinds: dict[str | None, str] = {}
    for options in (model._meta for model in state.apps.get_models()):  # noqa: SLF001 - public in Django's documentation
        if options.db_table == table:
            kinds |= {
                field.column: _TYPES.get(kind, kind)
                for field in options.concrete_fields
                if (kind := (field.rel_db_type(schema_editor.connection) or "").partition("(")[0])
            }
    return {name: column for name, column in COLUMNS.items() if column in kinds}, kinds
