"""Tests of the commands about the policies file."""

import json
from pathlib import Path

import pytest

from escalation_adapters.policies_file import load_policies
from escalation_core import Policies

from .console import Console

FILE = """
policies:
  ops:
    levels:
      - {after: 0m, to: [slack:ann]}
      - {after: 10m, to: [slack:bob, slack:ops], deliver: office}
    repeat: {times: 1, after: 90s}
    ack_timeout: 2h
    clock: office
  default: {levels: [{after: 30m}], anchor: first_seen}
hours:
  office: {zone: Europe/Berlin, windows: [{days: mon-fri, from: 09:00, to: 17:00}], closed: [2026-12-25]}
assign:
  - {severity: critical, labels: {team: db}, policy: ops}
"""
DAYS = "mon, tue, wed, thu, fri, sat, sun"
TARGETS = json.dumps(dict.fromkeys(("slack:ann", "slack:bob", "slack:ops"), "https://hooks.example/s3cret"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return the path of a policies file."""
    file = tmp_path / "policies.yaml"
    file.write_text(FILE, encoding="utf-8")
    return str(file)


def test_check_shows_each_escalation(console: Console, path: str) -> None:
    """The command prints when each escalation comes and whom it pages, and whatever else the file says."""
    said = console("policy", "check", path, ESC_TARGETS=TARGETS)

    assert [
        "policy\tescalation\tround\tlevel\tgap\tsince start\ttargets\twaits for",
        "ops\t1\t1\t1\t0\t0\tslack:ann\t",
        "ops\t2\t1\t2\t10 min\t10 min\tslack:bob, slack:ops\toffice",
        "ops\t3\t2\t1\t1 min 30 s\t11 min 30 s\tslack:ann\t",
        "ops\t4\t2\t2\t10 min\t21 min 30 s\tslack:bob, slack:ops\toffice",
        "default\t1\t1\t1\t30 min\t30 min\tby the routes\t",
        "ops: gaps run only while office is open",
        "ops: an acknowledgement expires after 2 h, and the policy goes on",
        "default: gaps add up from the start, so the engine makes up for an outage",
        "severity\tlabels\tpolicy",
        "critical\tteam db\tops",
        "any other\t\tdefault",
        "hours\tzone\twindows\tclosed",
        "office\tEurope/Berlin\tmon,tue,wed,thu,fri 09:00:00 to 17:00:00\t2026-12-25",
    ] == said.lines
    assert (0, 1) == (said.code, len(said.err.splitlines()))
    assert said.err.startswith("warning: policies.ops.levels[1].deliver: ")


def test_check_takes_the_tick_interval_into_account(console: Console, path: str) -> None:
    """Two escalations are at least a tick interval apart, so the times are those of the settings."""
    said = console("policy", "check", path, "--json", ESC_TICK_MS="600000")

    assert [0.0, 600.0, 1200.0, 1800.0] == [each["since_start"] for each in said.json["policies"]["ops"]["escalations"]]


def test_check_prints_json(console: Console, path: str) -> None:
    """With --json the command prints the digests, the escalations, the whole file and the warnings."""
    said = console("policy", "check", path, "--json")
    policies = load_policies(path)

    assert 0 == said.code
    assert policies.digest == said.json["digest"]
    assert policies == Policies.from_mapping(said.json["file"])
    assert policies.policies["ops"].digest == said.json["policies"]["ops"]["version"]
    assert {
        "escalation": 4,
        "round": 2,
        "level": 2,
        "gap": 600.0,
        "since_start": 1290.0,
        "targets": ["slack:bob", "slack:ops"],
        "waits_for": "office",
    } == said.json["policies"]["ops"]["escalations"][3]
    assert [*policies.warnings, "ESC_TARGETS is not set: whether the targets exist was not checked"] == said.json[
        "warnings"
    ]


SCHEDULES = """
policies:
  default: {levels: [{after: 5m, to: [oncall:primary, oncall:leads]}]}
schedules:
  primary: {rotation: {zone: Europe/Berlin, start: 2026-01-05T09:00, turn: 7d, people: [ann]}}
  leads: {ical: "https://calendar.example/s3cret.ics"}
people: {ann: slack:ann}
"""


def test_check_of_schedules(console: Console, path: str) -> None:
    """A level shows the names of its schedules, and a person's target must be served. No URL of a calendar is shown."""
    Path(path).write_text(SCHEDULES, encoding="utf-8")
    said = console("policy", "check", path, ESC_TARGETS=TARGETS)
    assert (0, "") == (said.code, said.err)
    assert "default\t1\t1\t1\t5 min\t5 min\toncall:primary, oncall:leads\t" in said.lines
    shown = console("policy", "check", path, "--json")
    assert {"ical": "a URL"} == shown.json["file"]["schedules"]["leads"]
    assert "s3cret" not in said.out + shown.out
    refused = console("policy", "check", path, ESC_TARGETS='{"slack:bob": "https://h/s3cret"}')
    assert 1 == refused.code
    assert 'people.ann: names the target "slack:ann", which is not known; the nearest is "slack:bob"' in refused.err


def test_the_commands_beside_a_service_with_its_own_notifiers(console: Console, path: str, tmp_path: Path) -> None:
    """Without ESC_TARGETS every command takes the targets that the policies name, and the checks say so."""
    given = {"ESC_POLICIES": path, "ESC_DATABASE_URL": f"sqlite:///{tmp_path}/e.db"}
    warned = "ESC_TARGETS is not set: whether the targets exist was not checked"
    assert warned in console("config", "check", "--json", **given).json["warnings"]
    assert 0 == console("open", "k", "--policy", "ops", **given).code
    shown = console("show", "k", "--json", **given).json
    assert ("ops", ["slack:ann"]) == (shown["step"]["policy"], shown["next_pages"]["targets"])
    assert 0 == console("policy", "rebind", "ops", "--yes", **given).code


def test_check_takes_the_file_of_the_settings(console: Console, path: str) -> None:
    """Without a FILE the command checks that of ESC_POLICIES; without both it says so."""
    assert console("policy", "check", path).out == console("policy", "check", ESC_POLICIES=path).out
    said = console("policy", "check")
    assert (1, "escalation: there is no policies file: name one, or set ESC_POLICIES\n") == (said.code, said.err)


def test_check_refuses_with_all_problems(console: Console, path: str) -> None:
    """A faulty file is refused with exit code 1, and each problem has its path; nothing else is printed."""
    Path(path).write_text(FILE.replace("10m", "10 minutes").replace("mon-fri", "mon-fry"), encoding="utf-8")
    said = console("policy", "check", path)

    assert (1, "") == (said.code, said.out)
    assert [
        "escalation: the policies have 2 problems:",
        f'  hours.office.windows[0].days: "mon-fry" is not a valid day; write {DAYS}, or mon-fri',
        '  policies.ops.levels[1].after: is "10 minutes"; write 10m',
    ] == said.err.splitlines()
    as_json = console("policy", "check", path, "--json")
    assert 1 == as_json.code
    assert {"fault": 'is "10 minutes"', "remedy": "write 10m"} == as_json.json["problems"][
        "policies.ops.levels[1].after"
    ]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MAX_ESC_LEVEL": "3"}, "policies.ops: has 4 escalations, and MAX_ESC_LEVEL is 3"),
        ({"ESC_TARGETS": '{"slack:an": "https://h/s3cret"}'}, "policies.ops.levels[0].to: names the target"),
    ],
)
def test_check_compares_with_the_settings(console: Console, path: str, variables: dict[str, str], said: str) -> None:
    """A file that contradicts the settings is refused."""
    found = console("policy", "check", path, **variables)

    assert 1 == found.code
    assert f"\n  {said}" in found.err
    assert "s3cret" not in found.err


def test_check_of_a_missing_file(console: Console) -> None:
    """A missing file has one problem, with its name."""
    said = console("policy", "check", "no-such.yaml")

    assert (1, "escalation: the policies have 1 problem:") == (said.code, said.err.splitlines()[0])
    assert "  no-such.yaml: cannot be read: No such file or directory" in said.err


def test_from_settings_prints_a_file(console: Console, tmp_path: Path) -> None:
    """The printed file passes the check, and its policies have the windows, the snooze and the maximum level."""
    settings = {"ESC_ACK_MIN": '{"sev 1": 2}', "ESC_SNOOZE_MIN": "0", "MAX_ESC_LEVEL": "3", "ESC_CRIT_ACK_MIN": "1"}
    said = console("policy", "from-settings", **settings)
    path = tmp_path / "policies.yaml"
    path.write_text(said.out, encoding="utf-8")

    assert 0 == said.code
    rhythm = console("config", "check", "--json", **settings).json["rhythm"]
    checked = console("policy", "check", str(path), "--json", **settings)
    severities = {"critical": "critical", "warning": "warning", "sev-1": "sev 1", "default": "any other"}
    assert {name: rhythm[severity] for name, severity in severities.items()} == {
        name: [each["since_start"] for each in shown["escalations"]] for name, shown in checked.json["policies"].items()
    }
    assert [] == checked.json["warnings"]
    assert ["sev 1"] == [each.severity for each in load_policies(path).assignments if each.policy == "sev-1"]
