"""Run the runner's tests on asyncio's loop and on uvloop, which ``escalation run`` uses; define a host's ``scene``."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from .scene import Scene, scene_of

Factory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, Factory] = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop  # a missing uvloop is an error and skips no test: the extra ``all`` installs it

    LOOPS["uvloop"] = uvloop.new_event_loop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Factory]:
    """Return all loops for a test that sets ``loop_factories``, and asyncio's loop alone for any other test."""
    mark = item.get_closest_marker("asyncio")
    return LOOPS if mark is not None and "loop_factories" in mark.kwargs else {"asyncio": LOOPS["asyncio"]}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write a line if uvloop is not available; pytest also counts each test that needs uvloop as skipped."""
    if "uvloop" not in LOOPS:
        terminalreporter.write_line("the runner's tests ran under asyncio's own loop alone: uvloop is not for Windows")


@pytest.fixture
async def scene(migrated_dsn: str) -> AsyncIterator[Scene]:
    """An engine on a migrated database of its own."""
    made = await scene_of(migrated_dsn)
    async with made.engine:
        yield made
