"""How the documentation is built: ``nox -s docs``. A warning is an error, and so is a link that leads nowhere."""

from typing import Any

from sphinx.ext.napoleon import Config, GoogleDocstring

import escalation_core

project = "escalation-core"
author = "the escalation-core contributors"
copyright = author
version = release = escalation_core.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_static_path: list[str] = []
html_theme_options = {"navigation_with_keys": True}
templates_path: list[str] = []
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
python_use_unqualified_type_names = True

# Names of other projects, and type variables, have no page here.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(aiohttp|alembic|asyncio|collections|datetime|limits|logging|opentelemetry|os|pathlib|psycopg|psycopg_pool|sqlalchemy|ssl|subprocess|typing|zoneinfo)\b.*",
    ),
    (r"py:.*", r"escalation_.*\.Result"),
    # Imported for type checkers alone, so that the import of the engine stays quick.
    (r"py:class", r"(Meter|Tracer)Provider"),
    # What a PostgresStore is made of inside; hosts connect.
    (r"py:class", r"escalation_adapters\.postgres\.(pool\.Pool|installation\.Installation|host_transaction\.Database)"),
]


def _sections(app: Any, what: str, name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Parse Google's sections, except in docstrings of attributes, where a colon begins no section."""
    if what not in ("attribute", "property", "data"):
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, obj).lines()


def _public(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Find a class under the name by which it is imported: annotations know only the module it is made in."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    found = [full for full in domain.objects if full.rpartition(".")[2] == name and name[:1].isupper()]
    if not found:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def setup(app: Any) -> None:
    """Hook both in."""
    app.connect("autodoc-process-docstring", _sections)
    app.connect("missing-reference", _public)
