"""Protocols that a host may implement: notifier, router, dead man's switch."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ..model import Bundle, Incident, Notice, NoticeBundle, Outcome, Page


class Notifier(Protocol):
    """A channel that sends pages to its targets.

    A notifier that can do more has an attribute ``abilities``, which is ``Abilities``: it declares bundles, notices,
    threads and budgets. It then has the methods of ``SendsBundles``, ``TellsNotices`` and ``TellsNoticeBundles``.
    """

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets. The engine passes no page for another target."""

    @property
    def channel(self) -> str:
        """The channel's name in metrics and logs, for example ``slack``."""

    async def send(self, page: Page) -> Outcome:
        """Send one page, once, and return the outcome.

        Failures of the receiver or the network are outcomes, never exceptions. After a cancelled send, the page may or
        may not have arrived. The reason of an outcome must not contain a secret.
        """

    async def aclose(self) -> None:
        """Close the connections. A second call does nothing."""


@runtime_checkable
class SendsBundles(Protocol):
    """A notifier that can send many pages in one message. If more pages wait than a budget takes, it is asked to.

    It declares this in its abilities.
    """

    async def send_bundle(self, bundle: Bundle) -> Outcome:
        """Send one message about all pages of the bundle, once, and return the outcome, as ``Notifier.send`` does.

        The message says how many incidents of each severity there are, and names the worst. Not all need be named, but
        it says how many are not, and how to list them.
        """


@runtime_checkable
class TellsNotices(Protocol):
    """A notifier that can tell those who were paged what became of the incident. It declares the kinds that it can."""

    async def tell(self, notice: Notice) -> Outcome:
        """Send one notice, once, and return the outcome, as ``Notifier.send`` does.

        A notice that is not delivered within an hour is not tried again.
        """


@runtime_checkable
class TellsNoticeBundles(Protocol):
    """A notifier that can send many notices in one message, because it can send bundles and notices."""

    async def tell_bundle(self, bundle: NoticeBundle) -> Outcome:
        """Send one message about all notices of the bundle, once, and return the outcome, as ``tell`` does."""


class Heartbeat(Protocol):
    """A dead man's switch: signals to an external service that the engine still ticks."""

    async def beat(self) -> None:
        """Send one signal. It must not raise, and it must have a timeout. A tick does not wait for it."""


class Router(Protocol):
    """Selects the targets of an escalation."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        """Return the names of the targets for the escalation of ``incident`` to ``level``.

        The function must be pure and fast, because the engine calls it inside the transaction. If it raises or returns
        no target, the engine inserts a dead page, counts it and logs it. The incident still escalates.
        """
