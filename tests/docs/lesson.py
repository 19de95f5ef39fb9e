"""The lessons about policies: their files are saved, and their commands run in a terminal, one after the other.

``python -m tests.docs.lesson`` writes the screens into the pages.
"""

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..acceptance.console import PROGRAM, environment
from ..faketime import standing_still
from ..terminal import run
from .pages import DOCS, exports

PAGES = (DOCS / "tutorial/first-policy.md", DOCS / "tutorial/rotation.md")
WIDTH = 80
NOW = datetime(2026, 3, 27, 20, 0, tzinfo=UTC)
"""The instant at which the first command runs."""
STEP = timedelta(seconds=8)
"""The time from one command to the next."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+)\n")


def screens(page: Path) -> Iterator[tuple[str, str, str]]:
    """Do what a page says, in order; yield each command, its screen on the page and its screen now."""
    env = environment({}) | {"TZ": "UTC", "TERM": "dumb", "PYTHONUTF8": "1", "USER": "primary", "LOGNAME": "primary"}
    now = NOW
    with tempfile.TemporaryDirectory() as folder:
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            language, text = match.groups()
            if language == "bash":
                env |= dict(exports(text))
            elif language in ("yaml", "python"):
                named = _FILE.match(text)
                assert named is not None, f"a block does not say its file: {text}"
                Path(folder, named[1]).write_text(text, encoding="utf-8")
            elif language == "console":
                first, _, written = text.partition("\n")
                command = first.removeprefix("$ ")
                yield command, written, _screen(command, env | standing_still(now), folder)
                now += STEP


def _screen(command: str, env: dict[str, str], folder: str) -> str:
    program, *words = shlex.split(command)
    found = {"escalation": PROGRAM, "python": (sys.executable, "-W", "error")}[program]
    shown = run([*found, *words], env, width=WIDTH, cwd=folder)
    assert 0 == shown.code, shown
    return "".join(f"{line.rstrip()}\n" for line in shown.text.splitlines())


def main() -> None:
    """Write the screens into the pages."""
    for page in PAGES:
        text, at = page.read_text(encoding="utf-8"), 0
        for command, written, shown in screens(page):
            fence = f"```console\n$ {command}\n"
            at = text.index(f"{fence}{written}```", at)
            text = f"{text[:at]}{fence}{shown}{text[at + len(fence) + len(written) :]}"
            at += len(fence)
            sys.stdout.write(f"$ {command}\n{shown}\n")
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
