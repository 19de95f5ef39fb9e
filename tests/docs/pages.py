"""Parsers of the documentation's pages: code blocks, tables and commands."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import click

from escalation_adapters.cli.root import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("README.md")])
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(escalation [^`\n]+)`")


@attrs.frozen
class Block:
    """A fenced code block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, *languages: str) -> Sequence[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _BLOCK.finditer(text)
        if match[1] in languages
    ]


def all_blocks(*languages: str) -> Sequence[Block]:
    return [block for page in PAGES for block in blocks(page, *languages)]


def table(page: Path, *, first: str) -> list[list[str]]:
    """Return the rows of the tables whose first column has the heading ``first``."""
    rows: list[list[str]] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            rows.append(cells)
    return rows


def code(cell: str) -> list[str]:
    """Return the parts of a cell that are written as code."""
    return re.findall(r"`([^`]+)`", cell)


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words after ``escalation`` of each line that calls it, without the variables before it."""
    for line in text.replace("\\\n", " ").splitlines():
        if "escalation " not in line or line.lstrip().startswith(("#", "export", "pip")):
            continue
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:
            words.pop(0)
        if words and words[0] == "escalation":
            yield words[1:]


def exports(text: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that a shell example exports."""
    for line in text.splitlines():
        if line.startswith("export "):
            for word in shlex.split(line)[1:]:
                name, _, value = word.partition("=")
                yield name, value


def inline_commands() -> Iterator[tuple[Path, list[str]]]:
    """Yield the commands that pages name in running text."""
    for page in PAGES:
        for match in _INLINE.finditer(page.read_text(encoding="utf-8")):
            yield page, shlex.split(match[1])[1:]


def parse(words: Sequence[str]) -> str:
    """Parse a command line with click and run nothing; return the command's full name, or raise if it is invalid."""
    command: click.Command = cli
    context: click.Context | None = None
    name, rest = "escalation", list(words)
    while True:
        context = command.make_context(name, rest, parent=context)
        if not isinstance(command, click.Group):
            return context.command_path
        found, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        assert found is not None
        name, command = found, inner
