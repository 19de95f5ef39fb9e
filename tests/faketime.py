"""A test's own PostgreSQL server with a wrong clock that steps while the server runs (libfaketime)."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from escalation_adapters.embedded import EmbeddedPostgres

LIBRARY = "libfaketimeMT.so.1"


def faking(offset: Path) -> dict[str, str]:
    """Return the environment of a process whose wall clock is off by the seconds in a file, which may change.

    Timers use the monotonic clock, which administrators and time servers cannot set, so it stays true.
    """
    return _preloaded() | {"FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}


def standing_still(local_time: datetime) -> dict[str, str]:
    """Return the environment of a process whose wall clock always shows this time, in the zone of the process."""
    return _preloaded() | {"FAKETIME": local_time.strftime("%Y-%m-%d %H:%M:%S")}


def _preloaded() -> dict[str, str]:
    [library] = sorted(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))[:1]
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


class SteppingPostgres(EmbeddedPostgres):
    """A server whose wall clock a test sets with ``step``. The server starts with the true time."""

    def step(self, offset: timedelta) -> None:
        """Set the server's clock ahead of the true time by ``offset``, or behind it; zero restores the true time.

        The new file replaces the old one at once, so a process that reads meanwhile finds one of them whole.
        """
        new = self.folder / "clock.new"
        new.write_text(f"{offset.total_seconds():+.0f}")
        new.chmod(0o644)  # the user that runs the server must read it
        new.replace(self._clock)

    @property
    def _clock(self) -> Path:
        return self.folder / "clock"

    def _identity(self) -> dict[str, Any]:
        """Return how to run a program: with the wrong clock, whose file is made before the first program runs."""
        if not self._clock.exists():
            self.step(timedelta())
        return super()._identity() | {"env": os.environ | faking(self._clock)}
