"""The project's sessions, for example ``demo``, ``tests``, ``matrix``, ``faults``, ``lint`` and ``docs``.

Each session runs on nox's own Python, and installs its requirements.
"""

import os
import platform
import re
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typecheck", "tests"]

# The tests start hundreds of programs. Without files of bytecode, each one compiles the library and its dependencies.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

HERE = f"{platform.python_implementation()} {platform.python_version()} on {sys.platform} {platform.machine()}"
ATHERIS = r"CPython 3\.1[1-4]\..* on linux x86_64$"
"""The platforms for which atheris, the coverage-guided fuzzer, has wheels."""
SEVERAL = ("-n", "4")
"""Options of pytest for several processes at once, each with a PostgreSQL of its own."""
EXAMPLES = sorted(path.parent for path in Path("examples").glob("*/requirements.txt"))
"""The complete hosts, each with its own requirements."""
GROUPS = nox.project.load_toml("pyproject.toml")


def _group(*names: str) -> list[str]:
    """Return the requirements of dependency groups; older pips cannot read them."""
    return [requirement for name in names for requirement in nox.project.dependency_groups(GROUPS, name)]


@nox.session
def demo(session: nox.Session) -> None:
    """Show the engine at work, on this machine alone."""
    session.install(".[cli]")
    session.run("escalation", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, except those of other sessions, or those that are named after ``--``."""
    session.install(".[all]", *_group("test"))
    session.run("pytest", *(session.posargs or SEVERAL))


@nox.session
def pooler(session: nox.Session) -> None:
    """Run the tests of the store behind pgbouncer, or those that are named after ``--``."""
    session.install(".[all]", *_group("test"))
    session.run("pytest", "--pooler", *(session.posargs or (*SEVERAL, "tests/conformance", "tests/integration")))


@nox.session
def matrix(session: nox.Session) -> None:
    """Run the tests of the stores on every PostgreSQL and Python; ``-- --postgres 14 --python 3.13`` on these alone."""
    session.install(".[all]", *_group("test", "matrix"))
    session.run("python", "-m", "tests.matrix", "--cache", str(session.cache_dir), *session.posargs)


@nox.session
def hosts(session: nox.Session) -> None:
    """Run the tests of Alembic and Django, whose projects are programs of their own, or those named after ``--``."""
    session.install(".[all]", *_group("test"))
    session.run("pytest", *(session.posargs or (*SEVERAL, "tests/hosts")))


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests of units and stores with the lowest allowed versions of the dependencies and of PostgreSQL."""
    if session.venv_backend != "uv":
        session.error("only uv resolves to the lowest versions; install uv, for example with the README's command")
    session.install("--resolution", "lowest-direct", ".[all]", *_group("test", "matrix"))
    programs = session.run("python", "-m", "tests.matrix.postgresql", str(session.cache_dir), silent=True)
    session.run(
        "pytest",
        *(session.posargs or (*SEVERAL, "tests/unit", "tests/conformance", "tests/integration", "tests/hosts")),
        env={"ESCALATION_TEST_POSTGRES": str(programs).strip()},
    )


@nox.session
@nox.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def examples(session: nox.Session, example: Path) -> None:
    """Run a complete host, with its own requirements, on a built wheel of the library.

    A host that is a package of its own is installed from its own wheel, and its own tests run as well.
    """
    session.install("build[uv]")
    wheel = _build(session, Path())
    requirements = ("-r", str(example / "requirements.txt"))
    session.install(f"escalation-core[embedded] @ {wheel.resolve().as_uri()}", *requirements, *_group("examples"))
    if (example / "pyproject.toml").exists():
        # The library is installed already, and in no registry.
        session.install("--no-deps", str(_build(session, example)))
    tests = session.posargs or (f"tests/examples/test_{example.name}.py", *map(str, example.glob("tests")))
    session.run("pytest", *tests, env={"ESCALATION_FROM_WHEEL": "1"})


def _build(session: nox.Session, source: Path) -> Path:
    """Build the wheel of a package, and return its path."""
    dist = Path(session.create_tmp()) / "dist" / source.name
    shutil.rmtree(dist, ignore_errors=True)  # the wheel of an earlier run in the same environment
    build = ("python", "-m", "build", "--installer", "uv", "--wheel", "--outdir", str(dist))
    session.run(*build, str(source), silent=True)
    [wheel] = dist.glob("*.whl")
    return wheel


@nox.session
def faults(session: nox.Session) -> None:
    """Kill workers, cut connections, stall databases, and judge the promise; ``-- --full`` runs long."""
    session.install(".[all]", *_group("test", "typecheck"))
    # Each process has a PostgreSQL of its own. The quick run mostly waits, so several processes run at once.
    many = ("pytest", "-v", "--maxschedchunk", "1", "-p", "no:randomly")
    if "--full" not in session.posargs:
        session.run(*many, "-n", "5", "-m", "not failover", "tests/faults", *session.posargs)
        return
    if shutil.which("apt-get"):
        session.run("bash", ".ci/install-packages", "tests/faults/system-packages", external=True)
    # The long run uses the processor all the time, and judges lateness. The kills at each await use every core, and a
    # failover runs six servers. Code 5, no test chosen, is fine: the arguments may choose tests of other markers.
    for markers, at_once in (("not failover and not kills", "auto"), ("failover", "0"), ("kills", "auto")):
        session.run(*many, "-n", at_once, "-m", markers, "tests/faults", *session.posargs, success_codes=[0, 5])
    if session.posargs == ["--full"]:
        session.run("python", "-m", "tests.faults.report.page")
        if re.match(ATHERIS, HERE):
            session.notify("fuzz", ["--seconds", "240"])
        else:
            session.warn(f"coverage-guided fuzzing is left out: atheris has no wheel for {HERE}")


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style, the format and the rules of the architecture."""
    session.install("-e", ".", *_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types, strictly."""
    session.install("-e", ".[all]", *_group("test", "typecheck", "bench"))
    session.run("mypy", "src", "tests", "benchmarks", "docs/examples", "noxfile.py")
    # Each example is a host of its own, with modules of the same names as the others.
    for example in EXAMPLES:
        own = example / "mypy.ini"
        config = ("--config-file", str(own)) if own.exists() else ()
        session.run("mypy", *config, str(example), env={"MYPYPATH": str(example)})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs, where a warning is an error, and run their examples, or the tests that are named after ``--``."""
    session.install(".[all]", *_group("docs", "test"))
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-q", "docs", "docs/_build/html")
    session.log(f"the docs are in {Path('docs/_build/html/index.html')}")
    session.run("pytest", *(session.posargs or (*SEVERAL, "tests/docs")))


@nox.session
def properties(session: nox.Session) -> None:
    """Run the tests of properties: inputs and orders of actions that hypothesis makes, or those named after ``--``."""
    session.install(".[all]", *_group("test"))
    session.run(
        "pytest", *(session.posargs or (*SEVERAL, "tests/fuzz", "tests/model", "tests/oracle", "tests/agreement"))
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the code that reads outside input, guided by coverage; ``-- --seconds 60`` limits the whole session."""
    if not re.match(ATHERIS, HERE):
        session.error(f"atheris has wheels for CPython 3.11 to 3.14 on linux x86_64, and nox runs on {HERE}")
    session.install("--only-binary", "atheris", ".[all]", *_group("test", "fuzz"))
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, and write the figures to benchmarks/results; ``-- --against COMMIT`` compares two commits."""
    session.install(".[all]", *_group("bench"))
    against = any(argument.startswith("--against") for argument in session.posargs)
    if not against and shutil.which("apt-get"):
        session.run("bash", ".ci/install-packages", "benchmarks/system-packages", external=True)
    # After Ctrl-C the bench stops its server and removes temporary folders: nox kills it after 0.3 seconds by default.
    session.run("python", "-m", "benchmarks", *session.posargs, interrupt_timeout=30)
