"""The row-at-a-time worker that this library replaces (ADR 0039), as a baseline: each statement is a transaction.

This is a port of its algorithm to psycopg and aiohttp, which the engine uses: select the due rows; for each row insert
the event (skip a taken key), raise the level and post the message. The original prepares no statement, since its driver
node-postgres prepares only named ones: neither does this port. The port leaves out the log line for each row.
"""

import hashlib

import aiohttp
import psycopg

SELECT = """
    SELECT incident_key, severity, escalation_level, summary FROM incidents
    WHERE acknowledged_at IS NULL AND now() >= next_due_at AND escalation_level < 7
        AND (last_escalated_at IS NULL OR now() - last_escalated_at >= interval '30 minutes')
    LIMIT %s
"""
INSERT = "INSERT INTO escalation_events (incident_key, level, unique_hash) VALUES (%s, %s, %s)"
UPDATE = """
    UPDATE incidents SET escalation_level = escalation_level + 1, last_escalated_at = now(),
        next_due_at = now() + interval '30 minutes'
    WHERE incident_key = %s
"""


async def tick(dsn: str, limit: int, webhook: str | None = None) -> int:
    """Escalate up to ``limit`` rows; post each to the webhook if there is one; return the number of escalations."""
    escalated = 0
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as connection,
        aiohttp.ClientSession() as session,
    ):
        due = await connection.execute(SELECT, (limit,))
        for key, severity, level, summary in await due.fetchall():
            dedup = hashlib.sha256(f"{key}|{level + 1}".encode()).hexdigest()
            try:
                await connection.execute(INSERT, (key, level + 1, dedup))
            except psycopg.errors.UniqueViolation:
                continue
            await connection.execute(UPDATE, (key,))
            if webhook is not None:
                body = {"text": f"{severity} {key} {summary}", "dedup_key": dedup}
                async with session.post(webhook, json=body, headers={"X-Dedup-Key": dedup}) as reply:
                    await reply.read()
            escalated += 1
    return escalated
