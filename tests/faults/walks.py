"""What a worker process does: the runner's loops, or a short walk through one part of the library."""

from collections.abc import Awaitable, Callable, Mapping

from escalation_adapters.runner import run
from escalation_core import Engine


async def _run(engine: Engine) -> None:
    await run(engine)


WALKS: Mapping[str, Callable[[Engine], Awaitable[None]]] = {"run": _run}
