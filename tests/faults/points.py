"""Where a worker can be killed: every await of ours that its work reaches, found from the syntax tree.

From the roots on (tick, deliver, recalc, migrate, run) each name that is used leads to the functions that it may mean.
``RECEIVERS`` says what stands behind an attribute such as ``tx.outbox``; what is foreign is named too, so that a new
name is met with an error, not silence.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import attrs

from .rooms import ELSEWHERE, FOREIGN, RECEIVERS, ROOMS, ROOTS


@cache
def path_of(module: str) -> str:
    """Return the file of a module as it is installed."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no module {module}")
    return spec.origin


@attrs.frozen(order=True)
class Point:
    """One line with an await."""

    module: str
    line: int
    function: str = attrs.field(eq=False)

    @property
    def path(self) -> str:
        """The file that it stands in."""
        return path_of(self.module)

    def __str__(self) -> str:
        return f"{self.module.rpartition('.')[2]}:{self.line} {self.function}"


@attrs.frozen
class Function:
    """A function or a method, with what is nested in it."""

    module: str
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef = attrs.field(eq=False)

    @property
    def owner(self) -> str | None:
        """The class that it belongs to."""
        return self.name.rpartition(".")[0] or None


@attrs.define
class Source:
    """What is defined in the rooms."""

    functions: dict[tuple[str, str], Function] = attrs.field(factory=dict)
    bases: dict[str, list[str]] = attrs.field(factory=dict)
    classes: dict[str, str] = attrs.field(factory=dict)
    imported: dict[tuple[str, str], str] = attrs.field(factory=dict)

    @classmethod
    def read(cls) -> "Source":
        """Read the rooms."""
        source = cls()
        for module in ROOMS:
            tree = ast.parse(Path(path_of(module)).read_text(encoding="utf-8"))
            for node in tree.body:
                source._take(module, node)
        return source

    def _take(self, module: str, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions[module, node.name] = Function(module, node.name, node)
        elif isinstance(node, ast.ClassDef):
            self.classes[node.name] = module
            self.bases[node.name] = [ast.unparse(base).partition("[")[0] for base in node.bases]
            for part in node.body:
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                    self.functions[module, f"{node.name}.{part.name}"] = Function(
                        module, f"{node.name}.{part.name}", part
                    )
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                self.imported[module, alias.asname or alias.name] = alias.name

    def method(self, owner: str, name: str) -> Function | None:
        """Return a method of a class, or of one that it is made from."""
        found = self.functions.get((self.classes.get(owner, ""), f"{owner}.{name}"))
        if found is not None:
            return found
        return next((at for base in self.bases.get(owner, ()) if (at := self.method(base, name)) is not None), None)

    def named(self, module: str, name: str) -> Iterator[Function]:
        """Yield what a bare name means: a function of the module, or one that it imports; a class means its doors."""
        imported = (module, name) in self.imported
        name = self.imported.get((module, name), name)
        here = self.functions.get((module, name))
        if here is not None:
            yield here
            return
        if name in self.classes:
            for door in ("__init__", "__aenter__", "__aexit__"):
                if (found := self.method(name, door)) is not None:
                    yield found
            return
        if imported:
            yield from (function for (_, known), function in self.functions.items() if known == name)

    def attribute(self, function: Function, node: ast.Attribute) -> Iterator[Function]:
        """Yield what ``x.name`` means.

        Raises:
            LookupError: nothing is known of x, and a function of ours has that name.
        """
        receiver = node.value
        if isinstance(receiver, ast.Name):
            last = receiver.id
        elif isinstance(receiver, ast.Attribute):
            last = receiver.attr
        elif isinstance(receiver, ast.Call) and isinstance(receiver.func, ast.Attribute):
            last = receiver.func.attr
        else:
            return
        if last in ("self", "cls") and function.owner is not None:
            owner: str | None = function.owner
        else:
            owner = RECEIVERS.get(last, last if last in self.classes else None)
        if owner is None:
            ours = [known for _, known in self.functions if known.rpartition(".")[2] == node.attr]
            if ours and last not in FOREIGN:
                raise LookupError(f"{function.module} {function.name}: what is {last!r} in {ast.unparse(node)}?")
            return
        found = self.functions.get((owner, node.attr)) if "." in owner else self.method(owner, node.attr)
        if found is not None:
            yield found


def reached() -> list[Function]:
    """Return every function that the roots lead to."""
    source = Source.read()
    todo = [source.functions[root] for root in ROOTS]
    seen: dict[Function, None] = {}
    while todo:
        function = todo.pop()
        if function in seen:
            continue
        seen[function] = None
        for node in ast.walk(function.node):
            if isinstance(node, ast.Name):
                todo += source.named(function.module, node.id)
            elif isinstance(node, ast.Attribute):
                todo += source.attribute(function, node)
    return list(seen)


def awaits(function: Function) -> Iterator[int]:
    """Yield the lines at which a function may be suspended."""
    for node in ast.walk(function.node):
        if isinstance(node, ast.AsyncWith):
            # The line of a bracket alone, with what is entered below it, is none that runs in every Python.
            yield node.items[0].context_expr.lineno
        elif isinstance(node, ast.Await | ast.AsyncFor):
            yield node.lineno


def points() -> list[Point]:
    """Return every line with an await that the roots lead to, in order."""
    return sorted({Point(at.module, line, at.name) for at in reached() for line in awaits(at)})


def unreached() -> list[str]:
    """Return every function of the rooms that may be suspended and that no root leads to."""
    known = set(reached())
    return [at.name for at in Source.read().functions.values() if at not in known and any(awaits(at))]


def line_of(module: str, function: str, text: str) -> Point:
    """Return the first line of a function that holds a text.

    Raises:
        LookupError: there is none.
    """
    node = Source.read().functions[module, function].node
    lines = Path(path_of(module)).read_text(encoding="utf-8").splitlines()
    for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        if text in lines[number - 1]:
            return Point(module, number, function)
    raise LookupError(f"{module} {function} has no {text!r}")


def forgotten() -> list[str]:
    """Return the modules of the core and of the PostgreSQL store that have an await and stand nowhere in this file."""
    found = []
    for package in ("escalation_core", "escalation_adapters.postgres"):
        root = Path(path_of(package)).parent
        for path in sorted(root.rglob("*.py")):
            module = ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
            if module.startswith(("escalation_core.testing", "escalation_core.ports")):
                continue  # what workers never run, and protocols without a body
            kinds = ast.Await | ast.AsyncWith | ast.AsyncFor
            if any(isinstance(node, kinds) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
                found.append(module)
    return [module for module in found if module not in (*ROOMS, *ELSEWHERE)]
