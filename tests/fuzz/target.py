"""One property, fuzzed by atheris: ``python -m tests.fuzz.target MODULE NAME``, and libFuzzer's options."""

import importlib
import sys

import atheris
from hypothesis import HealthCheck, settings

# libFuzzer takes care of speed and repetition here, instead of hypothesis.
settings.register_profile("guided", database=None, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("guided")

with atheris.instrument_imports(include=["escalation_core", "escalation_adapters", "cronsim"]):
    # The properties import the code that they test; other modules import these modules late.
    for _room in ("escalation_core.engine.telemetry", "escalation_adapters.sqlite", "escalation_adapters.postgres"):
        importlib.import_module(_room)
    _module = importlib.import_module(sys.argv[1])


def main() -> None:
    """Fuzz until libFuzzer's time is over or a property fails."""
    atheris.Setup([sys.argv[0], *sys.argv[3:]], getattr(_module, sys.argv[2]).hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
