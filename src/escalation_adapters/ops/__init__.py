"""The operators' endpoints: signed requests that for example tick, pause or drain, and views for permitted callers.

``OpsHandler`` uses no framework. ``escalation_adapters.ops.http`` binds it to aiohttp, ``escalation_adapters.ops.asgi``
to ASGI servers. ``guard.py`` has the checks before an action, and their order.
"""

from .guard import Limits, Signer
from .handler import OpsHandler
from .messages import Request, Response
from .sessions import Sessions

__all__ = ["Limits", "OpsHandler", "Request", "Response", "Sessions", "Signer"]
