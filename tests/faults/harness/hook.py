"""A hook on lines of code: what lets a test stop or kill a process exactly there.

``sys.monitoring`` where there is one, which costs nothing elsewhere; else ``sys.settrace``.
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
"""The lines that are watched, by file."""
How = Literal["kill", "soon", "stop"]
"""Killed at the line, a moment later, or stopped there until somebody lets it go on."""
LATER = 0.02
"""How many seconds a kill that comes soon may take at most: for as long as an await of the database lasts, mostly."""


def watch(lines: Lines, met: Callable[[str, int], None]) -> None:
    """Call ``met`` each time that a line is about to run."""
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
class Act:
    """What happens to the process at a point: there, the ``nth`` time that it is reached."""

    point: Point
    how: How = "kill"
    nth: int = 1
    after: float = 0.0
    """Seconds that a kill which comes soon waits."""

    def arm(self, told: Callable[[], None] = lambda: None) -> None:
        """Let it happen in this process; ``told`` is called just before."""
        times = 0

        def met(path: str, line: int) -> None:
            nonlocal times
            times += 1
            if times != self.nth:
                return
            told()
            if self.how == "soon":
                threading.Thread(target=_later, args=(self.after,), daemon=True).start()
            else:
                os.kill(os.getpid(), signal.SIGSTOP if self.how == "stop" else signal.SIGKILL)

        watch({self.point.path: {self.point.line}}, met)


def linger() -> None:
    """Wait for a kill that is to come soon."""
    if _coming:
        sleep(60)


_coming: list[float] = []


def _later(seconds: float) -> None:
    _coming.append(seconds)
    sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def count(among: Sequence[Point]) -> Counter[Point]:
    """Count from now on how often each point is reached."""
    by_place = {(point.path, point.line): point for point in among}
    lines: dict[str, set[int]] = {}
    for path, line in by_place:
        lines.setdefault(path, set()).add(line)
    counts: Counter[Point] = Counter()
    if among:
        watch(lines, lambda path, line: counts.update([by_place[path, line]]))
    return counts
