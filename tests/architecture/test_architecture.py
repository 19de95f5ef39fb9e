"""The rules of the architecture that a test can check: imports, public names, and the form of files."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import grimp

import escalation_core
import escalation_core.testing

from .source import ROOT, Module, modules, repository

ALLOWED = {
    *("attrs", "cattrs", "cronsim", "opentelemetry", "escalation_core"),
    *(
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "datetime",
        "difflib",
        "enum",
        "functools",
        "hashlib",
        "itertools",
        "json",
    ),
    *("logging", "math", "operator", "random", "re", "typing", "unicodedata", "uuid", "weakref", "zoneinfo"),
}
"""The packages that the core may import: its dependencies, and standard modules that do no I/O."""
PUBLIC = [
    "Abilities", "Notice", "NoticeBundle", "NoticeKind", "TellsNoticeBundles", "TellsNotices",
    "AuditEntry", "Conditions", "Cover", "Delivered", "DeliveryReport", "Engine", "Escalate", "Escalation",
    "EscalationError", "Budget", "Bundle", "BuiltinPolicy", "CalendarReader", "Handover", "Health", "Heartbeat",
    "HeldBy", "Hours", "Incident", "IncidentHistory", "InvalidValue", "Layer", "NextPages", "Notifier",
    "OnCallNow", "OpenIncident", "OpenIncidents", "Outcome", "Override", "Page", "PageTest", "Pause",
    "PauseSchedule", "Policies", "PoliciesError", "Integrity", "Pruned", "Rejected", "Reschedule", "Resumed",
    "Retry", "RetryPolicy", "Rotation", "Route", "Router", "Schedule", "ScheduleSource", "SchedulesError",
    "SendsBundles", "Settings", "SettingsError", "SettingsRouter", "Shift", "ShiftOverride", "Shifts", "Skip",
    "State", "Store", "StoreError", "StoreNotReady", "StoreRefused", "StoreUnavailable", "TickReport",
    "TransitionRefused", "Upcoming", "Verdict", "Window", "__version__", "canary_bucket", "coverage", "gaps",
    "handovers", "idempotency_key", "in_canary", "plan", "send_test_page",
]  # fmt: skip
PUBLIC_FOR_TESTS = [
    "BundlingNotifier", "Clock", "HostTable", "ManualClock", "MemoryStore", "RecordingNotifier", "TellingNotifier",
]  # fmt: skip
MAX_LINES = 300
MAX_LINES_OF_TESTS = 600

CORE = modules("escalation_core")
ADAPTERS = modules("escalation_adapters")
ALL = [*CORE, *ADAPTERS]


def offenders(found: Callable[[Module], object], among: Sequence[Module]) -> dict[str, object]:
    """Return what ``found`` finds in each module, by the module's name, if it finds anything."""
    return {module.name: offence for module in among if (offence := found(module))}


# --- imports between packages


def test_import_contracts() -> None:
    """The code keeps the import contracts in pyproject.toml."""
    checked = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == checked.returncode, checked.stdout + checked.stderr
    assert "0 broken" in checked.stdout


def test_what_the_contracts_reach() -> None:
    """The ports import only the model, the errors and the checks, so that a store's author need not read more."""
    graph = grimp.build_graph("escalation_core")
    reached = graph.find_upstream_modules("escalation_core.ports", as_package=True)
    assert {"model", "errors", "checks"} == {name.split(".")[1] for name in reached}


def test_core_imports() -> None:
    """The core imports only its dependencies and modules of the standard library that do no I/O."""

    def strange(module: Module) -> set[str]:
        allowed = ALLOWED | {"asyncio"} if module.name == "escalation_core.engine.tasks" else ALLOWED
        return set(module.imports()) - allowed

    assert {} == offenders(strange, CORE)


def test_telemetry_is_api_alone() -> None:
    """The core imports OpenTelemetry's API, and never an SDK or an exporter."""

    def beyond(module: Module) -> set[str]:
        nodes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ImportFrom)]
        names = {node.module for node in nodes if node.module and node.module.startswith("opentelemetry.")}
        return {name for name in names if name.split(".")[1] not in {"metrics", "trace"}}

    assert {} == offenders(beyond, CORE)


def test_core_does_no_io() -> None:
    """The core opens no file, prints nothing and reads no clock; only the clock of ``testing`` reads the time."""

    def does(module: Module) -> set[str]:
        calls = [node.func for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
        named = {call.id for call in calls if isinstance(call, ast.Name)}
        asked = {ast.unparse(call) for call in calls if isinstance(call, ast.Attribute)}
        clocks = {name for name in asked if re.fullmatch(r"(\w+\.)*(datetime|date)\.(now|utcnow|today)", name)}
        if module.name == "escalation_core.testing.clock":
            clocks -= {"datetime.now"}
        return clocks | named & {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}

    assert {} == offenders(does, CORE)


# --- public names


def test_public_names() -> None:
    """The public names of escalation_core are exactly these, in order, and each exists."""
    assert PUBLIC == escalation_core.__all__
    assert all(hasattr(escalation_core, name) for name in PUBLIC)


def test_public_names_for_tests() -> None:
    """The public names of escalation_core.testing are exactly these, in order, and each exists."""
    assert PUBLIC_FOR_TESTS == escalation_core.testing.__all__
    assert all(hasattr(escalation_core.testing, name) for name in PUBLIC_FOR_TESTS)


def test_all_is_true() -> None:
    """Every __all__ names each name once, and each name exists."""

    def wrong(module: Module) -> list[str]:
        if "__all__" not in module.text:
            return []  # models of Django cannot be imported outside of a project
        there = importlib.import_module(module.name)
        names = list(there.__all__)
        return [name for name in names if names.count(name) > 1 or not hasattr(there, name)]

    assert {} == offenders(wrong, ALL)


def test_each_public_name_is_used_as_a_host_would() -> None:
    """tests/typing/api.py, which is only type-checked, uses every public name."""
    tree = ast.parse((ROOT / "tests" / "typing" / "api.py").read_text(encoding="utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set() == {*PUBLIC, *PUBLIC_FOR_TESTS} - used


# --- the form of files


def test_length() -> None:
    """No module has more than 300 lines."""
    lengths = {module.name: len(module.text.splitlines()) for module in ALL}
    assert {} == {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_length_of_tests() -> None:
    """No test file has more than 600 lines."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert tests
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in tests}
    assert {} == {name: length for name, length in lengths.items() if length > MAX_LINES_OF_TESTS}


def test_docstrings() -> None:
    """Every module of the library has a docstring, and so has each of its public functions and classes."""

    def silent(module: Module) -> list[str]:
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        named = [node for node in module.tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
        mute = [node.name for node in named if not ast.get_docstring(node)]
        return mute if ast.get_docstring(module.tree) else ["the module", *mute]

    assert {} == offenders(silent, ALL)


def test_exceptions_to_linters_name_their_rule() -> None:
    """Every exception to a linter or to mypy names its rule."""

    def bare(module: Module) -> list[str]:
        comments = re.findall(r"#\s*(?:noqa|type:\s*ignore)\b[^\n]*", module.text)
        return [c for c in comments if not re.match(r"#\s*(noqa: [A-Z]+[0-9]+|type:\s*ignore\[[a-z-]+)", c)]

    assert {} == offenders(bare, ALL)


STRANGERS = (
    *(f"{host}.org" for host in ("pypi", "test.pypi", "files.pythonhosted", "registry.npmjs")),
    *(f"/{home}/" for home in ("root", "Users")),
    "/home" + "/",
)
"""Hosts of package registries and folders of people; built from parts here, since this file is searched too."""


def test_no_registry_and_no_home() -> None:
    """No file of the repository names a package registry's host, or a folder of a developer's machine."""
    found = []
    for path in repository():
        text = path.read_text(encoding="utf-8")
        found += [(str(path.relative_to(ROOT)), stranger) for stranger in STRANGERS if stranger in text]
    assert [] == found


def test_text_is_text() -> None:
    """Every text file is UTF-8 with line feeds, and ends with a line feed."""
    bad = []
    for path in repository():
        content = path.read_bytes()
        content.decode("utf-8")
        if b"\r" in content or (content and not content.endswith(b"\n")):
            bad.append(str(path.relative_to(ROOT)))
    assert [] == bad
