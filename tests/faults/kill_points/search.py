"""Find every function that a worker reaches, with mypy's types.

A function reaches each function, method and class that its code names. mypy gives the type of an attribute, for example
``tx.outbox``. A method of a protocol counts as the methods of all classes that implement it.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from types import FunctionType
from typing import Any

from mypy import build, nodes, state, types
from mypy.modulefinder import BuildSource
from mypy.options import Options
from mypy.subtypes import is_protocol_implementation
from mypy.traverser import NameAndMemberCollector

Reached = tuple[str, str]
"""A function: its module, and its name with the name of its class."""


class Program:
    """Some packages, with the type of each expression.

    Args:
        modules: the modules to read. The program also includes the modules that they import.
        implementations: the packages whose classes implement protocols.
    """

    def __init__(self, modules: Sequence[str], implementations: Sequence[str]) -> None:
        options = Options()
        options.preserve_asts = options.export_types = True
        options.incremental = False
        options.follow_imports = "silent"
        sources = [BuildSource(spec.origin, name) for name in modules if (spec := find_spec(name)) is not None]
        result = build.build(sources, options)
        if result.errors:
            raise RuntimeError("\n".join(result.errors[:10]))
        self.types = result.types
        ours = tuple({name.partition(".")[0] for name in modules})
        self.files = {name: tree for name, tree in result.files.items() if name.startswith(ours)}
        self.functions: dict[str, tuple[Reached, nodes.FuncDef]] = {}
        self.classes: dict[str, nodes.ClassDef] = {}
        for name, tree in self.files.items():
            self._take(name, "", tree.defs)
        concrete = [each.info for each in self.classes.values() if not each.info.is_protocol]
        self.implementing = [info for info in concrete if info.module_name.startswith(tuple(implementations))]

    def _take(self, module: str, owner: str, body: Iterable[nodes.Statement]) -> None:
        for node in body:
            if isinstance(node, nodes.ClassDef):
                self.classes[node.fullname] = node
                self._take(module, f"{owner}{node.name}.", node.defs.body)
            elif isinstance(node, nodes.OverloadedFuncDef):
                self._take(module, owner, node.items)
            else:
                function = node.func if isinstance(node, nodes.Decorator) else node
                if isinstance(function, nodes.FuncDef):
                    self.functions[function.fullname] = ((module, f"{owner}{function.name}"), function)

    def reached(self, roots: Iterable[str]) -> list[Reached]:
        """Return the functions that some roots reach, given as full names of functions or classes.

        Raises:
            LookupError: the program has no function or class of that name.
        """
        todo, seen, found = list(roots), set[str](), list[Reached]()
        if missing := [name for name in todo if name not in self.functions and name not in self.classes]:
            raise LookupError(f"the search has not read {', '.join(missing)}")
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.classes:
                todo += self._of_class(self.classes[name])
            elif name in self.functions:
                function, node = self.functions[name]
                found.append(function)
                todo += self._named_in(node)
        return found

    def _of_class(self, node: nodes.ClassDef) -> Iterator[str]:
        """Yield the special methods of a class and its bases, and the names in assignments of the class body."""
        for base in node.info.mro:
            for name, symbol in base.names.items():
                if name.startswith("__") and symbol.node is not None:
                    yield symbol.node.fullname
        for statement in node.defs.body:
            if isinstance(statement, nodes.AssignmentStmt):
                yield from self._named_in(statement)

    def _named_in(self, node: nodes.Statement) -> Iterator[str]:
        """Yield the full names of everything that a statement names."""
        found = NameAndMemberCollector()
        node.accept(found)
        yield from (name.fullname for name in found.name_exprs if name.fullname)
        for member in found.member_exprs:
            yield from self._attribute(member)

    def _attribute(self, node: nodes.MemberExpr) -> Iterator[str]:
        """Yield the full names that ``x.name`` may refer to."""
        if node.fullname and node.node is not None:
            yield node.fullname  # a name in a module, or in a class
        receiver = self.types.get(node.expr)
        if receiver is not None:
            for info, kind in _classes(receiver):
                yield from self._methods(info, kind, node.name)

    def _methods(self, info: nodes.TypeInfo, instance: types.Instance, name: str) -> Iterator[str]:
        symbol = info.get(name)
        if symbol is not None and symbol.node is not None:
            yield symbol.node.fullname
        for other in self.implementing:
            if self._stands_for(other, info, instance) and (at := other.get(name)) is not None and at.node is not None:
                yield at.node.fullname

    def _stands_for(self, other: nodes.TypeInfo, info: nodes.TypeInfo, instance: types.Instance) -> bool:
        if info.is_protocol:
            with state.state.strict_optional_set(True):
                return is_protocol_implementation(types.Instance(other, []), instance)
        return other is not info and info in other.mro


def _classes(kind: types.Type) -> Iterator[tuple[nodes.TypeInfo, types.Instance]]:
    """Yield the classes that a value of a type may have."""
    proper = types.get_proper_type(kind)
    if isinstance(proper, types.Instance):
        yield proper.type, proper
    elif isinstance(proper, types.UnionType):
        for item in proper.items:
            yield from _classes(item)
    elif isinstance(proper, types.TypeVarType):
        yield from _classes(proper.upper_bound)
    elif isinstance(proper, types.CallableType) and proper.is_type_obj():
        yield from _classes(proper.ret_type)
    elif isinstance(proper, types.TypeType):
        yield from _classes(proper.item)


def full_name(of: Any) -> str:
    """Return the full name of a function, a method or a class."""
    if not isinstance(of, FunctionType | type):
        of = of.__func__
    return f"{of.__module__}.{of.__qualname__}"
