"""The model of claim, record, lease, send, mark, acknowledge and open again, searched without a gap."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

pytestmark = pytest.mark.system("spin", "gcc")

MODEL = Path(__file__).parent / "page.pml"
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
BOUNDS = [(2, 2), (2, 3), (3, 2)] if THOROUGH else [(2, 2)]
"""Episodes, and levels of each."""
FEWEST = 1_000_000
"""States: with fewer, something that was possible has become impossible, and the search proves less."""
DEEPEST = 20_000
"""Steps of a run. The longest one without a repetition is far shorter; a search that comes so far tells."""
PLANTED = {
    "event outside the transaction": (["EVENT_OUTSIDE"], "I3", "dies in its tick"),
    "no fencing": (["NO_FENCING"], "I5", "stands still"),
    "mark before POST": (["MARK_FIRST"], "I3", "marks the page"),
    "claim without the acknowledgement check": (["NO_ACK_CHECK"], "I6", "the host"),
    "key without the episode": (["KEY_WITHOUT_EPISODE"], "I4", "the host"),
    "claim without a lock": (["NO_LOCK"], "I2", "the host"),
    "neither lock nor unique keys": (["NO_LOCK", "NO_UNIQUE_KEY"], "I2", "commits its tick"),
}
"""Each with what it is switched on with, the invariant that falls, and something that happens on the way there."""


@attrs.frozen
class Search:
    """What came of a search."""

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
        """The invariants that do not hold."""
        return re.findall(r"assertion violated \(*(I[0-9])\b", self.output)

    @property
    def unreached(self) -> list[str]:
        """The statements that no run comes to, but for the ends of what never ends."""
        found = re.findall(r'page\.pml:[0-9]+, state [0-9]+, ".*"', self.output)
        return [each for each in found if not each.endswith('"-end-"')]

    def story(self) -> str:
        """What happens in the run that was found, in words."""
        return run(["spin", "-t", *self.switches, MODEL.name], self.folder)


def run(command: Sequence[str], folder: Path) -> str:
    """Run a program and return what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def search(folder: Path, *defines: str, optimised: str = "-O0", deepest: int = DEEPEST) -> Search:
    """Have spin look at all that the model can do, up to this many steps."""
    switches = [f"-D{define}" for define in defines]
    (folder / MODEL.name).write_bytes(MODEL.read_bytes())
    run(["spin", "-a", *switches, MODEL.name], folder)
    # What spin writes is no concern of this project, and so are the compiler's warnings about it.
    run(["gcc", "-w", optimised, "-DSAFETY", "-o", "pan", "pan.c"], folder)
    return Search(folder, switches, run(["./pan", f"-m{deepest}", "-w22"], folder))


@pytest.mark.parametrize(("episodes", "levels"), BOUNDS)
def test_the_promise_holds_in_every_run(episodes: int, levels: int, tmp_path: Path) -> None:
    """However workers, host, crashes and lost replies fall together, no invariant falls; nothing was left out."""
    found = search(tmp_path, f"EPISODES={episodes}", f"LEVELS={levels}", optimised="-O1")
    assert "errors: 0" in found.output, found.output + found.story()
    # The whole of it: no search that was cut short, was too deep, or took two states for one.
    assert "Full statespace search" in found.output
    assert [] == re.findall("(?i)warning|not completed|too small|out of memory|bit statespace", found.output)
    assert found.depth < DEEPEST
    assert found.states >= FEWEST
    assert [] == found.unreached


@pytest.mark.parametrize("defect", PLANTED)
def test_planted_defect_is_found(defect: str, tmp_path: Path) -> None:
    """A model that cannot fail proves nothing: with a defect, the search comes to a run in which the promise breaks."""
    defines, invariant, happens = PLANTED[defect]
    found = search(tmp_path, *defines, deepest=100)
    assert [invariant] == found.fallen, found.output
    assert happens in found.story()
