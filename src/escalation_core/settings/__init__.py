"""Settings: from the environment to values that are legal, with every problem told at once."""

from .settings import SECRETS, Settings

__all__ = ["SECRETS", "Settings"]
