"""The words of docstrings, comments, messages and pages: an actor in each sentence, and no figure of speech."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from .source import ROOT, SRC, modules, repository

WORDS = (
    *("nobody", "somebody", "anybody", "everybody", "whoever", "whence", "thereof", "amid", "ere", "naught"),
    *("hopes?", "silence", "patience", "company", "knocks?", "farewell", "houses?", "rooms?", "side doors?", "books"),
    *("befalls?", "lights?", "beats?", "none the worse", "(?<!there )is none", "are none", "the seed"),
    r"(?:is|are|was|were|be|been) told",
    r"(?<!quotation )(?<!question )(?<!order )mark(?:s|ed|ing)?",
)
BANNED = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
"""Words that name no actor, figures of speech, and words that the field does not use."""
REFUSED_FORM = re.compile(
    r"(?<!there) is no |^is no |is not an? (?:boolean|whole number|number|span|instant|label|JSON|URL|list|column)\b",
    re.IGNORECASE,
)
"""A message says "is not a valid X"; "there is no X" is plain and stays."""
TOKENS = re.compile(r"``[^`]*``|`[^`\n]+`")
"""Code within a text: identifiers are not prose."""
IDENTIFIERS = {"marked", "beat", "nobody"}
"""Strings that are one identifier each: a key of JSON, the name of a method, and the system's user."""
GENERATED = re.compile(r"<!-- [\w-]+: begin -->.*?<!-- [\w-]+: end -->", re.DOTALL)
"""Text that a program wrote from the figures of a run. The search reads the library's own strings in its source."""
FENCED = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
LINKS = re.compile(r"\]\([^)\s]*\)|^\[[^\]]+\]: .*$|<https?:[^>]*>", re.MULTILINE)


def python_texts(text: str) -> Iterator[str]:
    """Yield the strings and comments of a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in IDENTIFIERS:
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def sql_texts(text: str) -> Iterator[str]:
    """Yield the comments and string literals of an SQL file."""
    yield from re.findall(r"--.*", text)
    yield from re.findall(r"'[^']*'", re.sub(r"--.*", "", text))


def page_texts(text: str) -> Iterator[str]:
    """Yield a page without its code, the targets of its links, and text that programs wrote."""
    yield LINKS.sub("", FENCED.sub("", GENERATED.sub("", text)))


def json_texts(text: str) -> Iterator[str]:
    """Yield every string of a JSON file."""
    todo = [json.loads(text)]
    while todo:
        value = todo.pop()
        todo += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if isinstance(value, str) and value not in IDENTIFIERS:
            yield value


READERS: dict[str, Callable[[str], Iterable[str]]] = {
    ".toml": lambda text: [text],
    ".svg": lambda text: re.findall(r">([^<]+)<", text),
    ".py": python_texts,
    ".sql": sql_texts,
    ".md": page_texts,
    ".json": json_texts,
    ".yml": lambda text: [text],
}


def prose() -> list[Path]:
    """Return the files that people read: the library, its pages, the tests, and the files beside them."""
    folders = (SRC, ROOT / "docs", ROOT / "examples", ROOT / "tests", ROOT / "benchmarks", ROOT / "pyproject.toml")
    return [
        path
        for path in repository()
        if path.suffix in READERS
        and path != Path(__file__)
        and ((path.parent == ROOT and path.suffix == ".md") or any(path.is_relative_to(folder) for folder in folders))
    ]


def findings(path: Path, pattern: re.Pattern[str]) -> list[str]:
    """Return each match of a pattern in a file's prose, with a few words around it."""
    found = []
    for text in READERS[path.suffix](path.read_text(encoding="utf-8")):
        plain = TOKENS.sub("", text)
        for match in pattern.finditer(plain):
            around = plain[max(match.start() - 30, 0) : match.end() + 20]
            found.append(" ".join(around.split()))
    return found


def test_the_search_finds_files_of_each_kind() -> None:
    """The search finds files of every kind; a search without files would pass without a check."""
    assert set(READERS) == {path.suffix for path in prose()}


@pytest.mark.parametrize("text", ["nobody ticks", "a Mark in it", "it is told later", "who hopes", "the seed's row"])
def test_the_pattern_finds(text: str) -> None:
    """The pattern finds each kind of a banned word, in any case."""
    assert BANNED.search(text)


@pytest.mark.parametrize("text", ["a question mark", "benchmarks", "remarkable", "it is toldable", "a random seed"])
def test_the_pattern_leaves(text: str) -> None:
    """The pattern leaves words that only contain a banned word, or mean something else."""
    assert not BANNED.search(text)


def test_no_banned_word() -> None:
    """No docstring, comment, message or page has a banned word."""
    assert {} == {str(path.relative_to(ROOT)): found for path in prose() if (found := findings(path, BANNED))}


def test_messages_say_is_not_a_valid() -> None:
    """No string of the library says "is no X" of a value."""
    assert {} == {module.name: found for module in modules() if (found := findings(module.path, REFUSED_FORM))}
