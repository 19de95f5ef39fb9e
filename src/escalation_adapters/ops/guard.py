"""Checks before an action, in this order: size, peer's limit, signature, replay, role, principal's limit, body.

For an unsigned request of a session, the check of its origin stands in place of signature and replay. Cheap checks
come first, so that a caller without a secret costs no more than a read of 64 KiB.
"""

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, TypeVar

import attrs

from escalation_core import Engine, InvalidValue, Settings, StoreUnavailable
from escalation_core.engine.tasks import within

from ..auth.client_address import Proxy, client_address
from ..auth.hmac_signature import ID, HmacVerifier, Refused, Secret, Verified, parse_secret
from ..auth.rate_limit import Limit, RateLimiter
from ..auth.rbac import Principal, admits
from .messages import Problem, Request
from .sessions import Sessions, check_origin, is_unsigned

log = logging.getLogger("escalation_adapters.ops")

Result = TypeVar("Result")
MAX_BYTES = 64 * 1024
"""Longest body."""
Login = Callable[[Any], Principal | Awaitable[Principal | None] | None]
"""The host's own login: it returns the principal of the framework's request, or None if the caller is not logged in."""


def _is_secret(_: object, __: object, value: Secret) -> None:
    parse_secret(value)


def _is_principal(_: object, __: object, value: Principal | None) -> None:
    if value is not None and not isinstance(value, Principal):
        raise InvalidValue("principal", f"is {type(value).__name__}", "give a Principal, or None")


def _is_limit(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, Limit):
        raise InvalidValue(field.name, f"is {type(value).__name__}", "give a Limit, for example Limit(60)")


@attrs.frozen
class Signer:
    """A secret, and its principal if only one signs with it: then the signature is the login as well.

    Raises:
        InvalidValue: the secret is not a key, or the principal is not valid. The message does not hold the secret.
    """

    secret: Secret = attrs.field(repr=False, validator=_is_secret)
    principal: Principal | None = attrs.field(default=None, validator=_is_principal)


@attrs.frozen(kw_only=True)
class Limits:
    """The rate limits of the endpoints.

    Raises:
        InvalidValue: a value is not a Limit.
    """

    peer: Limit = attrs.field(default=Limit(120), validator=_is_limit)
    """Each peer's requests, counted before the signature is checked."""
    tick: Limit = attrs.field(default=Limit(10), validator=_is_limit)
    """Each principal's ticks."""
    act: Limit = attrs.field(default=Limit(60), validator=_is_limit)
    """Each principal's other actions, by route."""
    look: Limit = attrs.field(default=Limit(120), validator=_is_limit)
    """Each principal's reads, by route."""


def make_signers(settings: Settings) -> list[Signer]:
    """Return the signers of OPS_HMAC_SECRET and OPS_HMAC_SECRET_PREVIOUS.

    Raises:
        InvalidValue: neither is set.
    """
    secrets = [settings.ops_hmac_secret, settings.ops_hmac_secret_previous]
    found = [Signer(secret) for secret in secrets if secret is not None]
    if not found:
        raise InvalidValue("signers", "there is no secret", "set OPS_HMAC_SECRET, or give signers=[Signer(...)]")
    return found


@attrs.frozen(kw_only=True)
class Guard:
    """Checks requests. A request that fails a check raises the problem that answers it."""

    engine: Engine
    signers: Sequence[Signer] = attrs.field(repr=False)
    verifier: HmacVerifier
    login: Login | None
    peers: RateLimiter
    """Counts peers, apart from principals: a caller without a secret writes no row, and evicts no principal's count."""
    principals: RateLimiter
    limits: Limits
    proxies: Sequence[Proxy]
    sessions: Sessions | None = None
    """Admits an unsigned action by the login alone; None refuses it."""
    request_timeout: timedelta = timedelta(seconds=10)
    """How long a body may take to arrive, and a login to answer."""
    store_timeout: timedelta = timedelta(seconds=2)
    """How long a limiter may take to count, and the store to answer or to keep an id.

    Shorter than a store's own timeouts: callers that ask for health give up before those end."""

    async def body(self, request: Request) -> bytes:
        """Return the body, if the peer's limit admits the request and the body is not too long."""
        self._check_length(request)
        key = client_address(request.peer, request.values(b"x-forwarded-for"), self.proxies)
        await self._count(self.peers, f"peer:{key}", self.limits.peer)
        if request.values(b"content-encoding"):
            detail = "a Content-Encoding is not read; send the body as it is"
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, field="Content-Encoding")
        try:
            async with asyncio.timeout(self.request_timeout.total_seconds()):
                body = await request.read(MAX_BYTES)
        except TimeoutError:
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time", field="body") from None
        if body is None:
            raise _too_large()
        return body

    async def signed(self, request: Request, body: bytes) -> Principal | None:
        """Check the signature and refuse a replay; return the secret's principal, None if the secret has none.

        Where sessions are admitted, an unsigned request needs a login and no signature: check its origin instead.

        Raises:
            Problem: 401 for every fault of the signature; 403 for a session's request from another site.
        """
        if self.sessions is not None and is_unsigned(request):
            check_origin(request, self.sessions.origins)
            return None
        # A caller without a secret never reaches the database.
        verdict = self.verifier.match(request.headers, body)
        if isinstance(verdict, Verified):
            # After a timeout the id may be stored or not. No action ran, and the next request has a new id.
            verdict = await self.with_store_timeout(self._first_time(verdict))
        if isinstance(verdict, Refused):
            raise _unauthorized(f"the signature is refused: {verdict.reason}", verdict.header)
        return self.signers[verdict.secret].principal

    async def with_store_timeout(self, asked: Coroutine[Any, Any, Result]) -> Result:
        """Return the result of a call to the store. Only for calls that a timeout may abandon half-way.

        Raises:
            StoreUnavailable: the call takes too long.
        """
        try:
            return await within(self.store_timeout, asked)
        except TimeoutError:
            raise StoreUnavailable("the store takes too long to answer") from None

    async def admit(self, request: Request, role: str, known: Principal | None) -> Principal:
        """Return the principal of a request, if it has the role.

        Raises:
            Problem: 401 if the caller is not logged in, 403 without the role.
        """
        principal = known or await self._login(request)
        if principal is None:
            raise _unauthorized("the caller is not logged in")
        if not admits(principal, role):
            raise Problem(HTTPStatus.FORBIDDEN, f"this needs the role {role!r}")
        return principal

    async def reader(self, request: Request) -> Principal | None:
        """Return the principal if it has the read role, else None: for a view that other callers see in part."""
        try:
            principal = await self._login(request)
        except Exception as error:  # noqa: BLE001 - a login that is down says nothing about the engine
            log.error("the login failed: %s", type(error).__name__)  # noqa: TRY400 - its text may hold a secret
            return None
        return principal if admits(principal, self.engine.settings.ops_read_role) else None

    async def limit(self, route: str, principal: Principal, limit: Limit) -> None:
        """Count one request of a principal.

        Raises:
            Problem: 429 with Retry-After; 503 if the limiter is down.
        """
        await self._count(self.principals, f"{route}:{principal.id}", limit)

    async def _count(self, limiter: RateLimiter, key: str, limit: Limit) -> None:
        try:
            decision = await within(self.store_timeout, limiter.hit(key, limit))
        except Exception as error:  # noqa: BLE001 - any error means that the limiter is down
            log.error("the rate limiter is down: %s", type(error).__name__)  # noqa: TRY400 - its text may hold a URL
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "the rate limiter is down", headers=retry_after(timedelta(seconds=5))
            ) from None
        if not decision.allowed:
            detail = f"at most {limit.count} within {limit.window.total_seconds():g} s"
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers=retry_after(decision.retry_after))

    async def _first_time(self, found: Verified) -> Verified | Refused:
        verdict = self.verifier.in_time(found, await self.engine.now())
        if isinstance(verdict, Refused) or verdict.message_id is None or verdict.expires is None:
            return verdict
        if await self.engine.remember_request(verdict.message_id, expires=verdict.expires):
            return verdict
        return Refused(f"this {ID} was seen before", ID)

    async def _login(self, request: Request) -> Principal | None:
        if self.login is None:
            return None
        try:
            found = self.login(request.native)
            async with asyncio.timeout(self.request_timeout.total_seconds()):
                principal = await found if inspect.isawaitable(found) else found
        except InvalidValue as fault:
            # The host's fault: a problem of the request would name a field that the client did not send.
            log.error("the login's principal is not valid: %s", fault.field)  # noqa: TRY400 - its text may hold the id
            detail = "the login failed"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=retry_after(timedelta(seconds=5))) from None
        if principal is not None and not isinstance(principal, Principal):
            log.error("the login returned %s; give a Principal or None", type(principal).__name__)
            return None
        return principal

    @staticmethod
    def _check_length(request: Request) -> None:
        declared = request.values(b"content-length")
        if len(declared) > 1 or any(not length.isdigit() for length in declared):
            raise Problem(HTTPStatus.BAD_REQUEST, "Content-Length is not a valid number", field="Content-Length")
        if any(len(length) > 10 or int(length) > MAX_BYTES for length in declared):
            raise _too_large()


def retry_after(span: timedelta) -> Mapping[str, str]:
    """Return the Retry-After header, in whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(span.total_seconds())))}


def _too_large() -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {MAX_BYTES} bytes", field="body")


def _unauthorized(detail: str, field: str | None = None) -> Problem:
    headers = {"WWW-Authenticate": 'Signature realm="escalation"'}
    return Problem(HTTPStatus.UNAUTHORIZED, detail, field=field, headers=headers)
