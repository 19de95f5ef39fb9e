"""The models of the life of a page, and of pages that are sent together, searched completely."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

pytestmark = pytest.mark.system("spin", "gcc")

PAGE, BUNDLE = (Path(__file__).parent / name for name in ("page.pml", "bundle.pml"))
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
BOUNDS = [(2, 2, 1), (2, 2, 2), (2, 3, 1), (3, 2, 1)] if THOROUGH else [(2, 2, 1)]
"""The number of episodes, of levels in each episode, and of fallbacks after the first target."""
BUNDLED = [3, 4] if THOROUGH else [3]
"""The number of pages that a bundle has at most."""
FEWEST = {PAGE: 1_000_000, BUNDLE: 300_000}
"""The fewest states of a complete search: with fewer, the model has lost possible runs and proves less."""
DEEPEST = 20_000
"""The most steps of a run. The longest run without a repetition is far shorter, and a search so deep fails."""
PLANTED = {
    "event outside the transaction": (["EVENT_OUTSIDE"], "I3", "dies in its tick"),
    "no fencing": (["NO_FENCING"], "I5", "stands still"),
    "settle before POST": (["SETTLE_FIRST"], "I3", "settles the page"),
    "claim without the acknowledgement check": (["NO_ACK_CHECK"], "I6", "the host"),
    "key without the episode": (["KEY_WITHOUT_EPISODE"], "I4", "the host"),
    "claim without a lock": (["NO_LOCK"], "I2", "the host"),
    "neither lock nor unique keys": (["NO_LOCK", "NO_UNIQUE_KEY"], "I2", "commits its tick"),
    "another key for the fallback": (["FALLBACK_KEY"], "I4", "hands the page over"),
    "handed over without the fallback's page": (["HAND_OVER_OUTSIDE"], "I3", "hands the page over"),
    "superseded while leased": (["SUPERSEDE_LEASED"], "I5", "supersedes the page"),
}
"""Each defect with its switches, the invariant that it violates, and an event of the run that violates it."""
PLANTED_IN_BUNDLES = {
    "a bundle grows between its tries": ("GROWS", "I4", "leases pages"),
    "a bundle is settled before it is sent": ("SETTLE_FIRST", "I3", "settles"),
    "some pages of a bundle keep its key": ("KEY_FOR_SOME", "I3", "drops the copy"),
    "a page stays in its bundle after the acknowledgement": ("NO_ACK_CHECK", "I6", "the host acknowledges"),
}
"""Each defect with its switch, the invariant that it violates, and an event of the run that violates it."""


@attrs.frozen
class Search:
    """The result of a search."""

    model: Path
    folder: Path
    switches: Sequence[str]
    output: str

    @property
    def states(self) -> int:
        [found] = re.findall(r"^\s*([0-9.e+]+) states, stored", self.output, re.MULTILINE)
        return int(float(found))

    @property
    def depth(self) -> int:
        [found] = re.findall(r"depth reached ([0-9]+), errors", self.output)
        return int(found)

    @property
    def fallen(self) -> list[str]:
        """The invariants that a run violates."""
        return re.findall(r"assertion violated \(*(I[0-9])\b", self.output)

    @property
    def unreached(self) -> list[str]:
        """The statements that no run reaches, except the ends of processes that never end."""
        found = re.findall(r'\w+\.pml:[0-9]+, state [0-9]+, ".*"', self.output)
        return [each for each in found if not each.endswith('"-end-"')]

    def story(self) -> str:
        """Return the events of the violating run as text."""
        return run(["spin", "-t", *self.switches, self.model.name], self.folder)


def run(command: Sequence[str], folder: Path) -> str:
    """Run a program and return its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def search(model: Path, folder: Path, *defines: str, optimised: str = "-O0", deepest: int = DEEPEST) -> Search:
    """Let spin search everything that the model can do, up to this many steps."""
    switches = [f"-D{define}" for define in defines]
    (folder / model.name).write_bytes(model.read_bytes())
    run(["spin", "-a", *switches, model.name], folder)
    # spin writes the C code, so the compiler's warnings about it do not matter to this project.
    run(["gcc", "-w", optimised, "-DSAFETY", "-o", "pan", "pan.c"], folder)
    return Search(model, folder, switches, run(["./pan", f"-m{deepest}", "-w22"], folder))


def assert_complete(found: Search) -> None:
    """Assert that no run violates an invariant, and that the search looked at every run."""
    assert "errors: 0" in found.output, found.output + found.story()
    # A complete search was not cut short, stayed above the depth limit, and merged no two states.
    assert "Full statespace search" in found.output
    assert [] == re.findall("(?i)warning|not completed|too small|out of memory|bit statespace", found.output)
    assert found.depth < DEEPEST
    assert found.states >= FEWEST[found.model]
    assert [] == found.unreached


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("episodes", "levels", "fallbacks"), BOUNDS)
def test_the_promise_holds_in_every_run(episodes: int, levels: int, fallbacks: int, tmp_path: Path) -> None:
    """In every run of workers, host, crashes and lost replies all invariants hold, and the search is complete."""
    bounds = f"EPISODES={episodes}", f"LEVELS={levels}", f"FALLBACKS={fallbacks}"
    assert_complete(search(PAGE, tmp_path, *bounds, optimised="-O1"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("pages", BUNDLED)
def test_the_promise_holds_in_bundles(pages: int, tmp_path: Path) -> None:
    """In every run of workers that send pages together all invariants hold, and the search is complete."""
    assert_complete(search(BUNDLE, tmp_path, f"PAGES={pages}", optimised="-O1"))


@pytest.mark.parametrize("defect", PLANTED)
def test_planted_defect_is_found(defect: str, tmp_path: Path) -> None:
    """For each planted defect the search finds a run that violates the invariant, so the model can fail."""
    defines, invariant, happens = PLANTED[defect]
    found = search(PAGE, tmp_path, *defines, deepest=100)
    assert [invariant] == found.fallen, found.output
    assert happens in found.story()


@pytest.mark.parametrize("defect", PLANTED_IN_BUNDLES)
def test_planted_defect_is_found_in_bundles(defect: str, tmp_path: Path) -> None:
    """For each planted defect of bundles the search finds a run that violates the invariant."""
    switch, invariant, happens = PLANTED_IN_BUNDLES[defect]
    found = search(BUNDLE, tmp_path, switch, deepest=250)
    assert [invariant] == found.fallen, found.output
    assert happens in found.story()
