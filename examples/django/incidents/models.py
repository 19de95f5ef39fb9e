"""The app's tables: incidents, which the engine escalates, and the reports that opened them."""

import uuid

from django.db import models
from django.utils import timezone


class Incident(models.Model):
    """An incident. The migration 0002 attaches the engine to this table."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    severity = models.TextField()
    title = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)
    acknowledged_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        """Return the title."""
        return self.title


class Report(models.Model):
    """A report of an incident: a row of the project's own."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE)
    reporter = models.CharField(max_length=50)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        """Return who reported what."""
        return f"{self.reporter}: {self.incident}"
