"""Actions and views of the routes: one function each, from checked fields to a response."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from escalation_core import Engine, Incident
from escalation_core.checks import check_key
from escalation_core.rules.bundle import MAX_BUNDLE

from ..wire import to_json
from . import reading
from .messages import Problem, Response, answer

MAX_DIGITS = 18
"""The most digits of an id that every store can hold."""
Fields = Mapping[str, Any]
Act = Callable[[Engine, Fields, str], Awaitable[Response]]
"""An action: it takes the engine, the body's fields and the actor."""


async def tick(engine: Engine, fields: Fields, by: str) -> Response:
    """Tick and deliver once. The audit notes the request first, whatever the tick's outcome is."""
    dry_run, reason = reading.flag(fields, "dry_run", False), reading.text(fields, "reason", None)
    if not dry_run and not engine.settings.dry_run:
        await engine.note("tick", by=by, reason=reason)
    return answer((await engine.tick(dry_run=dry_run)).as_dict())


async def recalc(engine: Engine, fields: Fields, by: str) -> Response:
    """Ask the workers to recalculate."""
    await engine.request_recalc(by=by, reason=reading.text(fields, "reason", None))
    return answer({"recalc": (await engine.health()).as_dict()["recalc"]}, HTTPStatus.ACCEPTED)


async def pause(engine: Engine, fields: Fields, by: str) -> Response:
    """Pause every worker until an instant or for some minutes; answer the end of all active pauses."""
    minutes = reading.number(fields, "minutes", 1, 1440, None)
    text = reading.text(fields, "until", None)
    if (minutes is None) == (text is None):
        raise reading.bad("until", "is missing, or minutes is there as well", "give one of the two")
    until = timedelta(minutes=minutes) if text is None else reading.instant(text, "until")
    made = await engine.pause(until, reason=reading.text(fields, "reason", None), by=by)
    return answer({"paused_until": _at((await engine.health()).paused_until or made.ends_at)})


async def resume(engine: Engine, fields: Fields, by: str) -> Response:
    """End operators' pauses and, if the caller asks for it, the scheduled pause that is running."""
    override = reading.flag(fields, "override_schedule", False)
    done = await engine.resume(override_schedule=override, reason=reading.text(fields, "reason", None), by=by)
    return answer({"ended": done.ended, "schedule_lifted_until": _at(done.schedule_lifted_until)})


async def drain(engine: Engine, fields: Fields, by: str) -> Response:
    """Take an incident down one level."""
    key, reason = reading.text(fields, "incident_key"), reading.text(fields, "reason", None)
    return answer({"incident": incident_json(await engine.drain(key, by=by, reason=reason))})


async def acknowledge(engine: Engine, fields: Fields, by: str) -> Response:
    """Acknowledge an incident."""
    key, reason = reading.text(fields, "incident_key"), reading.text(fields, "reason", None)
    return answer({"incident": incident_json(await engine.acknowledge(key, by=by, reason=reason))})


async def resolve(engine: Engine, fields: Fields, by: str) -> Response:
    """Resolve an incident."""
    key, reason = reading.text(fields, "incident_key"), reading.text(fields, "reason", None)
    return answer({"incident": incident_json(await engine.resolve(key, by=by, reason=reason))})


async def rebind(engine: Engine, fields: Fields, by: str) -> Response:
    """Give an incident the present version of its policy."""
    key, reason = reading.text(fields, "incident_key"), reading.text(fields, "reason", None)
    restart = reading.flag(fields, "restart", False)
    return answer({"incident": incident_json(await engine.rebind(key, restart=restart, by=by, reason=reason))})


async def health(engine: Engine, *, detail: bool) -> Response:
    """Return whether the engine is healthy; ``detail`` is for a caller with the read role, and adds every field."""
    found = (await engine.health()).as_dict() if detail else {"ok": await engine.is_healthy()}
    return answer(found, HTTPStatus.OK if found["ok"] else HTTPStatus.SERVICE_UNAVAILABLE)


async def audit(engine: Engine, fields: Fields) -> Response:
    """Return audit entries, newest first, one page of entries at a time."""
    start = reading.since(fields.get("since", "24h"), "since", await engine.now())
    limit = reading.count(fields.get("limit", "100"), "limit", "entries")
    entries = await engine.audit(start, limit=limit, after=fields.get("after") or None)
    following = entries[-1].cursor if len(entries) == limit else None
    return answer({"entries": [to_json(entry) for entry in entries], "next": following})


async def pages(engine: Engine, fields: Fields) -> Response:
    """Return pages in a state, or those that wait, oldest first, or those of a bundle, worst first."""
    bundle = fields.get("bundle")
    limit = reading.count(fields.get("limit", "100" if bundle is None else str(MAX_BUNDLE)), "limit", "pages")
    after = fields.get("after") or "0"
    if not after.isascii() or not after.isdigit() or len(after) > MAX_DIGITS:
        raise reading.bad("after", "is not the id of a page", "give next of the last response")
    found = await engine.pages(
        target=fields.get("target"),
        state=fields.get("state"),
        bundle=bundle,
        after=int(after),
        limit=limit,
    )
    following = str(found[-1].id) if len(found) == limit else None
    return answer({"pages": [to_json(page) for page in found], "next": following})


async def open_incidents(engine: Engine, fields: Fields) -> Response:
    """Return open incidents: what escalates next comes first."""
    limit = reading.count(fields.get("limit", "100"), "limit", "incidents")
    unheard = fields.get("unheard", "false")
    if unheard not in ("true", "false"):
        raise reading.bad("unheard", "is neither true nor false", "give true or false")
    found = await engine.open_incidents(limit=limit, after=fields.get("after") or None, unheard=unheard == "true")
    following = found.incidents[-1].cursor if found.more else None
    listed = [
        to_json(one) | {"incident": None if one.incident is None else incident_json(one.incident)}
        for one in found.incidents
    ]
    return answer({"at": found.at.isoformat(), "incidents": listed, "next": following})


async def incident(engine: Engine, fields: Fields) -> Response:
    """Return one incident with its escalations, pages and audit entries."""
    if "key" not in fields:
        raise reading.bad("key", "is missing", "give the incident key")
    history = await engine.history(check_key(fields["key"], "key"))
    if not history.known:
        raise Problem(HTTPStatus.NOT_FOUND, "key: no such incident", field="key")
    return answer(
        {
            "incident": None if history.incident is None else incident_json(history.incident),
            "fault": history.fault,
            "unheard": history.unheard,
            "upcoming": to_json(history.upcoming),
            "step": to_json(history.step),
            "next_pages": to_json(history.next_pages),
            "escalations": [to_json(escalation) for escalation in history.escalations],
            "pages": [to_json(page) for page in history.pages],
            "notices": [to_json(notice) for notice in history.notices],
            "audit": [to_json(entry) for entry in history.audit],
        }
    )


async def oncall(engine: Engine, fields: Fields) -> Response:
    """Return who is on call for each schedule, now or at another instant."""
    at = reading.instant(fields["at"], "at") if "at" in fields else await engine.now()
    # A process that only answers has no tick that loads them.
    await engine.schedule_loader.keep_loaded(engine.store)
    return answer({"at": at.isoformat(), "schedules": [to_json(one) for one in await engine.on_call(at)]})


def incident_json(incident: Incident) -> dict[str, object]:
    """Return an incident for JSON."""
    return {"state": incident.state.value, **to_json(incident)}


def _at(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
