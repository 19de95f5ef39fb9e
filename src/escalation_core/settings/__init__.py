"""Settings: from the environment to values that are legal, with every problem told at once."""

from .fields import SECRETS
from .settings import Settings

__all__ = ["SECRETS", "Settings"]
