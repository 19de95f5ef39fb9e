"""Workloads for the tests of a comparison. The library that they measure is a tiny one: see ``test_bench_against``."""

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
    """Note the library's number in two blocks."""
    from escalation_core import NUMBER  # type: ignore[attr-defined]

    assert list(meter.folder.iterdir()) == []
    (meter.folder / "file").touch()
    for block in "ab":
        with meter.measure("noting", rows=10):
            note(f"{NUMBER}{block}")


@workload()
def needs_a_new_name(meter: Meter) -> None:
    """Import what only the later library has."""
    from escalation_core import NEW  # type: ignore[attr-defined]

    with meter.measure(rows=NEW):
        pass


@workload()
def needs_a_new_name_late(meter: Meter) -> None:
    """Import inside a block, as the library itself may, what only the later library has."""
    with meter.measure(rows=1):
        from escalation_core import NEW  # type: ignore[attr-defined]  # noqa: F401


@workload()
def fails_on_the_older(meter: Meter) -> None:
    """Fail with the first library, inside a block."""
    from escalation_core import NUMBER  # type: ignore[attr-defined]

    with meter.measure(rows=1):
        if NUMBER == 1:
            raise ValueError("the older library has it otherwise")


@workload()
def fails_on_the_newer(meter: Meter) -> None:
    """Fail with the library of this tree, before a block."""
    from escalation_core import NUMBER  # type: ignore[attr-defined]

    if NUMBER == 2:
        raise ValueError("this tree has a fault")


@workload()
def waits(meter: Meter) -> None:
    """Note the process, and wait until it is killed."""
    with meter.measure(rows=1):
        note(os.getpid())
        sys.stdin.read()
