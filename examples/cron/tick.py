"""Tick once: escalate the incidents that are due, and send their pages. cron runs this program each minute."""

import asyncio
import json
import os
import sys

from escalation_adapters.worker.app import open_engine, settings_from
from escalation_core import EscalationError


async def main() -> bool:
    """Tick, print the report, and return whether every page was sent or will be tried again."""
    async with await open_engine(settings_from(os.environ)) as engine:
        report = await engine.tick()
    print(json.dumps(report.as_dict()))
    return not (report.dead_pages or (report.delivery and report.delivery.dead))


if __name__ == "__main__":
    try:
        sys.exit(0 if asyncio.run(main()) else 1)
    except EscalationError as error:
        sys.exit(f"tick.py: {error}")
