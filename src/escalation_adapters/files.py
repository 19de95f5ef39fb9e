"""Read secrets from files, which containers mount and ``NAME_FILE`` names; read files of users; write result files."""

import contextlib
import os
import stat
import sys
from pathlib import Path

from escalation_core import EscalationError, InvalidValue

MAX_BYTES = 64 * 1024
"""Longest file of a secret. A secret is one line: a longer file is some other file, named by mistake."""


def read_secret(path: str) -> str:
    """Return the text of a UTF-8 file, for ``Settings.from_env(..., read_file=read_secret)``.

    A byte order mark is left out; trailing line feeds are the caller's to remove.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is longer than 64 KiB, or is not UTF-8. The message holds nothing of its content.
    """
    with Path(path).open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file is longer than {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    # Raised outside ``except``: an exception raised inside carries the UnicodeDecodeError, which holds the bytes.
    raise ValueError("the file is not UTF-8")


def read_bounded(path: Path, most: int, kind: str) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes. ``kind`` says what file to name instead.

    Raises:
        InvalidValue: the file cannot be read, is longer, or is not a regular file.
    """
    remedy = "name a file that this process may read"
    content, mode = b"", 0
    fault: str | None = None
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):  # a pipe would block
            with path.open("rb") as file:
                content = file.read(most + 1)
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    except ValueError:  # a NUL in the path
        fault = "is not a valid path"
    if fault is None and not stat.S_ISREG(mode):
        fault = "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"
    if fault is not None:
        raise InvalidValue("file", fault, remedy)
    if len(content) > most:
        raise InvalidValue("file", f"is longer than {most // 1024} KiB", f"name {kind}")
    return content


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all. A pipe or a device cannot be replaced: it gets the text directly.

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
    """Return True if a path is this process's standard output: to replace that file would lose later output."""
    try:
        return path.exists() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False
