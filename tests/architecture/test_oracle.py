"""The oracle is a reading of the rules of its own: it imports nothing of the library that it judges."""

import ast
import sys

from .source import ROOT

FOLDER = ROOT / "tests" / "oracle"
ALLOWED = {*sys.stdlib_module_names, "hypothesis", "pytest"}


def imported(text: str) -> set[str]:
    """Return the top-level packages that a file imports; a relative import that leaves its folder counts as ``..``."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} if node.level == 0 else {".."} if node.level > 1 else set()
    return found


def test_the_oracle_imports_nothing_of_the_library() -> None:
    """Each file of the oracle imports the standard library, hypothesis, pytest, and its neighbours."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.py"))}
    assert "ladder.py" in texts
    assert {} == {name: strange for name, text in texts.items() if (strange := imported(text) - ALLOWED)}


def test_the_search_finds_each_form() -> None:
    """The search finds an import of the library in each of its forms."""
    text = "import escalation_core.rules\nfrom escalation_core import plan\nfrom ..unit import x\nfrom . import y\n"
    assert imported(text) == {"escalation_core", ".."}
