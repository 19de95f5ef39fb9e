"""The process of one side: run one workload once, with the library that is first on the path."""

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

from .workload import Meter, workloads_of


def main(source: str, module: str, name: str, folder: str, dsn: str) -> None:
    """Print an answer for each block as JSON, and at the end ``"done"``, or what the library in ``source`` lacks."""
    found = find_spec("escalation_core")
    if found is None or not Path(str(found.origin)).resolve().is_relative_to(Path(source).resolve()):
        raise SystemExit(f"escalation_core was not imported from {source}, but from {found and found.origin}")
    try:
        workloads_of(importlib.import_module(module))[name].run(Meter(Path(folder), dsn))
    except ImportError as error:
        print(json.dumps({"lacks": str(error)}))
    else:
        print(json.dumps("done"))


if __name__ == "__main__":
    main(*sys.argv[1:])
