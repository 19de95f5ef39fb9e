"""Plug-ins of each kind, which tests of the command line copy into a folder as the module ``pager``."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from escalation_adapters.worker.plugins import PluginContext
from escalation_core import Abilities, Budget, Delivered, Incident, Outcome, Page, Schedule, Shift, Shifts


class Pager:
    """Writes a line for each page, and one at its end."""

    channel = "sms"
    targets: Sequence[str] = ("sms:ops", "sms:dev")
    abilities = Abilities(budgets={"sms:ops": Budget(rate=7)})

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    async def send(self, page: Page) -> Outcome:
        self.write(f"{page.target} {page.incident.incident_key} {page.dedup_key}")
        return Delivered()

    async def aclose(self) -> None:
        self.write("closed")

    def write(self, line: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


class Router:
    def route(self, incident: Incident, level: int) -> Sequence[str]:
        return ["sms:dev"] if level == 1 else ["sms:ops"]


class Rota:
    async def load(self) -> Mapping[str, Schedule]:
        now = datetime.now(UTC)
        shift = Shift(person="ann", start=now - timedelta(days=1), end=now + timedelta(days=30))
        return {"rota": Shifts(shifts=[shift], horizon=shift.end)}


class Switch:
    def __init__(self, pager: Pager) -> None:
        self._pager = pager

    async def beat(self) -> None:
        self._pager.write("alive")


def notifier(context: PluginContext) -> Pager:
    return Pager(context.secret("PAGER_FILE_NAME"))


def router(context: PluginContext) -> Router:
    return Router()


def schedules(context: PluginContext) -> Rota:
    return Rota()


def heartbeat(context: PluginContext) -> Switch:
    return Switch(notifier(context))


def broken(context: PluginContext) -> None:
    raise RuntimeError(json.dumps("hush-hush-hush"))
