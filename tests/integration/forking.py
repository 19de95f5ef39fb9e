"""A program that opens a URL's store, forks, prints the child's refusal, and uses the store in the parent."""

import asyncio
import os
import subprocess
import sys

from escalation_adapters.worker.app import open_store
from escalation_core import Engine, EscalationError
from escalation_core.ports import Store

HEARD = "the child is refused: this store was used before this process was forked; open one for each loop and process"


def heard(url: str) -> str:
    """Run the program, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, url], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    return done.stdout


def tell(line: str) -> None:
    """Write a line and flush it: a child that ends with ``os._exit`` does not flush its output."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def child(store: Store) -> None:
    """Use the parent's store, as a host does that opens a store before it forks; print the refusal."""
    try:
        async with Engine(store) as engine:
            await engine.open("child")
    except EscalationError as refusal:
        tell(f"the child is refused: {refusal}")


def main(url: str) -> None:
    """Fork between two calls, while no event loop runs."""
    with asyncio.Runner() as runner:
        engine = Engine(runner.run(open_store(url)))
        runner.run(engine.open("before"))
        number = os.fork()
        if number == 0:
            # The child always ends as multiprocessing's children do: it must not close the objects that it inherited.
            try:
                asyncio.run(child(engine.store))
            finally:
                os._exit(0)
        os.waitpid(number, 0)
        runner.run(engine.open("after"))
        tell("the parent goes on")
        runner.run(engine.aclose())


if __name__ == "__main__":
    main(sys.argv[1])
