"""A terminal of a given width, in which a test runs a command and reads what it shows."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

Step = tuple[str, Callable[["subprocess.Popen[bytes]"], object]]
"""A text, and what to do once the program has shown it."""
MAX_WAIT_SECONDS = 60.0
"""The longest time that a command may take."""


@attrs.frozen
class Shown:
    """What a command wrote to its terminal, and its exit code."""

    text: str
    """With the escape sequences of the terminal."""
    code: int


def run(
    words: Sequence[str],
    env: Mapping[str, str],
    *,
    width: int = 80,
    height: int = 40,
    cwd: str | None = None,
    steps: Sequence[Step] = (),
) -> Shown:
    """Run a program in a terminal. Take each step, in order, once the program has shown the step's text.

    Raises:
        TimeoutError: the program did not end in time; it is killed then.
    """
    # These variables would override the size of the terminal.
    own = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    try:
        process = subprocess.Popen(
            words, env=own, cwd=cwd, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        try:
            shown = _read(ours, process, steps)
            return Shown(shown, process.wait(MAX_WAIT_SECONDS))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    finally:
        os.close(ours)


def interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Press Ctrl-C."""
    process.send_signal(signal.SIGINT)


def _read(terminal: int, process: "subprocess.Popen[bytes]", steps: Sequence[Step]) -> str:
    """Return all that the program shows until it closes the terminal."""
    shown, begin, left, end = b"", 0, list(steps), time.monotonic() + MAX_WAIT_SECONDS
    while select.select([terminal], [], [], max(end - time.monotonic(), 0))[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other side has closed the terminal
            piece = b""
        if not piece:
            return shown.decode().replace("\r\n", "\n")
        shown += piece
        if left and (place := shown.find(left[0][0].encode(), begin)) >= 0:
            text, take = left.pop(0)
            begin = place + len(text.encode())
            take(process)
    raise TimeoutError(f"the program did not end in {MAX_WAIT_SECONDS:.0f} seconds; it had shown {shown!r}")
