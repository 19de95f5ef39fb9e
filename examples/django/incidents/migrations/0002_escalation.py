"""Attach the engine to the table of incidents."""

from django.db import migrations

from escalation_adapters.django.operations import AttachEscalation


class Migration(migrations.Migration):
    """Reversed, it leaves nothing of the library in the database."""

    dependencies = [("incidents", "0001_initial")]
    operations = [
        AttachEscalation(
            "incidents_incident",
            columns={"incident_key": "id", "first_seen": "created_at", "summary": "title"},
            drop_tables=True,
        )
    ]
