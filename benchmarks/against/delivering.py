"""The workload from due to delivered, with a database and a web server."""

import asyncio

from .workload import Meter, workload

DUE = 1000
"""Incidents that fall due in each block, each with one page."""
TICKS = 10
"""How many ticks a process measures, each over new rows."""


@workload(postgres=True)
def deliver_postgres(meter: Meter) -> None:
    """Tick over rows in PostgreSQL, which delivers a page for each to a web server."""
    import psycopg

    from escalation_adapters.channels.slack import SlackNotifier
    from escalation_adapters.postgres import PostgresStore, migrate
    from escalation_core import Engine, Settings

    from ..sink import sink

    async def work(url: str) -> None:
        await migrate.up(meter.dsn, create=True)
        notifier = SlackNotifier({"slack:ops": url}, allow_http=True)
        settings = Settings(allow_http=True)
        async with Engine(await PostgresStore.connect(meter.dsn), settings=settings, notifiers=[notifier]) as engine:
            for turn in range(TICKS):
                with psycopg.connect(meter.dsn, autocommit=True) as connection:
                    connection.execute(
                        f"""
                        INSERT INTO incidents (incident_key, severity, first_seen)
                        SELECT 'due/{turn}/' || n, 'critical', now() - interval '10 minutes'
                        FROM generate_series(1, {DUE}) AS n
                        """.encode()
                    )
                    connection.execute("VACUUM ANALYZE")
                    connection.execute("CHECKPOINT")
                with meter.measure(rows=DUE):
                    report = await engine.tick()
                if report.delivery is None or report.delivery.delivered != DUE:
                    raise SystemExit(f"the tick delivered {report.delivery} of {DUE}")

    with sink() as receiver:
        asyncio.run(work(receiver.url))
