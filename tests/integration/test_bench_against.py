"""The comparison of two commits: which source each process gets, in which order, and what the report says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.__main__ import main
from benchmarks.against import compare

from .comparing import __name__ as workloads

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with a tiny library in its last commit, and another text of the library in its files."""
    folder = tmp_path / "tree"
    package = folder / "src/escalation_core"
    package.mkdir(parents=True)
    git(folder, "init", "-q")
    (package / "__init__.py").write_text("__version__ = '1'\n", encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    (package / "__init__.py").write_text("__version__ = '2'\n\n\nclass Policies: ...\n", encoding="utf-8")
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A repository whose only commit has no ``src``."""
    folder = tmp_path / "bare"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "empty")
    return folder


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the workloads note what they did. Temporary files go beside it."""
    monkeypatch.setenv("COMPARED", str(tmp_path / "noted"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "noted"


def left(noted: Path) -> list[Path]:
    return list((noted.parent / "temporary").iterdir())


def run(tree: Path, *chosen: str, runs: int = 2, as_json: bool = False) -> int:
    return compare.run("HEAD", runs=runs, chosen=chosen, as_json=as_json, root=tree, module=workloads)


def test_the_two_sides_take_turns(tree: Path, noted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blocks of this tree's files and of the commit alternate, and so does the side that begins; nothing is left."""
    assert 0 == run(tree, "both")
    assert ["2a", "1a", "1b", "2b", "1a", "2a", "2b", "1b"] == noted.read_text(encoding="utf-8").split()
    assert [] == left(noted)
    shown = capsys.readouterr()
    assert "works-on-both: measured in" in shown.err
    assert ["noting CPU", "noting wall"] == [row.split("│")[2].strip() for row in shown.out.splitlines() if "│" in row]
    assert "This tree against HEAD (" in shown.out


def test_json_has_each_run(tree: Path, noted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON names the commit, and has the median, the runs and the ratio of each figure."""
    assert 0 == run(tree, "both", runs=3, as_json=True)
    found = json.loads(capsys.readouterr().out)
    commit = subprocess.run(["git", "-C", str(tree), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert {"revision": "HEAD", "commit": commit.stdout.strip()} == found["against"]
    assert {"noting CPU", "noting wall"} == set(found["workloads"]["works-on-both"])
    wall = found["workloads"]["works-on-both"]["noting wall"]
    assert {"this", "other", "ratio"} == set(wall)
    assert [3, 3, 3] == [len(wall[part]["runs"]) for part in wall]
    assert wall["ratio"]["from"] <= wall["ratio"]["median"] <= wall["ratio"]["to"]


def test_what_a_commit_lacks_is_named(tree: Path, noted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A workload that the commit cannot run is named with the reason; the others are measured."""
    assert 0 == run(tree, "both", "new-name", "older")
    shown = capsys.readouterr().out
    assert "left out: needs-a-new-name: at the other commit, what it measures is not there: cannot import" in shown
    assert "left out: needs-a-new-name-late: at the other commit, what it measures is not there: cannot" in shown
    assert "left out: fails-on-the-older: at the other commit, it does not run: ValueError: the older" in shown
    assert "noting wall" in shown


def test_a_fault_of_this_tree_fails(tree: Path, noted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A workload that this tree cannot run fails the comparison."""
    assert 1 == run(tree, "newer", as_json=True)
    assert {"fails-on-the-newer": "in this tree, it does not run: ValueError: this tree has a fault"} == json.loads(
        capsys.readouterr().out
    )["left_out"]


def test_a_run_ends_in_time(tree: Path, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes too long is killed, and named."""
    monkeypatch.setattr("benchmarks.against.pair.MAX_SECONDS", 0.5)
    assert 1 == run(tree, "waits")
    assert [] == left(noted)


def test_the_library_is_the_sides_own(tmp_path: Path) -> None:
    """A process refuses a library from elsewhere, for example an installed one."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.against.measure", str(tmp_path), workloads, "works-on-both", "", ""],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"escalation_core was not imported from {tmp_path}, but from " in done.stderr
    assert 1 == done.returncode


def test_nothing_is_left_after_ctrl_c(tree: Path, noted: Path) -> None:
    """Ctrl-C ends the processes of both sides and removes the temporary folders."""
    program = (
        "import sys; from pathlib import Path; from benchmarks.against.compare import run;"
        f" run('HEAD', chosen=['waits'], root=Path(sys.argv[1]), module={workloads!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tree)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(noted.parent / "temporary")},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while not noted.exists() or not noted.read_text(encoding="utf-8").endswith("\n"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        assert left(noted)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert [] == left(noted)
    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text(encoding="utf-8")), 0)


@pytest.mark.parametrize("revision", ["missing", "--all", "HEAD:src"])
def test_an_unknown_commit_is_refused(tree: Path, noted: Path, revision: str) -> None:
    """A name that git does not know, or that is not a commit, is refused."""
    with pytest.raises(SystemExit, match=f"git knows no commit '{revision}' in"):
        compare.run(revision, root=tree, module=workloads)
    assert [] == left(noted)


def test_a_commit_without_source_is_refused(bare: Path, noted: Path) -> None:
    """A commit without the folder src is refused."""
    with pytest.raises(SystemExit, match="the commit 'HEAD' has no folder src"):
        run(bare)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--against HEAD -k other", "-k: no workload's name contains other; there are: deliver-postgres, plan"),
        ("--against HEAD --runs 0", "--runs: is 0; give 1 to 99"),
        ("--against HEAD tick", "it takes no PART and no --quick"),
        ("--runs 3", "--runs, -k and --json need --against COMMIT"),
    ],
)
def test_arguments_are_checked(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong argument is refused, with a remedy, before anything is measured."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments.split()])
    with pytest.raises(SystemExit) as refused:
        main()
    assert message in f"{refused.value}{capsys.readouterr().err}"


@pytest.mark.parametrize(("count", "cut"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (25, 7)])
def test_the_interval(count: int, cut: int) -> None:
    """The interval of the median leaves out as many of the outer values as the sign test allows."""
    values = [float(n) for n in range(count)]
    assert (values[cut], values[count - 1 - cut]) == compare.interval(values[::-1])


def test_the_ratio_is_of_neighbours() -> None:
    """A run's ratio is the median of the quotients of neighbouring blocks, so a slow second of the machine cancels."""
    [one] = compare.figures_of("w", [({"CPU": [1.1, 5.5, 1.2]}, {"CPU": [1.0, 5.0, 1.0]})])
    assert ([1.2], [1.0]) == (one.this, one.other)
    assert pytest.approx(1.1) == one.ratios[0]
