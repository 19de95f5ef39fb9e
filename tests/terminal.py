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
from collections.abc import Mapping, Sequence

import attrs

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
    interrupt_after: str | None = None,
) -> Shown:
    """Run a program in a terminal. With ``interrupt_after``, press Ctrl-C once it has shown this text.

    Raises:
        TimeoutError: the program did not end in time; it is killed then.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    try:
        process = subprocess.Popen(
            words, env=dict(env), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        try:
            shown = _read(ours, process, interrupt_after)
            return Shown(shown, process.wait(MAX_WAIT_SECONDS))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    finally:
        os.close(ours)


def _read(terminal: int, process: "subprocess.Popen[bytes]", interrupt_after: str | None) -> str:
    """Return all that the program shows until it closes the terminal."""
    shown, end = b"", time.monotonic() + MAX_WAIT_SECONDS
    while select.select([terminal], [], [], max(end - time.monotonic(), 0))[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other side has closed the terminal
            piece = b""
        if not piece:
            return shown.decode().replace("\r\n", "\n")
        shown += piece
        if interrupt_after is not None and interrupt_after.encode() in shown:
            process.send_signal(signal.SIGINT)
            interrupt_after = None
    raise TimeoutError(f"the program did not end in {MAX_WAIT_SECONDS:.0f} seconds; it had shown {shown!r}")
