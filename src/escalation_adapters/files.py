"""Files: secrets that come as files (containers mount them, ``NAME_FILE`` names them), and results that go out."""

import contextlib
import os
import sys
from pathlib import Path

from escalation_core import EscalationError

MAX_BYTES = 64 * 1024
"""A secret is a line; a file beyond this is some other file, named by mistake."""


def read_secret(path: str) -> str:
    """Return the text of a UTF-8 file, for ``Settings.from_env(..., read_file=read_secret)``.

    A byte order mark is left out; trailing line feeds are the caller's to remove.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is longer than 64 KiB, or no UTF-8. Not a word of what is in it is told.
    """
    with Path(path).open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file is longer than {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    # Raised out here because a UnicodeDecodeError carries the bytes, and an exception carries the one it came from.
    raise ValueError("the file is not UTF-8")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; into a pipe or a device, which cannot be replaced, as it comes.

    Raises:
        EscalationError: it cannot be written.
    """
    unfinished: Path | None = None
    try:
        if _is_stdout(path):
            sys.stdout.write(text)
        elif path.exists() and not path.is_file():
            path.write_bytes(text.encode())
        else:
            target = Path(os.path.realpath(path))
            unfinished = target.parent / f".{target.name}.{os.getpid()}"
            unfinished.write_bytes(text.encode())
            unfinished.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            if unfinished is not None:
                unfinished.unlink()
        raise EscalationError(f"{path} cannot be written: {error.strerror}") from None


def _is_stdout(path: Path) -> bool:
    """Tell whether a path leads to where this process prints: to replace that file would lose what is printed next."""
    try:
        return path.exists() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False
