"""A notifier for tests that records pages and returns the outcomes that the test chooses."""

from collections.abc import Callable, Sequence

from ..model import EVERY_KIND, Abilities, Bundle, Delivered, Notice, Outcome, Page


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

    abilities = Abilities(bundles=True)

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


class TellingNotifier(RecordingNotifier):
    """A recording notifier that tells notices of every kind. It appends each to ``notices``."""

    def __init__(
        self,
        *targets: str,
        answer: Callable[[Page], Outcome] = lambda page: Delivered(),
        answer_notice: Callable[[Notice], Outcome] = lambda notice: Delivered(),
        threads: bool = False,
    ) -> None:
        super().__init__(*targets, answer=answer)
        self.abilities = Abilities(notices=EVERY_KIND, asked=EVERY_KIND, threads=threads)
        self.notices: list[Notice] = []
        self.answer_notice = answer_notice

    async def tell(self, notice: Notice) -> Outcome:
        """Record the notice and return the outcome of ``answer_notice``."""
        self.notices.append(notice)
        return self.answer_notice(notice)
