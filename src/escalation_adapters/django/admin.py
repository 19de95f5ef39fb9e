"""The admin of the engine's tables, for reading alone: no user can add, change or delete a row, with any rights."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import DatabaseError, DataError, models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property

from escalation_core.model import Pin
from escalation_core.rules.settled import Note
from escalation_core.rules.transitions import Verb

from . import conf
from .models import AuditEntry, Escalation, Incident, Page

MAX_ROWS = 10_000
"""Rows that a list counts and pages through, so that it never reads a large table whole. A search finds the others."""
_OTHERS = (
    "change_key",
    "exhausted",
    "recalc",
    "reload",
    "change_policy",
    "dead retry",
    "pause",
    "resume",
    "tick",
    "prune",
    *Note,
)
_ACTIONS = (*(verb.value for verb in Verb), *_OTHERS)

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Any]
    _Pages = Paginator[Any]
else:
    _Admin = admin.ModelAdmin
    _Pages = Paginator


class ShortPaginator(_Pages):
    """Counts the first ``MAX_ROWS`` rows at most."""

    @cached_property
    def count(self) -> int:
        """The number of rows."""
        rows: Any = self.object_list
        return int(rows[:MAX_ROWS].count())


class LevelFilter(admin.SimpleListFilter):
    """Filters by level. The choices are the levels of the settings, so no table is read for them."""

    title = parameter_name = "level"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 - Django's signature
        """Return the levels."""
        return [(str(level), str(level)) for level in range(1, conf.read_or_default().settings.policy.max_level + 1)]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:  # noqa: ARG002
        """Return the rows of the level."""
        value = self.value()
        return queryset.filter(level=value) if value and value.isdigit() else queryset


class ActionFilter(admin.SimpleListFilter):
    """Filters the audit by action."""

    title = parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 - Django's signature
        """Return the actions."""
        return [(action, action) for action in _ACTIONS]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:  # noqa: ARG002
        """Return the entries with the action."""
        return queryset.filter(action=self.value()) if self.value() else queryset


class ReadOnlyAdmin(_Admin):
    """Shows rows of the database of ``ESCALATION``, the newest first."""

    actions = None
    paginator = ShortPaginator
    show_full_result_count = False
    list_per_page = 50
    ordering = ("-id",)
    search_fields = ("incident_key__exact",)
    search_help_text = "The key of an incident"

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row, None if there is none: a key that the column's type refuses is not found either."""
        try:
            with transaction.atomic(using=conf.read().database):
                return super().get_object(request, object_id, from_field)
        except (DataError, OverflowError):
            return None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list. Where the database refuses it, for example since nothing is attached, say so."""
        try:
            with transaction.atomic(using=conf.read().database):
                return super().changelist_view(request, extra_context)
        except DatabaseError as error:
            remedy = f"run: manage.py check --database {conf.read().database}"
            messages.error(request, f"The table cannot be read ({type(error).__name__}); {remedy}")
            return HttpResponseRedirect(reverse("admin:index", current_app=self.admin_site.name))


class StateFilter(admin.SimpleListFilter):
    """Filters incidents by state."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 - Django's signature
        """Return the states."""
        return [(state, state) for state in ("open", "acknowledged", "resolved")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:  # noqa: ARG002
        """Return the incidents in the state."""
        return queryset.filter(state=self.value()) if self.value() else queryset


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    """Incidents and their states."""

    list_display = ("incident_key", "state", "severity", "level", "step", "episode", "first_seen", "next_due_at")
    list_filter = (StateFilter, LevelFilter)
    ordering = ("-first_seen",)
    search_fields = ("incident_key__icontains",)
    readonly_fields = ("state", "step")

    @admin.display(description="state")
    def state(self, incident: Any) -> str:
        """Return the state."""
        return str(incident.state)

    @admin.display(description="policy")
    def step(self, incident: Any) -> str:
        """Return the policy of the incident, its version, and the place in it."""
        pin = Pin.parse(incident.policy_pin)
        if pin is None:
            return str(incident.policy or "")
        version = f" {pin.digest[:12]}" if pin.digest else ""
        return f"{pin.policy}{version}, escalation {incident.level - (incident.policy_level or 0)}"


@admin.register(Escalation)
class EscalationAdmin(ReadOnlyAdmin):
    """Escalations."""

    list_display = ("incident_key", "episode", "level", "policy", "position", "created_at")
    list_filter = (LevelFilter, "created_at")


@admin.register(Page)
class PageAdmin(ReadOnlyAdmin):
    """Pages, each with its state, and why it failed or was cancelled."""

    list_display = ("incident_key", "episode", "level", "target", "state", "attempts", "reason", "due_at", "created_at")
    list_filter = ("state", LevelFilter, "created_at")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """The audit."""

    list_display = ("at", "action", "incident_key", "episode", "level", "actor", "target", "reason")
    list_filter = (ActionFilter, LevelFilter, "at")
