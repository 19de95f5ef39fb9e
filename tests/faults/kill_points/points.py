"""The kill points: every await that a worker's work reaches."""

import ast
import fcntl
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from pkgutil import ModuleInfo, walk_packages
from typing import Any

import attrs

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.postgres import PostgresStore, limiter, migrate, scratch
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_adapters.worker.runner import run
from escalation_core import Engine

WORK = (Engine.__aenter__, Engine.__aexit__, Engine.tick, Engine.deliver, Engine.recalc, migrate.up, run)
"""The functions that a worker runs. A worker reaches each function that these reach."""
HOST = (Engine, PostgresStore, migrate, limiter, scratch)
"""Classes and modules whose public functions and methods hosts and operators call."""
ADAPTERS = (PostgresStore, SlackNotifier, HttpHeartbeat)
"""The classes that implement the ports of a worker."""
PACKAGES = ("escalation_core", "escalation_adapters.postgres")
"""Packages in which a worker or a host must reach each await."""
ONLY_FOR_TESTS = (
    "escalation_core.testing", "escalation_core.ports", "escalation_adapters.postgres.host",
    "escalation_adapters.postgres.testing",
)  # fmt: skip
"""Modules of these packages that no worker and no host runs: the kits for tests, and protocols without a body."""
OF_HOSTS = ("escalation_adapters.postgres.host_transaction", "escalation_adapters.postgres.host_connection")
"""Modules for verbs in a host's own transaction. A worker's engine has a store, and types do not show that."""
CACHE = Path(__file__).parents[1] / "results"


@attrs.frozen(order=True)
class Point:
    """A line with an await."""

    module: str
    line: int
    function: str = attrs.field(eq=False)

    @property
    def path(self) -> str:
        """The file of the module."""
        return path_of(self.module)

    def __str__(self) -> str:
        return f"{self.module.rpartition('.')[2]}:{self.line} {self.function}"


@attrs.frozen
class Awaits:
    """The lines with an await, by the process that reaches them."""

    worker: Sequence[Point]
    host: Sequence[Point]
    """Lines that hosts and operators reach, and workers do not."""
    unreached: Sequence[Point]
    """Lines that no process reaches: the search has missed a function, or the function is not used."""


@cache
def path_of(module: str) -> str:
    """Return the file of an installed module."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no module {module}")
    return spec.origin


@cache
def awaits() -> Awaits:
    """Return all awaits. The search takes some seconds, so a file keeps its result until the sources change.

    Processes that call this at the same time wait for one search.
    """
    CACHE.mkdir(exist_ok=True)
    kept = CACHE / f"awaits-{_fingerprint()}.json"
    with (CACHE / "awaits.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            for old in CACHE.glob("awaits-*.json"):
                old.unlink()
            kept.write_text(json.dumps(attrs.asdict(_search())), encoding="utf-8")
    found = json.loads(kept.read_text(encoding="utf-8"))
    return Awaits(**{name: [Point(**point) for point in points] for name, points in found.items()})


def _search() -> Awaits:
    from .search import Program, full_name

    adapters = [each.__module__ for each in ADAPTERS]
    modules = {module.name for package in PACKAGES for module in _modules(package)}
    modules = {module for module in modules if not module.startswith(ONLY_FOR_TESTS)}
    modules |= {*adapters, *(each.__module__ for each in WORK)}
    program = Program(sorted(modules), implementations=["escalation_adapters.postgres", *adapters])
    worker = {each for each in program.reached(full_name(each) for each in WORK) if each[0] not in OF_HOSTS}
    host = set(program.reached(full_name(each) for of in HOST for each in _public(of))) - worker
    everything = {function for function, _ in program.functions.values() if function[0] in modules}
    groups = {"worker": worker, "host": host, "unreached": everything - worker - host}
    return Awaits(**{name: sorted(_points(functions)) for name, functions in groups.items()})


def _public(of: Any) -> Iterator[Any]:
    """Yield the functions and methods of a module or a class, as a host may call them."""
    for name, member in inspect.getmembers(of):
        if name.startswith("_") or not getattr(member, "__module__", "").startswith(PACKAGES):
            continue
        if inspect.isclass(member):
            yield from _public(member)
        else:
            yield member


def _modules(package: str) -> Iterator[ModuleInfo]:
    return walk_packages([str(Path(path_of(package)).parent)], f"{package}.")


def _points(functions: set[tuple[str, str]]) -> set[Point]:
    found = set()
    for module in {module for module, _ in functions}:
        nodes = dict(_functions(ast.parse(Path(path_of(module)).read_text(encoding="utf-8")).body))
        for name in {name for of, name in functions if of == module and name in nodes}:
            found |= {Point(module, line, name) for line in _lines(nodes[name])}
    return found


def _functions(body: Sequence[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{owner}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{owner}{node.name}", node


def _lines(function: ast.AST) -> Iterator[int]:
    """Yield the lines at which a function may be suspended."""
    for node in ast.walk(function):
        if isinstance(node, ast.AsyncWith):
            # Not the line of ``async with``: not every Python runs it if the expression begins on a later line.
            yield node.items[0].context_expr.lineno
        elif isinstance(node, ast.Await | ast.AsyncFor):
            yield node.lineno


def _fingerprint() -> str:
    """Return a hash of the library's sources and of the search."""
    text = sha256(Path(__file__).read_bytes() + Path(__file__).with_name("search.py").read_bytes())
    for package in ("escalation_core", "escalation_adapters"):
        for path in sorted(Path(path_of(package)).parent.rglob("*.py")):
            text.update(path.read_bytes())
    return text.hexdigest()[:16]


def line_calling(caller: Callable[..., Any], callee: Callable[..., Any]) -> Point:
    """Return the first line at which one function calls another.

    Raises:
        LookupError: the function does not call the other one.
    """
    lines, first = inspect.getsourcelines(caller)
    tree = ast.parse(inspect.cleandoc("\n" + "".join(lines)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if called == callee.__name__:
                return Point(caller.__module__, first + node.lineno - 1, caller.__qualname__)
    raise LookupError(f"{caller.__qualname__} does not call {callee.__name__}")
