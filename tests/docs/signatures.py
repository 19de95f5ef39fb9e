"""The signatures at the end of ``docs/reference/api.md``; ``python -m tests.docs.signatures`` writes them anew."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from .pages import DOCS

PAGE = DOCS / "reference/api.md"
BEGIN, END = "<!-- signatures: begin -->\n", "<!-- signatures: end -->\n"
_DIRECTIVE = re.compile(r"^(##+ .*)$|^\.\. auto(class|exception|function|data):: (\S+)\n((?:   :.*\n)*)", re.MULTILINE)
WIDTH = 128


def expected() -> str:
    """Return the section: a heading for each of the page's, and an entry for each name, in the page's order."""
    lines: list[str] = []
    page = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    for heading, kind, name, options in _DIRECTIVE.findall(page):
        if heading:
            if heading != "## Signatures":
                lines += ["", f"**{heading.lstrip('# ')}**", ""]
        else:
            lines += _entry(kind, name, options)
    text = "\n".join(lines)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"\*\*[^*\n]+\*\*\n\n(?=\*\*)", "", text + "\n")).lstrip("\n")


def found() -> str:
    """Return the section as the page has it."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def write() -> None:
    """Write the section into the page."""
    before = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(f"{before}{BEGIN}\n{expected()}\n{END}", encoding="utf-8")


def _entry(kind: str, name: str, options: str) -> Iterator[str]:
    module, _, own = name.rpartition(".")
    made = getattr(importlib.import_module(module), own)
    if kind == "data":
        yield from _item(name, "", _data_text(importlib.import_module(module), own))
        return
    node = _node(made)
    if isinstance(node, ast.ClassDef):
        yield from _item(name, _constructor(node), made.__doc__)
        if ":no-members:" not in options or ":inherited-members:" in options:
            for member, signature, text, waits in _members(made):
                yield from _item(member, signature, text, waits=waits, indent="  ")
    else:
        yield from _item(name, _signature(node), made.__doc__, waits=isinstance(node, ast.AsyncFunctionDef))


def _item(name: str, signature: str, text: str | None, *, waits: bool = False, indent: str = "") -> list[str]:
    code = f"{'await ' if waits else ''}{name}{signature}"
    sentence = re.split(r"(?<=\.)\s", inspect.cleandoc(text or "").partition("\n\n")[0].replace("\n", " "))[0]
    sentence = re.sub(r"``([^`]*)``", r"`\1`", sentence)
    told = f"{indent}- `{code}`" + (f": {sentence}" if sentence else "")
    return textwrap.wrap(told, WIDTH, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False)


def _node(made: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(made)))).body[0]


def _signature(node: Any) -> str:
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    if plain and plain[0].arg in ("self", "cls"):
        del (given.posonlyargs or given.args)[0]
    given.posonlyargs, given.args = [], [*given.posonlyargs, *given.args]
    returned = "" if node.returns is None or node.name == "__init__" else f" -> {ast.unparse(node.returns)}"
    return f"({ast.unparse(given)}){returned}".replace("'", '"')


def _constructor(node: ast.ClassDef) -> str:
    """Return the parameters of ``__init__``, or of the fields of an attrs class."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _signature(part)
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    decorators = " ".join(map(ast.unparse, node.decorator_list))
    if "attrs." not in decorators or not fields:
        return ""
    written = [text for text in map(_field, fields) if text]
    return f"({'*, ' if 'kw_only=True' in decorators else ''}{', '.join(written)})".replace("'", '"')


def _field(part: ast.AnnAssign) -> str:
    assert isinstance(part.target, ast.Name)
    told, value = f"{part.target.id.lstrip('_')}: {ast.unparse(part.annotation)}", part.value
    if value is None:
        return told
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "attrs.field"):
        return f"{told} = {ast.unparse(value)}"
    given = {word.arg: ast.unparse(word.value) for word in value.keywords}
    if given.get("init") == "False":
        return ""
    return f"{told} = {given['default']}" if "default" in given else told + (" = ..." if "factory" in given else "")


def _members(made: type) -> Iterator[tuple[str, str, str | None, bool]]:
    """Return the public methods of a class, and those of its bases that have no entry of their own."""
    page = PAGE.read_text(encoding="utf-8")
    for owner in made.__mro__:
        if not owner.__module__.startswith("escalation_"):
            continue
        if owner is not made and f":: {owner.__module__}.{owner.__qualname__}\n" in page:
            continue
        for part in _node(owner).body:
            if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) or part.name.startswith("_"):
                continue
            decorators = [ast.unparse(each) for each in part.decorator_list]
            text, waits = ast.get_docstring(part), isinstance(part, ast.AsyncFunctionDef)
            if "property" in decorators or "cached_property" in decorators:
                returned = "" if part.returns is None else f": {ast.unparse(part.returns)}".replace("'", '"')
                yield part.name, returned, text, False
            elif not any(name.endswith("overload") for name in decorators):
                yield part.name, _signature(part), text, waits


def _data_text(module: Any, name: str) -> str | None:
    """Return the text under an assignment."""
    body = ast.parse(inspect.getsource(module)).body
    for part, after in pairwise(body):
        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
        assigned = any(isinstance(each, ast.Name) and each.id == name for each in targets)
        if assigned and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return str(after.value.value)
    return None


if __name__ == "__main__":
    write()
