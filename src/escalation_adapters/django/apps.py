"""The app, as Django finds it."""

from django.apps import AppConfig


class EscalationConfig(AppConfig):
    """The app ``escalation_core``. It has no migrations: the library's tables come with ``AttachEscalation``."""

    name = "escalation_adapters.django"
    label = "escalation_core"  # the default, django, says nothing, and hosts may have an app named escalation
    verbose_name = "Escalation"

    def ready(self) -> None:
        """Register the system checks."""
        from . import checks

        checks.register_all()
