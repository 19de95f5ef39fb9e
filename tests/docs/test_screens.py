"""The screens of the page about the command line at night are those that the commands show today."""

import sys

import pytest

from .pages import DOCS

pytestmark = [
    pytest.mark.system("faketime"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind"),
]


def test_screens_are_what_the_commands_show() -> None:
    """Each command of the page, run in a terminal of 80 columns, shows the screen that the page has."""
    from . import screens  # a pseudo-terminal is missing on Windows

    for command, written, shown in screens.screens():
        assert written == shown, f"{command}: python -m tests.docs.screens writes the screens into the page"
        assert all(len(line) <= screens.WIDTH for line in shown.splitlines()), command


@pytest.mark.parametrize("page", ["first-policy", "rotation"])
def test_screens_of_the_lessons_are_what_the_commands_show(page: str) -> None:
    """Each command of the lessons about policies, in their order, shows the screen that the page has."""
    from . import lesson

    for command, written, shown in lesson.screens(DOCS / f"tutorial/{page}.md"):
        assert written == shown, f"{command}: python -m tests.docs.lesson writes the screens into the page"
