"""A separate run of pytest tries each source of the PostgreSQL server that the tests use."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from escalation_adapters.embedded import packaged_binaries

from .docker_engine import Engine

ENGINE = {"TESTCONTAINERS_RYUK_DISABLED": "true", "TESTCONTAINERS_CONNECTION_MODE": "docker_host"}
"""Settings for testcontainers: the imitated Docker engine has one container, at this machine's address."""
SOURCES = ("ESCALATION_TEST_DSN", "ESCALATION_TEST_POSTGRES", "ESCALATION_TEST_POSTGRES_IMAGE")
ROOT = Path(__file__).parents[2]


def test_the_server_answers(pg_dsn: str) -> None:
    """The run's server answers a query in the test's own database."""
    with psycopg.connect(pg_dsn) as connection:
        assert (1,) == connection.execute("SELECT 1").fetchone()


def run(docker: Path, **settings: str) -> str:
    """Run the test above in another process, and return its output."""
    inherited = {name: value for name, value in os.environ.items() if name not in SOURCES and "XDIST" not in name}
    environment = inherited | ENGINE | {"DOCKER_HOST": f"unix://{docker}"} | settings
    test = f"{Path(__file__).relative_to(ROOT)}::{test_the_server_answers.__name__}"
    # The run leaves out the plugin that takes longest to import.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", test]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """Return the path of a socket on which no Docker engine answers."""
    return tmp_path / "none.sock"


def test_a_dsn_comes_first(pg_dsn: str, nowhere: Path) -> None:
    """ESCALATION_TEST_DSN takes precedence over ESCALATION_TEST_POSTGRES, a folder of programs."""
    printed = run(nowhere, ESCALATION_TEST_DSN=pg_dsn, ESCALATION_TEST_POSTGRES=str(nowhere))
    assert re.search(r"ran on PostgreSQL \d+, from ESCALATION_TEST_DSN", printed)


def test_a_folder_of_programs_comes_second(tmp_path: Path) -> None:
    """ESCALATION_TEST_POSTGRES takes precedence over Docker, and the tests run on the version of its programs."""
    binaries = packaged_binaries()
    assert binaries is not None
    answer = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    version = answer.split()[2].partition(".")[0]
    with Engine.serving(tmp_path / "docker.sock") as engine:
        printed = run(tmp_path / "docker.sock", ESCALATION_TEST_POSTGRES=str(binaries))
    assert f"ran on PostgreSQL {version}, from {binaries}" in printed
    assert engine.container is None


@pytest.mark.skipif(sys.platform == "win32", reason="the imitation of the engine needs a unix socket")
def test_docker_comes_third(tmp_path: Path) -> None:
    """If a Docker engine answers, the run pulls and starts the named image, and removes the container afterwards."""
    with Engine.serving(tmp_path / "docker.sock") as engine:
        printed = run(tmp_path / "docker.sock", ESCALATION_TEST_POSTGRES_IMAGE="postgres:15")
    assert re.search(r"ran on PostgreSQL \d+, from Docker, postgres:15", printed)
    assert ["postgres:15"] == engine.images
    assert engine.container is not None
    assert "postgres:15" == engine.container["Image"]
    assert {"5432/tcp": {}} == engine.container["ExposedPorts"]
    [[_, _, command]] = engine.commands
    assert "psql" in command
    assert engine.removed


def test_the_wheel_comes_last(nowhere: Path) -> None:
    """Without a Docker engine the run uses the programs of the embedded extra."""
    assert re.search(r"ran on PostgreSQL \d+, from the binaries of the embedded extra", run(nowhere))
