"""The settings of a role or database change nothing: the store's transactions set the parameters that they rely on."""

import logging

import pytest

from escalation_core import Route, Settings

from .stage import MINUTE, role, staged

GRANTS = "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
SETTINGS = {
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "DateStyle": "'SQL, DMY'",
    "DateStyle ": "'German'",
    "IntervalStyle": "sql_standard",
    "IntervalStyle ": "iso_8601",
    "bytea_output": "escape",
    "TimeZone": "'Pacific/Kiritimati'",
    "search_path": "nowhere",
    "search_path ": "app, public",
    "client_encoding": "latin1",
    "extra_float_digits": "-15",
    "lc_messages": "'C'",
    "lock_timeout": "'1s'",
    "statement_timeout": "'20s'",
    "idle_in_transaction_session_timeout": "'5s'",
    "default_transaction_isolation": "serializable",
    "default_transaction_isolation ": "'repeatable read'",
    "default_transaction_deferrable": "on",
    "transform_null_equals": "on",
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "escalation.engine": "'off'",
}
KEY = "ключ \\ \" ' ü"


@pytest.mark.parametrize("setting", SETTINGS)
async def test_a_setting_of_the_role_changes_nothing(
    migrated_dsn: str, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With each setting the engine sends pages, escalates again after a snooze, and stops at an acknowledgement."""
    grants = GRANTS + f"; ALTER ROLE {{role}} SET {setting.strip()} = {SETTINGS[setting]}"
    with role(migrated_dsn, grants=grants) as (_, dsn):
        settings = Settings(routes=(Route(severity="critical", targets=("test",)),))
        async with staged(migrated_dsn, settings=settings, store_dsn=dsn) as stage:
            stage.sql(
                "CREATE SCHEMA app", "CREATE FUNCTION app.md5(text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$"
            )
            stage.sql(
                "INSERT INTO incidents (incident_key, severity, first_seen, summary) VALUES (%(key)s, %(severity)s,"
                " %(now)s - interval '10 minutes', %(key)s)",
                key=KEY,
                severity="critical",
            )
            stage.incident("other")
            assert [("other", 1, 1), (KEY, 1, 1)] == sorted(await stage.tick())
            assert [(1, "delivered", None)] == stage.pages(KEY)
            await stage.engine.snooze(KEY, MINUTE, by="ü")
            await stage.engine.acknowledge("other")
            assert [("other", 1)] == [
                (page.incident_key, page.level)
                for page in await stage.engine.store.read(lambda tx: tx.outbox.pages(limit=9, incident_key="other"))
            ]
            for _ in range(8):
                await stage.tick(after=5 * MINUTE)
            assert [1, 2] == [level for level, _, _ in stage.pages(KEY)][:2]
            assert [1] == [level for level, _, _ in stage.pages("other")]
            assert stage.clock() == (await stage.engine.health()).at
            assert 0 == (await stage.engine.health()).stats.dead
    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_two_workers_on_a_role_that_is_serializable(migrated_dsn: str) -> None:
    """The store's transactions run as READ COMMITTED, even if the role's default isolation is SERIALIZABLE."""
    grants = GRANTS + "; ALTER ROLE {role} SET default_transaction_isolation = serializable"
    with role(migrated_dsn, grants=grants) as (_, dsn):
        async with staged(migrated_dsn, store_dsn=dsn) as stage:

            async def isolation(tx: object) -> str:
                cursor = await tx.incidents.session.connection.execute("SHOW transaction_isolation")  # type: ignore[attr-defined]
                row: tuple[str] = await cursor.fetchone()
                return row[0]

            assert "read committed" == await stage.engine.store.transact(isolation)
