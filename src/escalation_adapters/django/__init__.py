"""The library in a Django project: ``INSTALLED_APPS = ["escalation_adapters.django", ...]`` and ``ESCALATION = {...}``.

``verbs`` takes part in Django's own transaction. ``operations`` attaches the engine within a migration. The command
``manage.py escalation_worker`` ticks and delivers. The admin shows incidents, escalations, pages and the audit.
"""

from ..extras import needs

with needs(__name__, "django"):
    from .access import engine, verbs
    from .database import NotSupported

__all__ = ["NotSupported", "engine", "verbs"]
