"""What a host may bring: notifiers, a router, a dead man's switch."""

from collections.abc import Sequence
from typing import Protocol

from ..model import Incident, Outcome, Page


class Notifier(Protocol):
    """A channel: sends pages to the targets that it knows."""

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets; no other page is handed to it."""

    @property
    def channel(self) -> str:
        """The channel's name for metrics and logs, such as ``slack``."""

    async def send(self, page: Page) -> Outcome:
        """Send one page, once, and say what became of it.

        Never raises for anything that a receiver or a network does: those are outcomes. A cancelled send may or may not
        have arrived. No outcome's reason holds a secret.
        """

    async def aclose(self) -> None:
        """Close what is open."""


class Heartbeat(Protocol):
    """A dead man's switch: tells a service outside that ticks go on."""

    async def beat(self) -> None:
        """Tell it once. It raises nothing, and its time is bounded; a tick never waits for it."""


class Router(Protocol):
    """Who is paged about an escalation."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        """Return the names of the targets for the escalation of ``incident`` to ``level``.

        Pure and quick: it is asked inside the transaction. An exception, or no target, makes the page dead at birth,
        which is counted and logged; the incident goes on climbing.
        """
