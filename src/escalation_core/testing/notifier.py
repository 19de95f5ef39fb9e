"""A notifier that remembers what it was asked to send, and answers what the test wants."""

from collections.abc import Callable, Sequence

from ..model import Delivered, Outcome, Page


class RecordingNotifier:
    """Keeps every page in ``pages``. ``answer`` decides the outcome of each; by default all are delivered."""

    channel = "recording"

    def __init__(self, *targets: str, answer: Callable[[Page], Outcome] = lambda page: Delivered()) -> None:
        self.targets: Sequence[str] = targets or ("test",)
        self.pages: list[Page] = []
        self.answer = answer

    async def send(self, page: Page) -> Outcome:
        """Remember the page and return the answer."""
        self.pages.append(page)
        return self.answer(page)

    async def aclose(self) -> None:
        """Do nothing."""
