"""Expand a calendar in a process of its own, which ends after a few seconds and has little memory.

A thread is not enough. A rule such as ``FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30`` is searched for until the year 9999, and
no bound on the size of a file sees that. A thread cannot be killed, holds the interpreter's lock while it searches, and
fills the worker's memory. A process can be killed, and its memory has a limit. It also has icalendar's own settings:
neither ``icalendar.use_pytz()`` in the host nor the time zones that another calendar defines change what it reads.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime

from escalation_core import InvalidValue
from escalation_core.rules.shifts import Shift, Shifts

from .expand import FIELD, expand

if sys.platform != "win32":
    import resource

MAX_SECONDS = 10.0
"""The longest time that a calendar may take. A calendar of 1 MiB takes about one second."""
MAX_MEMORY_BYTES = 512 * 1024**2
"""The most memory that the process may map. A calendar of 1 MiB needs a quarter of it."""
_REMEDY = "use a calendar of on-call shifts"
_KEPT = ("LD_LIBRARY_PATH", "PYTHONTZPATH", "SYSTEMROOT")
"""The variables that the process gets: no secret is among them."""


async def expanded(content: bytes, start: datetime, end: datetime) -> Shifts:
    """Return the shifts of a calendar that overlap the window from ``start`` to its horizon ``end``.

    Raises:
        InvalidValue: the content is not a calendar, cannot be read for certain, or takes too much time or memory.
    """
    answer = await _run(content, start, end)
    return await asyncio.to_thread(_read, answer, start, end)


async def _run(content: bytes, start: datetime, end: datetime) -> bytes:
    """Return what the process writes. It is killed when the time is over, and when the caller is cancelled."""
    try:
        # The child imports what this process can import, except from the folder in which it runs.
        env = {name: os.environ[name] for name in _KEPT if name in os.environ}
        env["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", __name__, start.isoformat(), end.isoformat(), env=env,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, TypeError, ValueError) as error:
        # A host may have put anything into sys.path, and sys.executable may be None.
        fault = f"cannot be read: no process starts ({getattr(error, 'strerror', None) or type(error).__name__})"
        raise InvalidValue(FIELD, fault, "let this process start another Python") from None
    try:
        async with asyncio.timeout(MAX_SECONDS):
            answer, _ = await child.communicate(content)
    except TimeoutError:
        raise InvalidValue(FIELD, f"takes longer than {MAX_SECONDS:g} seconds to read", _REMEDY) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise InvalidValue(FIELD, f"cannot be read: its process ended with code {child.returncode}", _REMEDY)
    return answer


def _read(answer: bytes, start: datetime, end: datetime) -> Shifts:
    found = json.loads(answer)
    if isinstance(found, dict):
        raise InvalidValue(FIELD, found["fault"], found["remedy"])
    shifts = [
        Shift(person=person, start=datetime.fromisoformat(first), end=datetime.fromisoformat(last))
        for person, first, last in found
    ]
    return Shifts(shifts=shifts, horizon=end, known_from=start)


def main(arguments: Sequence[str]) -> None:
    """Read a calendar from the standard input; write its shifts, or its fault, to the standard output as JSON."""
    _limit()
    start, end = map(datetime.fromisoformat, arguments)
    answer: object
    try:
        shifts = expand(sys.stdin.buffer.read(), start, end)
        answer = [[each.person, each.start.isoformat(), each.end.isoformat()] for each in shifts]
    except InvalidValue as fault:
        answer = {"fault": fault.fault, "remedy": fault.remedy}
    except MemoryError:
        answer = {"fault": "takes too much memory to read", "remedy": _REMEDY}
    except Exception as error:  # noqa: BLE001 - the libraries raise many kinds for a faulty calendar
        answer = {"fault": f"cannot be read ({type(error).__name__})", "remedy": "export the calendar again"}
    sys.stdout.write(json.dumps(answer))


def _limit() -> None:
    """Limit memory and processor time, except on Windows. So the process also ends if the worker is gone."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (2 * int(MAX_SECONDS), 2 * int(MAX_SECONDS)))


if __name__ == "__main__":
    main(sys.argv[1:])
