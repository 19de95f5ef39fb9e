"""Open and acknowledge incidents."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from escalation_adapters.blocking_verbs import BlockingVerbs
from escalation_adapters.django import engine, verbs
from escalation_adapters.worker.blocking import BlockingEngine

from .models import Incident, Report


@contextmanager
def escalation() -> Iterator[BlockingVerbs | BlockingEngine]:
    """Begin a transaction, with the engine's verbs in it; on SQLite each verb has a transaction of its own."""
    with transaction.atomic():
        if settings.ON_POSTGRES:
            yield verbs()
        else:
            with engine() as opened:
                yield opened


@csrf_exempt  # monitoring has no session
@require_POST
def report(request: HttpRequest) -> JsonResponse:
    """Open an incident: the project's own rows and the verb are written together, or not at all."""
    given = request.POST
    with escalation() as incidents:
        incident = Incident.objects.create(severity=given["severity"], title=given["title"])
        Report.objects.create(incident=incident, reporter=given["reporter"])
        incidents.open(str(incident.pk), severity=incident.severity, summary=incident.title, by=given["reporter"])
    return JsonResponse({"id": str(incident.pk)}, status=201)


@csrf_exempt
@require_POST
def acknowledge(_: HttpRequest, key: UUID) -> JsonResponse:
    """Acknowledge an incident with the ORM. On PostgreSQL the engine sees it; on SQLite the verb says it."""
    changed = Incident.objects.filter(pk=key, acknowledged_at=None).update(acknowledged_at=timezone.now())
    if changed and not settings.ON_POSTGRES:
        with engine() as opened:
            opened.acknowledge(str(key))
    return JsonResponse({"changed": changed})
