"""Actions that the host's login admits without a signature, and the check that a page of another site cannot pass.

A browser adds cookies, and ``Authorization: Basic``, to a request of any site (CSRF). It also adds ``Origin`` to each
POST, which no page can set or leave out. The handler reads JSON alone, so that no form can send an action.
"""

import re
from collections.abc import Collection, Iterable
from http import HTTPStatus

import attrs

from escalation_core import InvalidValue

from ..auth.hmac_signature import ID, LEGACY, SIGNATURE, TIMESTAMP
from .messages import Problem, Request

_ORIGIN = re.compile(r"https?://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")
_BEARER = re.compile(rb"bearer +[^ ]+", re.IGNORECASE)
_DEFAULT_PORTS = (("https://", ":443"), ("http://", ":80"))
_SIGNED = tuple(name.encode() for name in (ID, TIMESTAMP, SIGNATURE, LEGACY))
_SAME = ([b"same-origin"], [b"same-site"])


def _origins(value: Iterable[str]) -> frozenset[str]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidValue("origins", f"is {type(value).__name__}", 'give a list, for example ["https://HOST"]')
    found = tuple(value)
    if not all(isinstance(origin, str) and _is_origin(origin) for origin in found):
        raise InvalidValue(
            "origins",
            "holds something that is not an origin",
            "write https://HOST or https://HOST:PORT as browsers do: lower case, no path, no default port",
        )
    return frozenset(found)


def _is_origin(text: str) -> bool:
    default = any(text.startswith(scheme) and text.endswith(port) for scheme, port in _DEFAULT_PORTS)
    return _ORIGIN.fullmatch(text) is not None and not default


@attrs.frozen
class Sessions:
    """Admits actions by the host's login alone: from pages of these origins, or with a bearer token.

    ``origins`` are the public addresses of your pages, for example ``https://status.example.org``, as the browser shows
    them, whatever the proxy makes of them. Without any, only programs with a bearer token are admitted.

    Raises:
        InvalidValue: an origin is not written as browsers send it.
    """

    origins: frozenset[str] = attrs.field(default=frozenset(), converter=_origins)


def is_unsigned(request: Request) -> bool:
    """Return True if a request has no header of a signature: one with a wrong signature is never a session's."""
    return not any(request.values(name) for name in _SIGNED)


def check_origin(request: Request, allowed: Collection[str]) -> None:
    """Refuse a request that a page of another site may have sent.

    Raises:
        Problem: 403. It names the header.
    """
    origins, sites = request.values(b"origin"), request.values(b"sec-fetch-site")
    # Only a program sends neither. A token that a proxy made from a cookie comes with a browser's headers.
    if not origins and not sites and _has_bearer_alone(request):
        return
    if not origins:
        detail = "send Origin, as browsers do; or a bearer token without a cookie; or sign the request"
        raise Problem(HTTPStatus.FORBIDDEN, detail, field="Origin")
    if len(origins) > 1 or origins[0].decode("latin-1") not in allowed:
        detail = "the request does not come from a page of this service"
        raise Problem(HTTPStatus.FORBIDDEN, detail, field="Origin")
    if sites and sites not in _SAME:
        raise Problem(HTTPStatus.FORBIDDEN, "the request comes from another site", field="Sec-Fetch-Site")


def _has_bearer_alone(request: Request) -> bool:
    """Return True if the request has a bearer token, which browsers never add, and no cookie, which they do add."""
    given = request.values(b"authorization")
    return len(given) == 1 and _BEARER.fullmatch(given[0]) is not None and not request.values(b"cookie")
