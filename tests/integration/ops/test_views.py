"""The views show details only to principals with the read role."""

from typing import Any

import attrs
import pytest

from escalation_core import AuditEntry, Health
from escalation_core.model import PageState

from .problems import MINUTE, is_problem
from .service import Service


async def test_health(service: Service) -> None:
    """Health shows only ``ok`` without the read role, and all fields with it.

    Health answers 503 if no worker ticks, except during a pause.
    """
    for user in (None, "eve"):
        assert (200, {"ok": True}) == ((answer := await service.get("/health", user)).status, answer.json)
    seen = (await service.get("/health", "bob")).json
    assert {"ok", "enabled", "v1", "canaryPct", "tickLagMs", "oldestOverdueMs", "backlog", "dead"} <= set(seen)
    service.clock.advance(3 * MINUTE)
    red = await service.get("/health", None)
    assert (503, {"ok": False}) == (red.status, red.json)
    assert (503, 180_000) == ((red := await service.get("/health")).status, red.json["tickLagMs"])
    await service.act("pause", minutes=5)
    assert 200 == (await service.get("/health", None)).status


async def test_probes_cost_no_counting(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health for a caller without a login takes no counts in the database."""

    async def count() -> Health:
        raise AssertionError("something was counted")

    monkeypatch.setattr(service.engine, "health", count)
    assert (200, {"ok": True}) == ((green := await service.get("/health", None)).status, green.json)
    service.clock.advance(3 * MINUTE)
    assert (503, {"ok": False}) == ((red := await service.get("/health", None)).status, red.json)
    assert is_problem(await service.get("/health"), 503)


async def test_audit_in_pages(service: Service) -> None:
    """The audit view gives each entry once, newest first, in pages. The last page does not name a next one."""
    for _ in range(3):
        service.clock.advance(MINUTE)
        await service.act("pause", minutes=5)
    whole = (await service.get("/audit?since=24h&limit=1000", "bob")).json
    assert None is whole["next"]
    found: list[Any] = []
    following = "0"
    while following is not None:
        after = f"&after={following}" if found else ""
        page = (await service.get(f"/audit?since=24h&limit=2{after}", "bob")).json
        found += page["entries"]
        following = page["next"]
    assert whole["entries"] == found
    assert ["pause"] * 3 == [entry["action"] for entry in found[:3]]
    assert {"escalate", "open", "page delivered"} <= {entry["action"] for entry in found}
    since = service.clock().isoformat().replace("+", "%2B")
    assert 1 == len((await service.get(f"/audit?since={since}")).json["entries"])


@pytest.mark.parametrize("key", ["k", "a b", "ключ/🔥?&=#%", "../health", "k\u2028k"])
async def test_incident(service: Service, key: str) -> None:
    """The incident view shows the state, escalations, pages and audit of an incident, for any key."""
    from urllib.parse import quote

    await service.engine.open(key, severity="critical")
    service.clock.advance(5 * MINUTE)
    await service.engine.tick()
    seen = (await service.get(f"/incident?key={quote(key, safe='')}", "bob")).json
    assert (key, "open") == (seen["incident"]["incident_key"], seen["incident"]["state"])
    assert "delivered" == seen["pages"][-1]["state"]
    assert {"open", "escalate"} <= {entry["action"] for entry in seen["audit"]}
    assert seen["incident"]["level"] == seen["escalations"][-1]["level"]


async def test_pages(service: Service) -> None:
    """The pages view gives those that wait, or those in a state, to one target or to all, in parts."""
    for key in ("a", "b", "c"):
        await service.engine.open(key, severity="critical", first_seen=service.clock() - 30 * MINUTE)
    await service.engine.tick(deliver=False)
    seen = (await service.get("/pages", "bob")).json
    assert (["a", "b", "c"], None) == ([page["incident_key"] for page in seen["pages"]], seen["next"])
    first = (await service.get("/pages?limit=2&target=test", "bob")).json
    rest = (await service.get(f"/pages?limit=2&after={first['next']}", "bob")).json
    assert seen["pages"] == first["pages"] + rest["pages"]
    assert [] == (await service.get("/pages?target=other")).json["pages"]
    await service.engine.deliver()
    assert [] == (await service.get("/pages?state=dead")).json["pages"]
    delivered = (await service.get("/pages?state=delivered&limit=1000")).json["pages"]
    assert {"a", "b", "c"} <= {page["incident_key"] for page in delivered}
    for query, field in (("state=sent", "state"), ("after=x", "after"), ("limit=0", "limit"), ("limit=1001", "limit")):
        assert is_problem(await service.get(f"/pages?{query}"), 422, field)
    assert "superseded" in (await service.get("/pages?state=sent")).json["detail"]


async def test_pages_of_a_bundle(service: Service) -> None:
    """The pages view gives a whole bundle, worst first, by the beginning of its key, and in parts if asked to."""
    keys = [f"k{number:03}" for number in range(120)]
    for key in keys:
        severity = "warning" if key < "k010" else "critical"
        await service.engine.open(key, severity=severity, first_seen=service.clock() - 30 * MINUTE)
    await service.engine.tick(deliver=False)
    store = service.engine.store
    of_bundle = [attrs.evolve(page, bundle="ab" * 32) for page in await service.engine.pages(limit=200)]
    await store.transact(lambda tx: tx.outbox.write(of_bundle))
    seen = (await service.get("/pages?bundle=abababab", "bob")).json
    in_order = keys[10:] + keys[:10]
    assert (in_order, None) == (
        [page["incident_key"] for page in seen["pages"] if page["incident_key"] in keys],
        seen["next"],
    )
    first = (await service.get("/pages?bundle=abababab&limit=7", "bob")).json
    rest = (await service.get(f"/pages?bundle=abababab&after={first['next']}", "bob")).json
    assert seen["pages"] == first["pages"] + rest["pages"]
    for query, field in (("bundle=xy", "bundle"), ("bundle=abababab&after=99999", "after")):
        assert is_problem(await service.get(f"/pages?{query}"), 422, field)


async def test_open_incidents(service: Service) -> None:
    """The incidents view gives the list in parts, and can leave out all incidents that are not unheard."""
    for key in ("a", "b"):
        await service.engine.open(key, severity="critical")
    whole = (await service.get("/incidents", "bob")).json
    first = (await service.get("/incidents?limit=1", "bob")).json
    rest = (await service.get(f"/incidents?after={first['next']}", "bob")).json
    assert [one["incident_key"] for one in whole["incidents"]] == [
        one["incident_key"] for one in first["incidents"] + rest["incidents"]
    ]
    assert ({"open"}, {False}, None) == (
        {one["incident"]["state"] for one in whole["incidents"]},
        {one["unheard"] for one in whole["incidents"]},
        whole["next"],
    )
    assert [] == (await service.get("/incidents?unheard=true", "bob")).json["incidents"]
    await _lose_page(service, "a")
    found = (await service.get("/incidents?unheard=true", "bob")).json["incidents"]
    assert [("a", True)] == [(one["incident_key"], one["unheard"]) for one in found]
    assert (await service.get("/incident?key=a")).json["unheard"]
    red = await service.get("/health")
    assert (503, False, 1) == (red.status, red.json["ok"], red.json["unheard"])
    assert red.json["targets"]["test"]["lastDeliveredAt"] is not None
    assert is_problem(await service.get("/incidents?unheard=1"), 422, "unheard")


async def _lose_page(service: Service, key: str) -> None:
    """Escalate all incidents, and let the page of one be dead, as a search notes it."""
    service.clock.advance(30 * MINUTE)
    await service.engine.tick(deliver=False)
    store = service.engine.store
    note = AuditEntry(at=service.clock(), action="unheard", incident_key=key, episode=1, level=1)
    [page] = await store.read(lambda tx: tx.outbox.pages(limit=9, incident_key=key))
    await store.transact(lambda tx: tx.outbox.write([attrs.evolve(page, state=PageState.DEAD)]))
    await store.transact(lambda tx: tx.journal.note([note]))


@pytest.mark.parametrize("path", ["/audit", "/incident?key=k", "/incidents", "/pages"])
async def test_views_need_the_read_role(service: Service, path: str) -> None:
    """A view needs the read role: without a login it answers 401, and without the role 403."""
    assert is_problem(await service.get(path, None), 401)
    assert is_problem(await service.get(path, "eve"), 403)
    assert 200 == (await service.get(path, "bob")).status
