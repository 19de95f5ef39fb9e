"""Record the run of a job. A failed run opens an incident, in the same transaction as the row of the run."""

import argparse
import os
import sys
from datetime import UTC, datetime
from typing import Any

import psycopg

from escalation_adapters.worker.app import open_engine, settings_from
from escalation_adapters.worker.blocking import BlockingEngine
from escalation_core import Engine, EscalationError

Connection = psycopg.Connection[Any]
RUN = "INSERT INTO runs (job, started_at, message) VALUES (%s, %s, %s)"


async def make() -> Engine:
    """Open the engine that the environment describes, as the command line and ``tick.py`` do."""
    return await open_engine(settings_from(os.environ))


def failed(connection: Connection, job: str, started: datetime, message: str) -> None:
    """Open an incident and record the run: both are committed, or neither."""
    with BlockingEngine(make) as engine, connection.transaction():
        engine.using(connection).open(job, severity="critical", summary=message, first_seen=started, by="report.py")
        connection.execute(RUN, (job, started, message))


def succeeded(connection: Connection, job: str, started: datetime) -> None:
    """Record the run and resolve the job's incident, with plain SQL: a trigger cancels unsent pages."""
    with connection.transaction():
        connection.execute(RUN, (job, started, None))
        connection.execute("UPDATE incidents SET resolved_at = now() WHERE job = %s AND resolved_at IS NULL", (job,))


def acknowledge(connection: Connection, job: str, who: str) -> None:
    """Acknowledge the job's incident, with plain SQL: it no longer escalates."""
    with connection.transaction():
        connection.execute(
            "UPDATE incidents SET acknowledged_at = now(), acknowledged_by = %s"
            " WHERE job = %s AND acknowledged_at IS NULL AND resolved_at IS NULL",
            (who, job),
        )


def main() -> None:
    """Read the command line, and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outcome", choices=["failed", "succeeded", "acknowledge"])
    parser.add_argument("job")
    parser.add_argument("--message", default="it failed", help="what went wrong")
    parser.add_argument("--started", type=datetime.fromisoformat, default=datetime.now(UTC), metavar="INSTANT")
    parser.add_argument("--by", default="cron", metavar="WHO", help="who acknowledges")
    given = parser.parse_args()
    with psycopg.connect(os.environ["ESC_DATABASE_URL"]) as connection:
        if given.outcome == "failed":
            failed(connection, given.job, given.started, given.message)
        elif given.outcome == "succeeded":
            succeeded(connection, given.job, given.started)
        else:
            acknowledge(connection, given.job, given.by)


if __name__ == "__main__":
    try:
        main()
    except (psycopg.Error, EscalationError) as error:
        sys.exit(f"report.py: {error}")
