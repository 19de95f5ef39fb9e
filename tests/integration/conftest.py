"""The event loops of the runner's tests, asyncio's own and the uvloop of ``escalation run``; and a host's scene."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from .scene import Scene, scene_of

Factory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, Factory] = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop  # not there is an error, not a reason to test less: the extra ``all`` brings it

    LOOPS["uvloop"] = uvloop.new_event_loop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Factory]:
    """Offer the loops to tests that name theirs; all others have asyncio's."""
    mark = item.get_closest_marker("asyncio")
    return LOOPS if mark is not None and "loop_factories" in mark.kwargs else {"asyncio": LOOPS["asyncio"]}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where there is no uvloop; each test that is left out for it is counted as skipped, too."""
    if "uvloop" not in LOOPS:
        terminalreporter.write_line("the runner's tests ran under asyncio's own loop alone: uvloop is not for Windows")


@pytest.fixture
async def scene(migrated_dsn: str) -> AsyncIterator[Scene]:
    """An engine on a migrated database of its own."""
    made = await scene_of(migrated_dsn)
    async with made.engine:
        yield made
