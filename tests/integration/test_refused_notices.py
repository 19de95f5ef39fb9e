"""What the database refuses about notices stops no page."""

import logging
from datetime import timedelta
from typing import LiteralString

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, SettingsRouter
from escalation_core.testing import TellingNotifier

from .migrations import execute, select

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("state", ["leased", "delivered"], ids=["claim", "settle"])
async def test_a_notice_that_is_refused_stops_no_page(
    migrated_dsn: str, caplog: pytest.LogCaptureFixture, state: LiteralString
) -> None:
    """A notice that cannot be claimed is claimed again a minute later; one that cannot be settled is sent again."""
    notifier = TellingNotifier("ops")
    router = SettingsRouter(default_target="ops")
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[notifier], router=router) as engine:
        await engine.open("a", severity="critical", first_seen=await engine.now() - HOUR)
        await engine.tick()
        execute(migrated_dsn, f"ALTER TABLE escalation_notices ADD CONSTRAINT odd CHECK (state <> '{state}')")
        await engine.acknowledge("a")
        await engine.open("b", severity="critical", first_seen=await engine.now() - HOUR)
        with caplog.at_level(logging.WARNING):
            await engine.tick()
            await engine.deliver()
        assert ["a", "b"] == [page.incident_key for page in notifier.pages]
        assert {"delivered"} == set(select(migrated_dsn, "SELECT state FROM escalation_pages"))
        assert ("cannot be claimed" if state == "leased" else "cannot be settled") in caplog.text
        assert (0 if state == "leased" else 1) == len(notifier.notices)
        assert timedelta() < await engine.next_claim_in(), "a loop that waits for it does not spin"
        with psycopg.connect(migrated_dsn, autocommit=True) as connection:
            connection.execute("ALTER TABLE escalation_notices DROP CONSTRAINT odd")
