"""Incidents under policies, from the command line: what the commands show, and how incidents change their version."""

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from escalation_adapters.policies_file import load_policies

from .console import PROGRAM, TO_THE_LOG, Console, ago, environment, program, told

ONE_TARGET = "https://hooks.example.test/s3cret"
TARGETS = json.dumps(dict.fromkeys(("slack:ann", "slack:bob", "slack:ops"), ONE_TARGET))
FILE = """
policies:
  ops:
    levels:
      - {after: 0m, to: [slack:ann]}
      - {after: 10m, to: [slack:bob, slack:ops]}
    repeat: {times: 1, after: 15m}
    ack_timeout: 30m
  calm: {levels: [{after: 30m, to: [slack:ops], deliver: nights}]}
hours:
  nights: {zone: UTC, windows: [{days: mon-sun, from: "00:00", to: "24:00"}]}
assign: [{severity: critical, policy: ops}, {severity: never, policy: calm}]
"""
SHORTER = FILE.replace("      - {after: 10m, to: [slack:bob, slack:ops]}\n", "").replace("after: 15m}", "after: 1m}")


@attrs.define
class Scene:
    """The command line with a policies file."""

    console: Console
    file: Path

    def __call__(self, *args: str) -> str:
        return told(self.console(*args))

    def write(self, text: str) -> str:
        """Write the file; return the version of ``ops``."""
        self.file.write_text(text, encoding="utf-8")
        return load_policies(self.file).policies["ops"].digest[:12]

    def facts(self, key: str) -> dict[str, str]:
        """Return the facts that ``show`` prints."""
        lines = (line.split("\t") for line in self("show", key).splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}


@pytest.fixture
def scene(escalation: Console, tmp_path: Path) -> Scene:
    """The command line with the policies file, its targets, and an empty database of each kind in turn."""
    made = Scene(escalation, tmp_path / "policies.yaml")
    escalation.env |= {"ESC_POLICIES": str(made.file), "ESC_TARGETS": TARGETS, "ESC_DEFAULT_TARGET": "slack:ops"}
    made.write(FILE)
    return made


def test_show_says_where_an_incident_is(scene: Scene) -> None:
    """``show`` has the policy, its version, the place in words, whom it told, whom next, and when."""
    version = scene.write(FILE)
    scene("open", "db-7", "--severity", "critical")
    assert "before its first level" == scene.facts("db-7")["place"]
    scene("tick", "--record-only")
    found = scene.facts("db-7")
    assert (f"ops, version {version}", "level 1: round 1, level 1 of 2") == (found["policy"], found["place"])
    assert "slack:ann (pending)" == found["told"]
    assert "level 2 (round 1, level 2 of 2): slack:bob, slack:ops" == found["next pages"]
    history = json.loads(scene("show", "db-7", "--json"))
    assert {"policy": "ops", "position": 1, "total": 4, "levels": 2, "round": 1, "level": 1} == {
        name: value for name, value in history["step"].items() if name != "version"
    }
    assert (2, 2) == (history["next_pages"]["level"], history["next_pages"]["step"]["level"])
    assert version == history["step"]["version"][:12]
    assert ("ops", 1) == (history["escalations"][0]["policy"], history["escalations"][0]["position"])


def test_an_acknowledgement_says_when_it_expires(scene: Scene) -> None:
    """``ack`` and ``show`` say when the acknowledgement expires, and ``show`` what happens then."""
    scene("open", "db-7", "--severity", "critical")
    scene("tick", "--record-only")
    assert "acknowledged, critical, level 1, episode 1; the acknowledgement expires 20" in scene("ack", "db-7")
    assert scene.facts("db-7")["expires"].endswith("Z; then ops goes on")
    upcoming = json.loads(scene("show", "db-7", "--json"))["upcoming"]
    assert "acknowledged" == upcoming["held_by"]
    expires = datetime.fromisoformat(upcoming["ack_expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=29) < expires <= timedelta(minutes=30)
    scene.write(FILE.replace("ack_timeout: 30m", "ack_timeout: 30m\n    on_ack_expiry: restart"))
    scene("rebind", "db-7")
    assert scene.facts("db-7")["expires"].endswith("Z; then ops begins again")


def test_lists_have_the_policy_and_the_place(scene: Scene) -> None:
    """``list`` and ``next`` name the policy and the place in it; of an acknowledged incident nothing is listed."""
    scene("open", "db-7", "--severity", "critical")
    scene("open", "web", "--policy", "calm")
    scene("open", "old")
    scene("tick", "--record-only")
    rows = [line.split("\t") for line in scene("list").splitlines()]
    assert ["policy", "round", "level of round"] == rows[0][-3:]
    assert {("db-7", "ops", "1", "1"), ("web", "calm", "1", "0"), ("old", "builtin", "1", "0")} == {
        (row[0], *row[-3:]) for row in rows[1:]
    }
    rows = [line.split("\t") for line in scene("next", "--within", "20m").splitlines()]
    assert ["policy", "round", "level of round"] == rows[0][-3:]
    assert {("db-7", "ops", "1", "2"), ("old", "builtin", "1", "1")} == {(row[1], *row[-3:]) for row in rows[1:]}
    steps = {one["incident_key"]: one["step"] for one in json.loads(scene("list", "--json"))["incidents"]}
    assert ("ops", 1, 4) == (steps["db-7"]["policy"], steps["db-7"]["position"], steps["db-7"]["total"])


def test_open_refuses_an_unknown_policy(scene: Scene) -> None:
    """A wrong name is refused with the nearest one, and nothing is opened. ``builtin`` is a name."""
    refused = scene.console("open", "k", "--policy", "opps")
    assert (1, "escalation: policy: 'opps' is not a known policy; give one that exists; the nearest is 'ops'\n") == (
        refused.code, refused.err,
    )  # fmt: skip
    assert "no incident is open\n" == scene("list")
    scene("open", "k", "--severity", "critical", "--policy", "builtin")
    assert "builtin" == json.loads(scene("show", "k", "--json"))["step"]["policy"]


def test_policy_show(scene: Scene) -> None:
    """``policy show`` has each policy as a table, and how many incidents are pinned to which version."""
    before = scene.write(FILE)
    for key in ("a", "b"):
        scene("open", key, "--severity", "critical")
    after = scene.write(SHORTER)
    scene("open", "c", "--severity", "critical")
    lines = scene("policy", "show", "ops").splitlines()
    assert "ops\t2\t2\t1\t1 min\t1 min\tslack:ann\t" in lines
    assert not any(line.startswith("calm\t") for line in lines)
    assert [f"ops\t{before}\tno\t2", f"ops\t{after}\tyes\t1"] == lines[-2:]
    found = json.loads(scene("policy", "show", "--json"))
    assert {"ops", "calm"} == set(found["policies"]["policies"])
    assert [2, 1] == list(found["pinned"]["ops"].values())
    unknown = scene.console("policy", "show", "opps")
    assert (1, True) == (unknown.code, "the nearest is 'ops'" in unknown.err)
    scene.file.write_text("policies: {other: {levels: [{after: 5m}]}}", encoding="utf-8")
    assert "ops is not in the policies file; its incidents go on" in scene("policy", "show", "ops")


def test_rebind_of_one_incident(scene: Scene) -> None:
    """``rebind`` keeps the place, restarts only with ``--restart``, and is in the audit with actor and reason."""
    scene("open", "k", "--severity", "critical")
    scene("tick", "--record-only")
    version = scene.write(FILE.replace("after: 10m", "after: 20m"))
    scene("rebind", "k", "--by", "ada", "--reason", "slower")
    found = scene.facts("k")
    assert (f"ops, version {version}", "level 1: round 1, level 1 of 2") == (found["policy"], found["place"])
    scene("rebind", "k", "--restart")
    assert "before its first level" == scene.facts("k")["place"]
    entries = [one for one in json.loads(scene("audit", "--json")) if one["action"] == "rebind"]
    assert {("ada", f"ops {version}: slower"), (entries[0]["actor"], f"ops {version}")} == {
        (one["actor"], ": ".join(filter(None, (one["target"], one["reason"])))) for one in entries
    }
    scene("resolve", "k")
    assert "resolved" in scene.console("rebind", "k").err


def test_rebind_of_all(scene: Scene) -> None:
    """``policy rebind`` says how many page and begin again, asks, rebinds older versions only, and is audited."""
    for key in ("a", "b", "c"):
        scene("open", key, "--severity", "critical")
    scene("open", "calm", "--policy", "calm")
    scene("tick", "--record-only")
    scene("resolve", "c")
    version = scene.write(FILE.replace("after: 10m", "after: 0m"))
    scene("open", "new", "--severity", "critical")
    said = program("policy", "rebind", "ops", env=scene.console.env)
    assert 1 == said.code
    assert "2 incidents are pinned to older versions of ops." in said.err
    assert (
        "After the rebind 2 of them escalate within a tick interval, and 0 begin again at the first level." in said.err
    )
    assert f"Rebind them to version {version}? [y/N]" in said.err
    assert "Abort" in said.err
    again = program("policy", "rebind", "ops", "--restart", env=scene.console.env)
    assert (
        "After the rebind 2 of them escalate within a tick interval, and 2 begin again at the first level." in again.err
    )
    done = json.loads(scene("policy", "rebind", "ops", "--yes", "--json", "--by", "ada", "--reason", "faster"))
    assert {"older": 2, "pages": 2, "restarts": 0, "rebound": 2, "refused": []} == {
        name: done[name] for name in ("older", "pages", "restarts", "rebound", "refused")
    }
    assert f"ops\t{version}\tyes\t3" == scene("policy", "show", "ops").splitlines()[-1]
    entries = [one for one in json.loads(scene("audit", "--json")) if one["action"] == "rebind"]
    assert [("a", "ada"), ("b", "ada")] == sorted((one["incident_key"], one["actor"]) for one in entries)
    assert f"incidents rebound to ops {version}: 0\n" == scene("policy", "rebind", "ops")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["policy", "rebind", "opps"], "'opps' is not a known policy; give one that exists; the nearest is 'ops'"),
        (["policy", "rebind", "builtin"], "'builtin' has no versions"),
        (["rebind", "unknown"], "it is unknown"),
        (["rebind", "old"], "not pinned to a policy"),
    ],
)
def test_refusals(scene: Scene, arguments: Sequence[str], part: str) -> None:
    """What cannot be rebound is refused in one line."""
    scene("open", "old")
    said = scene.console(*arguments)
    assert (1, "") == (said.code, said.out)
    assert part in said.err


def test_without_a_file(on_sqlite: Console) -> None:
    """Without a policies file nothing of policies is on the screens, and the commands say that there is none."""
    told(on_sqlite("open", "k"))
    assert not {"policy", "place", "told"} & {line.split("\t")[0] for line in told(on_sqlite("show", "k")).splitlines()}
    assert "the built-in policy" in told(on_sqlite("policy", "show"))
    said = on_sqlite("policy", "rebind", "ops")
    assert (1, True) == (said.code, "'ops' is not known without a policies file" in said.err)
    assert not [line for line in on_sqlite("health").out.splitlines() if line.startswith("policies")]


def test_health_warns_of_a_process_with_another_file(scene: Scene) -> None:
    """Health says which file the workers run, and warns if this process has another one."""
    scene("tick", "--record-only")
    digest = load_policies(scene.file).digest
    assert {digest: 1} == json.loads(scene.console("health", "--json").out)["policies"]["workers"]
    assert "file " + digest[:12] in scene("health")
    scene.write(SHORTER)
    [warning] = [line for line in scene.console("health").complaints if "of the workers 1 run" in line]
    assert f"of the workers 1 run {digest[:12]}; give this process their file" in warning


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.parametrize("plain", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_screens_fit_into_80_columns(scene: Scene, plain: dict[str, str]) -> None:
    """On a terminal of 80 columns no line of the screens about policies is longer, and no value is cut."""
    from ..terminal import run

    scene("open", "payments/ledger-replication", "--severity", "critical", "--first-seen", ago(300))
    scene("tick", "--record-only")
    env = environment(scene.console.env) | {"TERM": "xterm-256color", "PYTHONUTF8": "1"} | plain
    shown = {}
    for words in (["list"], ["next"], ["show", "payments/ledger-replication"], ["policy", "show"], ["health"]):
        screen = run([*PROGRAM, *words], env, width=80)
        assert 0 == screen.code, screen
        if plain:
            assert "\x1b" not in screen.text
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.text)
        assert all(len(line) <= 80 for line in text.splitlines() if TO_THE_LOG not in line), text
        shown[words[0]] = text
    assert "ops: round" in shown["list"]
    assert "payments/ledge" in shown["next"]
    assert "level 1: round 1, level 1 of 2" in shown["show"]
    assert "s3cret" not in "".join(shown.values())
    assert os.environ.get("ESC_POLICIES") is None
