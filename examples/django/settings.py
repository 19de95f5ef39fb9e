"""The project's settings: on the PostgreSQL of ``DATABASE_URL``, or on two SQLite files without it."""

import os
from pathlib import Path
from typing import Any

SECRET_KEY = os.environ.get("SECRET_KEY", "for this example alone")
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "escalation_adapters.django",
    "incidents",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

ON_POSTGRES = "DATABASE_URL" in os.environ
DATABASES: dict[str, Any]
ESCALATION: dict[str, Any] = {
    "notifiers": "incidents.pages.notifiers",
    "ESC_DEFAULT_TARGET": "webhook",
    "ESC_CRIT_ACK_MIN": 5,
}
if ON_POSTGRES:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(os.environ["DATABASE_URL"])
    DATABASES = {
        "default": {"ENGINE": "django.db.backends.postgresql", "NAME": parts.pop("dbname"), "OPTIONS": parts},
    }
    # The same mapping as in the migration 0002: the admin shows the engine's view of the table.
    ESCALATION |= {
        "table": "incidents_incident",
        "columns": {"incident_key": "id", "first_seen": "created_at", "summary": "title"},
    }
else:
    folder = Path(os.environ.get("DATA_FOLDER", Path(__file__).parent))
    DATABASES = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db.sqlite3"},
        # The engine keeps a file of its own, which workers share.
        "escalation": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "escalation.db"},
    }
    ESCALATION |= {"database": "escalation"}
