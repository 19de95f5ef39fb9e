"""The command that runs a worker of the library on the database of ``ESCALATION``."""

import asyncio
import json
import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from escalation_core import EscalationError, TickReport

from ....logs import set_up_logging
from ....worker.app import TO_THE_LOG, unheard
from ....worker.runner import run
from ... import conf
from ...access import open_engine, policies_loader
from ...not_ready import remedied


class Command(BaseCommand):
    """Escalates and pages until SIGTERM or SIGINT, and then finishes the tick and the pages being sent."""

    help = "Escalate and page until SIGTERM or SIGINT; then finish the tick and the pages being sent."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--once``."""
        parser.add_argument(
            "--once", action="store_true", help="Tick and deliver once, and print the report as JSON: for cron."
        )

    def handle(self, *_: Any, once: bool, **__: Any) -> None:
        """Run."""
        if not logging.getLogger("escalation_core").hasHandlers():
            set_up_logging(level="WARNING" if once else "INFO")  # LOGGING of the project has no handler for this
        try:
            configuration = conf.read()
            if TO_THE_LOG in unheard(configuration.settings) and configuration.notifiers is None:
                logging.getLogger(__name__).warning(TO_THE_LOG)
            report = asyncio.run(_work(once))
        except EscalationError as error:
            raise CommandError(str(error)) from error
        if report is not None:
            self.stdout.write(json.dumps(report.as_dict()))


async def _work(once: bool) -> TickReport | None:
    with remedied():
        async with await open_engine(long_running=not once) as engine:
            if once:
                return await engine.tick()
            await run(engine, policies=policies_loader(conf.read()))
            return None
