"""Settings: read environment variables into validated values, and report all problems at once."""

from .fields import SECRETS
from .settings import Settings

__all__ = ["SECRETS", "Settings"]
