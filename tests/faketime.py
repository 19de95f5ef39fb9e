"""A PostgreSQL server of a test's own whose clock goes wrong, and steps, while it runs (libfaketime)."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from escalation_adapters.embedded import EmbeddedPostgres

LIBRARY = "libfaketimeMT.so.1"


def faking(offset: Path) -> dict[str, str]:
    """Return the environment of a process whose wall clock is wrong by the seconds that a file says, and may step.

    Timers go by the monotonic clock, which no administrator and no time server can set; it is left alone.
    """
    [library] = sorted(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))[:1]
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


class SteppingPostgres(EmbeddedPostgres):
    """A server whose clock is put wrong with ``step``. It starts with the right time."""

    def step(self, offset: timedelta) -> None:
        """Put its clock ahead of the true time by ``offset``, or behind; zero puts it right.

        A file in one piece replaces the one before: a process that reads just then finds either of them.
        """
        new = self.folder / "clock.new"
        new.write_text(f"{offset.total_seconds():+.0f}")
        new.chmod(0o644)  # whoever runs the server reads it
        new.replace(self._clock)

    @property
    def _clock(self) -> Path:
        return self.folder / "clock"

    def _identity(self) -> dict[str, Any]:
        """Return how to run a program: as the wrong clock's, which is made before the first of them runs."""
        if not self._clock.exists():
            self.step(timedelta())
        return super()._identity() | {"env": os.environ | faking(self._clock)}
