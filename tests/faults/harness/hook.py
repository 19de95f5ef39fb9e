"""A hook on lines of code, with which a test stops or kills a process exactly at a line.

The hook uses ``sys.monitoring`` if Python has it, because other lines then cost nothing, and else ``sys.settrace``.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from time import sleep
from types import CodeType, FrameType
from typing import Any, Literal

import attrs

from ..kill_points.points import Point

Lines = Mapping[str, AbstractSet[int]]
"""Line numbers by file."""
How = Literal["kill", "kill soon", "stop"]
"""Kill the process at the line, kill it a moment later, or stop it there until the test lets it continue."""
MAX_KILL_DELAY = 0.02
"""The longest delay of ``kill soon``, in seconds: most awaits of the database take less."""


def watch(lines: Lines, met: Callable[[str, int], None]) -> None:
    """Call ``met`` each time before one of the lines runs."""
    if sys.version_info >= (3, 12):
        _monitor(lines, met)
    else:
        _trace(lines, met)


def _trace(lines: Lines, met: Callable[[str, int], None]) -> None:
    def called(frame: FrameType, event: str, argument: object) -> Any:
        return within if frame.f_code.co_filename in lines else None

    def within(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and frame.f_lineno in lines[frame.f_code.co_filename]:
            met(frame.f_code.co_filename, frame.f_lineno)
        return within

    sys.settrace(called)


def _monitor(lines: Lines, met: Callable[[str, int], None]) -> None:
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009 - older type stubs have none
    tool, events = monitoring.DEBUGGER_ID, monitoring.events
    monitoring.use_tool_id(tool, "faults")

    def started(code: CodeType, offset: int) -> Any:
        if code.co_filename in lines:
            monitoring.set_local_events(tool, code, events.LINE)
        return monitoring.DISABLE

    def line(code: CodeType, number: int) -> Any:
        if number not in lines[code.co_filename]:
            return monitoring.DISABLE
        met(code.co_filename, number)
        return None

    monitoring.register_callback(tool, events.PY_START, started)
    monitoring.register_callback(tool, events.LINE, line)
    monitoring.set_events(tool, events.PY_START)


@attrs.frozen
class Interrupt:
    """Kills or stops the process when it reaches a point for the ``nth`` time."""

    point: Point
    how: How = "kill"
    nth: int = 1
    after: float = 0.0
    """The delay of ``kill soon``, in seconds."""

    def arm(self, before: Callable[[], None] = lambda: None) -> None:
        """Watch for the point in this process. Call ``before`` just before the interrupt."""
        times = 0

        def met(path: str, line: int) -> None:
            nonlocal times
            times += 1
            if times != self.nth:
                return
            before()
            if self.how == "kill soon":
                threading.Thread(target=_kill_later, args=(self.after,), daemon=True).start()
            else:
                os.kill(os.getpid(), signal.SIGSTOP if self.how == "stop" else signal.SIGKILL)

        watch({self.point.path: {self.point.line}}, met)


def await_kill() -> None:
    """Wait for the delayed kill, if there is one."""
    if _pending_kills:
        sleep(60)


_pending_kills: list[float] = []


def _kill_later(seconds: float) -> None:
    _pending_kills.append(seconds)
    sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def count(among: Sequence[Point]) -> Counter[Point]:
    """Count from now on how often the process reaches each point."""
    by_place = {(point.path, point.line): point for point in among}
    lines: dict[str, set[int]] = {}
    for path, line in by_place:
        lines.setdefault(path, set()).add(line)
    counts: Counter[Point] = Counter()
    if among:
        watch(lines, lambda path, line: counts.update([by_place[path, line]]))
    return counts
