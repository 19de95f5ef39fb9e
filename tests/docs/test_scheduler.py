"""The recipe for APScheduler ends without a traceback, while a tick is sending a page."""

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from .pages import DOCS, blocks

[RECIPE] = [
    block.text
    for block in blocks(DOCS / "how-to/embed-with-your-scheduler.md", "python")
    if "AsyncIOScheduler" in block.text
]
SLOW = """
import asyncio, logging
from escalation_core.testing import RecordingNotifier
logging.basicConfig(level="INFO")
send = RecordingNotifier.send
async def slowly(self, page):
    print("sending", flush=True)
    await asyncio.sleep(0.6)  # a send that takes a while: Ctrl-C comes in the midst of it
    print("sent", flush=True)
    return await send(self, page)
RecordingNotifier.send = slowly
"""
"""Makes the notifier of the recipe slow, so that it is sending when the recipe stops."""


def ended(text: str, *, ctrl_c: bool = False) -> Sequence[Any]:
    """Run the recipe in a process; return its exit code, its output and its log."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOW + text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        if ctrl_c:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        return process.returncode, begun + out, err


def test_recipe_ends_without_a_traceback() -> None:
    """The recipe stops while a page is being sent: the page is sent, the tick ends, and no error is logged."""
    code, out, err = ended(RECIPE)
    assert (0, "sending\nsent\n") == (code, out), err
    assert "executed successfully" in err
    assert not re.search("Traceback|ERROR|WARNING", err), err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_recipe_ends_at_ctrl_c() -> None:
    """Ctrl-C ends the recipe with Python's own KeyboardInterrupt; the page is sent, and the job logs no error."""
    forever = RECIPE.replace("0.2, stop.set", "60, stop.set")
    assert forever != RECIPE
    code, out, err = ended(forever, ctrl_c=True)
    assert "sending\nsent\n" == out, err
    assert 0 != code
    assert "raised an exception" not in err, err
    assert err.rstrip().endswith("KeyboardInterrupt"), err


def test_shutdown_alone_logs_a_traceback() -> None:
    """If the recipe does not wait for the tick, APScheduler logs a traceback: the recipe still needs its order."""
    hasty = re.sub(r" +await engine.tick\(\).*\n", "", RECIPE)
    assert hasty != RECIPE
    assert "raised an exception" in ended(hasty)[2]
