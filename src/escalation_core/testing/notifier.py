"""A notifier for tests that records pages and returns the outcomes that the test chooses."""

from collections.abc import Callable, Sequence

from ..model import Bundle, Delivered, Outcome, Page


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


class BundlingNotifier(RecordingNotifier):
    """A recording notifier that can also send bundles. It appends each to ``bundles``, and its pages to ``pages``."""

    def __init__(
        self,
        *targets: str,
        answer: Callable[[Page], Outcome] = lambda page: Delivered(),
        answer_bundle: Callable[[Bundle], Outcome] = lambda bundle: Delivered(),
    ) -> None:
        super().__init__(*targets, answer=answer)
        self.bundles: list[Bundle] = []
        self.answer_bundle = answer_bundle

    async def send_bundle(self, bundle: Bundle) -> Outcome:
        """Record the bundle and its pages, and return the outcome of ``answer_bundle``."""
        self.bundles.append(bundle)
        self.pages.extend(bundle.pages)
        return self.answer_bundle(bundle)
