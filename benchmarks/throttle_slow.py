"""The part ``throttle`` with a receiver that takes one page a second, as Slack does: about twelve minutes."""

from rich.progress import Progress

from . import throttle
from .ground import Ground
from .results import Result

RATE = 1.0


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:  # noqa: ARG001 - parts are called alike
    """Measure once."""
    return throttle.measure(ground, progress, "throttle_slow", RATE)
