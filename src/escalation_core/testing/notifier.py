"""A notifier for tests that records pages and returns the outcomes that the test chooses."""

from collections.abc import Callable, Sequence

from ..model import Delivered, Outcome, Page


class RecordingNotifier:
    """A notifier that appends each page to ``pages``. ``answer`` returns the outcome; the default is Delivered."""

    channel = "recording"

    def __init__(self, *targets: str, answer: Callable[[Page], Outcome] = lambda page: Delivered()) -> None:
        self.targets: Sequence[str] = targets or ("test",)
        self.pages: list[Page] = []
        self.answer = answer

    async def send(self, page: Page) -> Outcome:
        """Record the page and return the answer's outcome."""
        self.pages.append(page)
        return self.answer(page)

    async def aclose(self) -> None:
        """Do nothing."""
