"""``--app``: an engine, or a function that makes one, and each fault of a module and of a function."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from escalation_adapters.worker.engine_in_code import find_app, make_engine
from escalation_core import Engine, InvalidValue, StoreUnavailable
from escalation_core.testing import MemoryStore

HUSH = "hush-hush-hush"
REMEDY = "name an Engine, or a function without arguments, def or async def, that returns one"


async def opened(module: ModuleType, attribute: object) -> Engine:
    module.engine = attribute  # type: ignore[attr-defined]
    return await make_engine("pager:engine", find_app("pager:engine"))


async def test_engine_itself(module: ModuleType) -> None:
    """An engine is used as it is."""
    engine = Engine(MemoryStore())
    assert engine is await opened(module, engine)


async def test_functions(module: ModuleType) -> None:
    """A function, synchronous or not, makes the engine in the loop that runs it."""
    loops: list[asyncio.AbstractEventLoop] = []

    def plain() -> Engine:
        loops.append(asyncio.get_running_loop())
        return Engine(MemoryStore())

    async def later() -> Engine:
        return plain()

    for make in (plain, later):
        assert isinstance(await opened(module, make), Engine)
    assert {asyncio.get_running_loop()} == set(loops)


def raises(error: BaseException) -> Callable[[], Engine]:
    def make() -> Engine:
        raise error

    return make


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        (None, f"is NoneType; {REMEDY}"),
        ("text", f"is str; {REMEDY}"),
        (lambda: None, f"returned None; {REMEDY}"),
        (MemoryStore, f"returned MemoryStore; {REMEDY}"),
        (Engine, r"raised TypeError, .*; repair it; call it in a test of the service to see the whole error"),
        (raises(KeyError(HUSH)), r"raised KeyError, .*test_engine_in_code\.py:\d+; repair it; .*"),
        (raises(SystemExit(HUSH)), r"raised SystemExit, .*"),
    ],
)
async def test_wrong_attribute(attribute: object, said: str, module: ModuleType) -> None:
    """The message names the option, the fault and the remedy; of another library's error it has no text."""
    with pytest.raises(InvalidValue, match=f"^--app pager:engine: {said}$") as caught:
        await opened(module, attribute)
    assert HUSH not in str(caught.value)


async def test_error_of_the_library(module: ModuleType) -> None:
    """An error of the library stays what it is, for example while the database is down."""
    with pytest.raises(StoreUnavailable, match=r"^the database is down$"):
        await opened(module, raises(StoreUnavailable("the database is down")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pager", "does not name an attribute of a module; write package.module:attribute"),
        ("pager:", "does not name an attribute of a module; write package.module:attribute"),
        ("pager:other", "the module pager has no 'other'; correct the name"),
        ("no_such_pager:engine", "the module no_such_pager does not exist; correct the name, install its package, or"),
        (":engine", "does not name an attribute of a module; write package.module:attribute"),
        (".pager:engine", "does not name an attribute of a module; write package.module:attribute"),
    ],
)
def test_wrong_name(name: str, said: str, module: ModuleType) -> None:
    """A name that leads nowhere is refused."""
    with pytest.raises(InvalidValue, match="^" + re.escape(f"--app {name}: {said}")):
        find_app(name)


HANGS = {
    "the import": "import threading\nthreading.Event().wait()\n",
    "a function": "import threading\ndef engine():\n    threading.Event().wait()\n",
    "an async function": "import asyncio\nasync def engine():\n    await asyncio.Event().wait()\n",
}
PROGRAM = """
import asyncio
from escalation_adapters.worker import engine_in_code
engine_in_code.MAKE_TIMEOUT = 0.05
asyncio.run(engine_in_code.make_engine("hangs:engine", engine_in_code.find_app("hangs:engine")))
"""


@pytest.mark.parametrize("what", HANGS)
def test_what_hangs_ends_the_process(what: str, tmp_path: Path) -> None:
    """A module or a function that hangs ends the process with one line and exit code 1, so a supervisor notices."""
    (tmp_path / "hangs.py").write_text(HANGS[what])
    path = [place for place in sys.path if place]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {['', *path]!r}\n{PROGRAM}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    expected = "escalation: --app hangs:engine: has given no engine within 0.05 s; find what it waits for\n"
    assert (1, "", expected) == (done.returncode, done.stdout, done.stderr)
