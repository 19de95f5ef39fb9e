"""Requests and responses of the operators' endpoints, independent of any framework."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import attrs

JSON = "application/json"
PROBLEM = "application/problem+json"


@attrs.frozen(kw_only=True)
class Request:
    """One request, which a binding makes from the framework's request."""

    method: str
    path: str
    """The path below the mount point, for example ``/tick``."""
    query: str = attrs.field(default="", repr=False)
    """The raw query string, without the question mark."""
    headers: Sequence[tuple[bytes, bytes]] = attrs.field(default=(), repr=False)
    """Not in the repr: they hold signatures and cookies."""
    peer: str | None = None
    """The address of the connection's other end; ``unix`` if it is a Unix socket."""
    read: Callable[[int], Awaitable[bytes | None]]
    """Reads the body, up to a number of bytes; None if the body is longer."""
    native: Any = attrs.field(default=None, repr=False)
    """The framework's own request, for the host's login."""

    def values(self, name: bytes) -> list[bytes]:
        """Return all values of a header."""
        return [value for given, value in self.headers if given.lower() == name]


@attrs.frozen(kw_only=True)
class Response:
    """One response."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def all_headers(self) -> dict[str, str]:
        """Return every header, with those that keep the response out of caches."""
        kept = {"Content-Type": self.content_type, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return kept | dict(self.headers)


class Problem(Exception):
    """An error that becomes a problem document (RFC 9457). It names the field and holds no secret."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the document."""
        document: dict[str, object] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        if self.field is not None:
            document["field"] = self.field
        return Response(status=self.status.value, body=encode(document), content_type=PROBLEM, headers=self.headers)


def answer(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return a response with a JSON document."""
    return Response(status=status.value, body=encode(value))


def encode(value: object) -> bytes:
    """Return a JSON document in ASCII, which every receiver decodes alike."""
    return json.dumps(value, allow_nan=False).encode("ascii")
