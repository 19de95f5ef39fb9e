"""The operators' endpoints: from a request to a response, without a framework."""

import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import attrs

from escalation_core import (
    Engine,
    EscalationError,
    InvalidValue,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
    TransitionRefused,
)
from escalation_core.checks import quoted

from ..auth.client_address import networks
from ..auth.hmac_signature import HmacVerifier
from ..auth.rate_limit import MemoryLimiter, RateLimiter
from . import actions, reading
from .guard import Guard, Limits, Login, Signer, make_signers, retry_after
from .messages import JSON, Problem, Request, Response
from .sessions import Sessions

log = logging.getLogger("escalation_adapters.ops")


@attrs.frozen
class Action:
    """A route that changes something. Its name is in the path and in the signed body."""

    act: actions.Act
    fields: tuple[str, ...]


ACTIONS: dict[str, Action] = {
    "tick": Action(actions.tick, ("dry_run", "reason")),
    "recalc": Action(actions.recalc, ("reason",)),
    "pause": Action(actions.pause, ("until", "minutes", "reason")),
    "resume": Action(actions.resume, ("override_schedule", "reason")),
    "drain": Action(actions.drain, ("incident_key", "reason")),
    "rebind": Action(actions.rebind, ("incident_key", "restart", "reason")),
    "acknowledge": Action(actions.acknowledge, ("incident_key", "reason")),
    "resolve": Action(actions.resolve, ("incident_key", "reason")),
}
VIEWS: dict[str, tuple[Callable[[Engine, actions.Fields], Coroutine[Any, Any, Response]], tuple[str, ...]]] = {
    "audit": (actions.audit, ("since", "limit", "after")),
    "incident": (actions.incident, ("key",)),
    "incidents": (actions.open_incidents, ("unheard", "limit", "after")),
    "pages": (actions.pages, ("target", "state", "bundle", "limit", "after")),
    "oncall": (actions.oncall, ("at",)),
}
HEALTH = "health"
_UNKNOWN = "unknown"


class OpsHandler:
    """Answers the operators' requests about one engine. ``ops_app`` and ``OpsASGI`` bind it to a server.

    ``login`` is the host's own login: it returns the principal of a request, and the handler trusts no header for that.
    ``sessions`` also admits unsigned actions of a caller who is logged in; without it each action needs a signature.
    ``signers`` default to the settings' secrets; a signer with a principal needs no login. ``legacy_signature`` also
    admits the older ``X-Signature``: a captured request of that kind can be sent again at any time. ``limiter`` counts
    principals. ``peer_limiter`` counts peers before the signature is checked, so it must be as cheap as the default,
    which counts in memory. ``proxies`` are the addresses or networks whose ``X-Forwarded-For`` the handler trusts;
    ``unix`` means each peer of a Unix socket.

    Raises:
        InvalidValue: there is no secret, a signer, a limit or a proxy is not valid, or sessions have no login.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        login: Login | None = None,
        sessions: Sessions | None = None,
        signers: Sequence[Signer] | None = None,
        legacy_signature: bool = False,
        limiter: RateLimiter | None = None,
        peer_limiter: RateLimiter | None = None,
        limits: Limits | None = None,
        proxies: Sequence[str] = (),
    ) -> None:
        found = make_signers(engine.settings) if signers is None else _signers(signers)
        if limits is not None and not isinstance(limits, Limits):
            raise InvalidValue("limits", f"is {type(limits).__name__}", "give Limits(...)")
        if sessions is not None and not isinstance(sessions, Sessions):
            raise InvalidValue("sessions", f"is {type(sessions).__name__}", "give Sessions(...)")
        if sessions is not None and login is None:
            raise InvalidValue("sessions", "are given without a login", "give login= too: it names the caller")
        self.engine = engine
        self.guard = Guard(
            engine=engine,
            signers=found,
            verifier=HmacVerifier([signer.secret for signer in found], legacy=legacy_signature),
            login=login,
            peers=peer_limiter or MemoryLimiter(),
            principals=limiter or MemoryLimiter(),
            limits=limits or Limits(),
            proxies=networks(proxies),
            sessions=sessions,
        )

    async def handle(self, request: Request) -> Response:
        """Answer a request. It raises nothing: each error becomes a problem document."""
        try:
            return await self._route(request)
        except Problem as problem:
            return problem.response()
        except EscalationError as error:
            return _to_problem(error).response()
        except Exception as error:  # noqa: BLE001 - a bug of ours, or of the host's login
            log.error("%s failed: %s", quoted(f"{request.method} {request.path}"), type(error).__name__)  # noqa: TRY400
            return _unanswered().response()

    async def _route(self, request: Request) -> Response:
        name = request.path.removeprefix("/")
        if name in ACTIONS:
            _check_method(request, "POST")
            return await self._act(request, name, ACTIONS[name])
        if name == HEALTH or name in VIEWS:
            _check_method(request, "GET")
            return await self._view(request, name)
        raise Problem(HTTPStatus.NOT_FOUND, "there is no such route")

    async def _act(self, request: Request, name: str, action: Action) -> Response:
        body = await self.guard.body(request)
        signer = await self.guard.signed(request, body)
        principal = await self.guard.admit(request, self.engine.settings.ops_admin_role, signer)
        limits = self.guard.limits
        await self.guard.limit(name, principal, limits.tick if name == "tick" else limits.act)
        # The query string is not signed, so actions take no parameters from the query string.
        reading.query(request.query, ())
        _check_content_type(request)
        fields = reading.parse(body)
        known = ("action", *action.fields)
        for field in fields:
            if field not in known:
                raise reading.unknown(field, known)
        if reading.text(fields, "action") != name:
            raise reading.bad("action", "is another route's", f'sign a body with "action": "{name}"')
        return await action.act(self.engine, fields, principal.id)

    async def _view(self, request: Request, name: str) -> Response:
        await self.guard.body(request)
        if name == HEALTH:
            reading.query(request.query, ())
            reader = await self.guard.reader(request)
            if reader is not None:
                await self.guard.limit(name, reader, self.guard.limits.look)
            return await self.guard.with_store_timeout(actions.health(self.engine, detail=reader is not None))
        view, known = VIEWS[name]
        principal = await self.guard.admit(request, self.engine.settings.ops_read_role, None)
        await self.guard.limit(name, principal, self.guard.limits.look)
        return await self.guard.with_store_timeout(view(self.engine, reading.query(request.query, known)))


def _signers(value: object) -> list[Signer]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidValue("signers", f"is {type(value).__name__}", "give a list of Signer(...)")
    if not all(isinstance(signer, Signer) for signer in value):
        raise InvalidValue("signers", "holds something that is not a Signer", "give a list of Signer(...)")
    return list(value)


def _check_method(request: Request, method: str) -> None:
    if request.method != method:
        raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"use {method}", headers={"Allow": method})


def _check_content_type(request: Request) -> None:
    given = [value.decode("latin-1").partition(";")[0].strip().lower() for value in request.values(b"content-type")]
    if given != [JSON]:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {JSON}", field="Content-Type")


def _to_problem(error: EscalationError) -> Problem:
    """Return the problem document's exception for one of the library's errors."""
    if isinstance(error, InvalidValue):
        return reading.bad(error.field, error.fault, error.remedy)
    if isinstance(error, TransitionRefused):
        status = HTTPStatus.NOT_FOUND if error.state == _UNKNOWN else HTTPStatus.CONFLICT
        return Problem(status, str(error), field="incident_key")
    headers = retry_after(timedelta(seconds=5))
    if isinstance(error, StoreUnavailable):
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the database is not available", headers=headers)
    if isinstance(error, StoreNotReady):
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=headers)
    if isinstance(error, StoreRefused):
        log.error("the database refuses: %s", error)
        return Problem(HTTPStatus.CONFLICT, "the database refuses this; the log says why")
    log.error("a request failed: %s", type(error).__name__)
    return _unanswered()


def _unanswered() -> Problem:
    headers = retry_after(timedelta(seconds=5))
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the request could not be answered", headers=headers)
