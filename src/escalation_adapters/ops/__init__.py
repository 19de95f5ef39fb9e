"""The operators' endpoints: signed requests that tick, pause, drain and the like, and views for those who may see.

``OpsHandler`` knows no framework. ``escalation_adapters.ops.http`` binds it to aiohttp,
``escalation_adapters.ops.asgi`` to ASGI servers. What stands in which order in front of an action: ``guard.py``.
"""

from .guard import Limits, Signer
from .handler import OpsHandler
from .messages import Request, Response

__all__ = ["Limits", "OpsHandler", "Request", "Response", "Signer"]
