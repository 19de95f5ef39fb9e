"""Workloads for the tests of a comparison. They measure a tiny library: see ``test_bench_against``."""

import os
import sys
from pathlib import Path

from benchmarks.against.workload import Meter, workload


def note(text: object) -> None:
    """Append a line to the file that the test reads."""
    with Path(os.environ["COMPARED"]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


@workload()
def works_on_both(meter: Meter) -> None:
    """Note the library's version in two blocks."""
    from escalation_core import __version__

    assert list(meter.folder.iterdir()) == []
    (meter.folder / "file").touch()
    for block in "ab":
        with meter.measure("noting", rows=10):
            note(f"{__version__}{block}")


@workload()
def needs_a_new_name(meter: Meter) -> None:
    """Import what only the later library has."""
    from escalation_core import Policies

    with meter.measure(rows=len(Policies.__name__)):
        pass


@workload()
def needs_a_new_name_late(meter: Meter) -> None:
    """Import inside a block, as the library itself may, what only the later library has."""
    with meter.measure(rows=1):
        from escalation_core import Policies

        note(Policies.__name__)


@workload()
def fails_on_the_older(meter: Meter) -> None:
    """Fail with the first library, inside a block."""
    from escalation_core import __version__

    with meter.measure(rows=1):
        if __version__ == "1":
            raise ValueError("the older library has it otherwise")


@workload()
def fails_on_the_newer(meter: Meter) -> None:
    """Fail with the library of this tree, before a block."""
    from escalation_core import __version__

    if __version__ == "2":
        raise ValueError("this tree has a fault")


@workload()
def waits(meter: Meter) -> None:
    """Note the process, and wait until it is killed."""
    with meter.measure(rows=1):
        note(os.getpid())
        sys.stdin.read()
