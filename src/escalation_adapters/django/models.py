"""The engine's tables as unmanaged models, for the admin. Nothing here is written: the verbs and the workers write.

The names come from ``ESCALATION`` when Django starts. ``makemigrations`` has nothing to do for these models. Fields are
annotated as ``Any``: only a plugin of mypy knows their types.
"""

from typing import Any

from django.db import models

from escalation_core.model import PageState

from ..sqlite.codec import SQL_NAMES
from . import conf, database
from .fields import InstantField

_CONFIGURATION = conf.read_or_default()
_SQLITE = database.vendor(_CONFIGURATION.database) == "sqlite"
_USABLE = not _SQLITE and database.find_problem(_CONFIGURATION.database) is None
_STATUS = _CONFIGURATION.status if _USABLE else None


def _table(name: str) -> str:
    """Return a table with its schema. Django leaves a name that begins and ends with a quotation mark as it is."""
    if _SQLITE:
        return name
    schema, table = (part.replace('"', '""') for part in (_CONFIGURATION.schema, name))
    return f'"{schema}"."{table}"'


def _column(name: str) -> str:
    """Return the column that has a value of the engine's: the host's, where the engine only reads it."""
    # Both stores have these names; those of PostgreSQL's mapping need psycopg, which may not be installed.
    default = SQL_NAMES[name]
    return default if _SQLITE else _CONFIGURATION.columns.get(name, default).removesuffix(":read")


class EscalationManager(models.Manager[Any]):
    """Reads from the database of ``ESCALATION``."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return all rows."""
        return super().get_queryset().using(conf.read_or_default().database)


def _words(state: str) -> list[str]:
    words = (_STATUS or {}).get(state, ())
    return [words] if isinstance(words, str) else [*words]


def _state() -> models.Case:
    """Return the expression for an incident's state: the host's status decides, where there is one."""
    # ``IncidentsTable.value`` in postgres/table.py holds the rule. Here it is an expression that Django can filter by.
    resolved = models.Q(status__in=_words("resolved")) if _STATUS else models.Q(resolved_at__isnull=False)
    acknowledged = models.Q(acknowledged_at__isnull=False)
    if _words("acknowledged"):
        acknowledged = models.Q(status__in=_words("acknowledged"))
    return models.Case(
        models.When(resolved, then=models.Value("resolved")),
        models.When(acknowledged, then=models.Value("acknowledged")),
        default=models.Value("open"),
        output_field=models.TextField(),
    )


class IncidentManager(EscalationManager):
    """Reads incidents, each with its state."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return all rows."""
        return super().get_queryset().annotate(state=_state())


class Incident(models.Model):
    """An incident as the engine sees it: a row of the table that the engine is attached to."""

    incident_key: Any = models.TextField(primary_key=True, db_column=_column("incident_key"))
    severity: Any = models.TextField(null=True, db_column=_column("severity"))
    summary: Any = models.TextField(null=True, db_column=_column("summary"))
    level: Any = models.IntegerField(db_column=_column("level"))
    episode: Any = models.IntegerField(db_column=_column("episode"))
    first_seen = InstantField(null=True, db_column=_column("first_seen"))
    last_escalated_at = InstantField(null=True, db_column=_column("last_escalated_at"))
    acknowledged_at = InstantField(null=True, db_column=_column("acknowledged_at"))
    acknowledged_by: Any = models.TextField(null=True, db_column=_column("acknowledged_by"))
    resolved_at = InstantField(null=True, db_column=_column("resolved_at"))
    snoozed_until = InstantField(null=True, db_column=_column("snoozed_until"))
    next_due_at = InstantField(null=True, db_column=_column("next_due_at"))
    policy: Any = models.TextField(null=True, db_column=_column("policy"))
    policy_pin: Any = models.TextField(null=True, db_column=_column("policy_pin"))
    policy_level: Any = models.IntegerField(null=True, db_column=_column("policy_level"))
    policy_since = InstantField(null=True, db_column=_column("policy_since"))

    objects = IncidentManager()

    class Meta:
        """The table of the host, or the library's own in an SQLite file."""

        managed = False
        default_permissions = ("view",)
        db_table = _table("incidents" if _SQLITE else _CONFIGURATION.table)

    def __str__(self) -> str:
        """Return the key."""
        return str(self.incident_key)


if _STATUS:
    Incident.add_to_class("status", models.TextField(null=True, db_column=str(_STATUS["column"])))


class Escalation(models.Model):
    """An escalation: an incident rose to a level."""

    id: Any = models.BigIntegerField(primary_key=True)
    incident_key: Any = models.TextField()
    episode: Any = models.IntegerField()
    level: Any = models.IntegerField()
    created_at = InstantField()
    policy: Any = models.TextField(null=True)
    position: Any = models.IntegerField(null=True)
    outcome: Any = models.TextField(null=True)

    objects = EscalationManager()

    class Meta:
        """A table of the engine's."""

        managed = False
        default_permissions = ("view",)
        db_table = _table("escalation_events")

    def __str__(self) -> str:
        """Return the key and the level."""
        return f"{self.incident_key} level {self.level}"


class Page(models.Model):
    """A page: one message about an escalation to one target."""

    id: Any = models.BigIntegerField(primary_key=True)
    incident_key: Any = models.TextField()
    episode: Any = models.IntegerField()
    level: Any = models.IntegerField()
    target: Any = models.TextField()
    state: Any = models.TextField(choices=[(state.value, state.value) for state in PageState])
    attempts: Any = models.IntegerField()
    reason: Any = models.TextField(null=True)
    via: Any = models.TextField(null=True)
    due_at = InstantField()
    created_at = InstantField()
    dedup_key: Any = models.TextField()

    objects = EscalationManager()

    class Meta:
        """A table of the engine's."""

        managed = False
        default_permissions = ("view",)
        db_table = _table("escalation_pages")

    def __str__(self) -> str:
        """Return the key, the level and the target."""
        return f"{self.incident_key} level {self.level} to {self.target}"


class AuditEntry(models.Model):
    """An entry of the audit: a person, a host's SQL or an engine did something."""

    id: Any = models.BigIntegerField(primary_key=True)
    at = InstantField()
    action: Any = models.TextField()
    incident_key: Any = models.TextField(null=True)
    episode: Any = models.IntegerField(null=True)
    level: Any = models.IntegerField(null=True)
    actor: Any = models.TextField(null=True)
    target: Any = models.TextField(null=True)
    reason: Any = models.TextField(null=True)

    objects = EscalationManager()

    class Meta:
        """A table of the engine's."""

        managed = False
        default_permissions = ("view",)
        db_table = _table("escalation_audit")
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        """Return the action and the key."""
        return f"{self.action} {self.incident_key or ''}".strip()
