"""Tests of loading policies files in YAML, TOML and JSON."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from escalation_adapters.policies_file import load_policies
from escalation_adapters.policies_file.load import MAX_BYTES
from escalation_core import Policies, PoliciesError
from tests.unit.rules import policy_files

YAML = """
policies:
  ops:
    levels:
      - {after: 0m, to: [slack:ann]}
      - {after: 10m, to: slack:bob, deliver: office}
    repeat: {times: 2, after: 30m}
hours:
  office: {zone: Europe/Berlin, windows: [{days: mon-fri, from: 10:00, to: 17:30}], closed: [2026-12-25]}
assign:
  - {severity: no, policy: ops}
"""
TOML = """
assign = [{ severity = "no", policy = "ops" }]

[policies.ops]
levels = [
  { after = "0m", to = ["slack:ann"] },
  { after = "10m", to = "slack:bob", deliver = "office" },
]
repeat = { times = 2, after = "30m" }

[hours.office]
zone = "Europe/Berlin"
windows = [{ days = "mon-fri", from = 10:00:00, to = 17:30:00 }]
closed = [2026-12-25]
"""
JSON = json.dumps(yaml.load(YAML, yaml.BaseLoader))  # noqa: S506 - all scalars are text


def refused(path: Path) -> str:
    """Return the one problem of a file, which has the file's name as its path."""
    with pytest.raises(PoliciesError) as caught:
        load_policies(path)
    [(place, problem)] = caught.value.problems.items()
    assert str(path) == place
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return problem


def written(folder: Path, text: str | bytes, name: str = "policies.yaml") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_three_forms_mean_the_same(tmp_path: Path) -> None:
    """A file means the same in YAML, TOML and JSON: 10:00 is a time and "no" is a text."""
    files = [
        written(tmp_path, YAML),
        written(tmp_path, YAML, "policies.YML"),
        written(tmp_path, TOML, "policies.toml"),
        written(tmp_path, JSON, "policies.json"),
        written(tmp_path, b"\xef\xbb\xbf" + YAML.encode(), "with-bom.yaml"),
    ]

    [policies] = {load_policies(path).digest: load_policies(path) for path in files}.values()
    assert "no" == policies.assignments[0].severity
    assert "10:00:00" == policies.hours["office"].windows[0].start.isoformat()
    assert policies == load_policies(str(files[0]))


def test_aliases_are_read(tmp_path: Path) -> None:
    """YAML's anchors and aliases may save repetition."""
    text = """
policies:
  a: &same {levels: [{after: 5m}]}
  b: *same
"""
    policies = load_policies(written(tmp_path, text)).policies

    assert policies["a"].levels == policies["b"].levels


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.yaml", "", "is empty; name at least one policy in it"),
        ("p.toml", "\n \n", "is empty; name at least one policy in it"),
        ("p.json", " ", "is empty; name at least one policy in it"),
        ("p.txt", YAML, "has the ending '.txt'; name a file that ends in .yaml, .yml, .toml, .json"),
        ("policies", YAML, "has the ending ''; name a file that ends in .yaml, .yml, .toml, .json"),
        ("p.yaml", b"\xff\xfe\x00", "is not UTF-8 text; name a policies file"),
        ("p.yaml", "a: \x00", "holds a character that YAML does not allow; leave it out"),
        ("p.yaml", "a: 1\na: 2", 'line 2: "a" occurs twice; write it once'),
        ("p.yaml", "https://h/SECRET: 1\nhttps://h/SECRET: 2", "line 2: a URL occurs twice; write it once"),
        ("p.yaml", "policies: {a: {levels: [], levels: []}}", 'line 1: "levels" occurs twice; write it once'),
        ("p.yaml", "a: *b", "is not valid YAML: line 1: found undefined alias 'b'; correct the line"),
        ("p.yaml", "policies: &a\n  b: *a", "is not valid YAML: line 1: found unconstructable recursive node"),
        ("p.yaml", "a: [1\nb: 2", "is not valid YAML: line 2: "),
        ("p.yaml", "a:\n\t- b", "is not valid YAML: line 2: found character '\\t' that cannot start any token"),
        ("p.yaml", "a: 1\n---\nb: 2", "is not valid YAML: line 2: but found another document"),
        ("p.yaml", "a: !!python/name:os.system x", "line 1: a value has a tag; leave out the tag"),
        ("p.yaml", "a: !secret x", "line 1: a value has a tag; leave out the tag"),
        ("p.yaml", "? [a]\n: b", "line 1: a name is a list or a mapping; write names as text"),
        ("p.yaml", "[" * 5000, "is nested too deep; nest less"),
        ("p.yaml", 'a: "\\UFFFFFFFF"', "is not valid YAML: a number in it is too large"),
        (
            "p.yaml",
            f"%YAML 1.{'9' * 5000}\n--- a",
            "is not valid YAML: a number in it is too large",
        ),
        ("p.toml", "a = [1\n", "is not valid TOML: "),
        ("p.toml", "a = 1\na = 2\n", "is not valid TOML: Cannot overwrite a value"),
        ("p.toml", "a = 2026-02-30\n", "is not valid TOML: "),
        ("p.json", "{", "is not JSON; write JSON as RFC 8259 defines it"),
        ("p.json", '{"a": NaN}', "holds NaN, which is not valid JSON; write numbers"),
        ("p.json", '{"a": 1, "a": 2}', 'names "a" twice in one object; name it once'),
        ("p.json", '{"https://h/SECRET": 1, "https://h/SECRET": 2}', "names a URL twice in one object; name it once"),
        ("p.json", "[" * 100_000, "is not JSON; write JSON as RFC 8259 defines it"),
        ("p.yaml", "#" * (MAX_BYTES + 1), "is longer than 256 KiB; name a policies file"),
    ],
)
def test_a_wrong_file(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    """A file that cannot be parsed has one problem, which names the file, the fault and the remedy."""
    assert refused(written(tmp_path, text, name)).startswith(said)


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "[{" * 50_000, "- " * 100_000 + "a"])
def test_deep_yaml(tmp_path: Path, text: str) -> None:
    """YAML that is nested too deep is refused and does not end the process."""
    assert refused(written(tmp_path, text)).startswith(("is nested too deep", "is not valid YAML"))


def test_nested_aliases_take_no_space(tmp_path: Path) -> None:
    """A file whose aliases stand for more values than the limit is refused as one with so many values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]

    with pytest.raises(PoliciesError, match="the file: has more than 50000 values"):
        load_policies(written(tmp_path, "\n".join(lines)))


def test_a_missing_file(tmp_path: Path) -> None:
    """A missing file, a folder and a path that cannot exist each have a problem."""
    (tmp_path / "folder.yaml").mkdir()

    assert "cannot be read: No such file or directory; name a file that this process may read" == refused(
        tmp_path / "missing.yaml"
    )
    assert "is a folder; name a file that this process may read" == refused(tmp_path / "folder.yaml")
    assert "is not a valid path; name a file that this process may read" == refused(Path("a\0b.yaml"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    """A named pipe is refused: a worker that opens it would wait for a writer."""
    os.mkfifo(tmp_path / "pipe.yaml")

    assert "is not a regular file; name a file that this process may read" == refused(tmp_path / "pipe.yaml")


@contextmanager
def restricted() -> Iterator[None]:
    """Give up root's right to read every file, for as long as this context."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mode that takes the right to read away")
def test_a_file_without_the_right_to_read(tmp_path: Path) -> None:
    """A file that the process may not read has a problem."""
    path = written(tmp_path, YAML)
    load_policies(path)
    path.chmod(0)

    with restricted():
        assert refused(path).startswith("cannot be read: Permission denied")


def test_problems_of_the_content_have_their_own_paths(tmp_path: Path) -> None:
    """A problem within the file has its path within the file."""
    path = written(tmp_path, YAML.replace("10m", "10 minutes").replace("mon-fri", "mon-fry"))

    with pytest.raises(PoliciesError) as caught:
        load_policies(path)
    assert {
        "policies.ops.levels[1].after": 'is "10 minutes"; write 10m',
        "hours.office.windows[0].days": '"mon-fry" is not a valid day; write mon, tue, wed, thu, fri, sat, sun, or'
        " mon-fri",
    } == caught.value.problems


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy_files.files())
def test_any_file_in_yaml_and_json(tmp_path: Path, mapping: dict[str, Any]) -> None:
    """Each valid file means the same as a mapping, in YAML and in JSON."""
    expected = Policies.from_mapping(mapping).digest

    assert expected == load_policies(written(tmp_path, json.dumps(mapping), "p.json")).digest
    assert expected == load_policies(written(tmp_path, yaml.safe_dump(mapping))).digest
