"""A plug-in of escalation-core: it sends pages as push messages, through a server of ntfy.

The entry point ``escalation.notifiers`` in ``pyproject.toml`` names ``make``.
"""

import json
from collections.abc import Mapping
from typing import Any

from escalation_adapters.worker.plugins import PluginContext
from escalation_core import InvalidValue

from .notifier import Ntfy

__all__ = ["Ntfy", "make"]


def make(context: PluginContext) -> Ntfy:
    """Return the notifier that the environment describes: ``NTFY_URL``, ``NTFY_TOPICS`` and ``NTFY_TOKEN``.

    Raises:
        InvalidValue: a variable is missing or not valid. The message holds no secret, because the program prints it.
    """
    url = context.environ.get("NTFY_URL", "https://ntfy.sh")
    topics = _topics(context.secret("NTFY_TOPICS"))
    return Ntfy(url, topics, context.secret("NTFY_TOKEN"), allow_http=context.settings.allow_http)


def _topics(text: str) -> Mapping[str, str]:
    """Read a JSON object from target to topic. A topic's name is all that a stranger needs to read it."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(topic, str) for topic in found.values()):
        remedy = 'write a JSON object from target to topic, for example {"ntfy:ops": "ops-alerts"}'
        raise InvalidValue("NTFY_TOPICS", "is not a valid JSON object of texts", remedy)
    return found
