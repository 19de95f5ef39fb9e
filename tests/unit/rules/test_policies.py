"""Policies: which one an incident without a host's word gets, which names are known, and the digest of a file."""

from typing import Any

import pytest

from escalation_core import InvalidValue, Policies
from escalation_core.rules.policies import check_policy_name
from escalation_core.rules.policies_file import read_version

from ..kit import incident

ONE: dict[str, Any] = {"levels": [{"after": "5m"}]}


def read(*assign: dict[str, Any], names: str = "a b c", **more: Any) -> Policies:
    """Return a file with these assignments."""
    return Policies.from_mapping({"policies": dict.fromkeys(names.split(), ONE), "assign": list(assign), **more})


def test_the_last_assignment_that_matches_wins() -> None:
    """Severity and labels must match; of several assignments the last one decides."""
    file = read(
        {"policy": "a"},
        {"severity": " Critical", "policy": "b"},
        {"severity": "critical", "labels": {"team": "db"}, "policy": "c"},
    )
    assert "a" == file.choose(incident(severity="low"))
    assert "a" == file.choose(incident(severity=None))
    assert "b" == file.choose(incident(severity="CRITICAL "))
    assert "c" == file.choose(incident(labels={"team": "db", "x": "y"}))
    assert "b" == file.choose(incident(labels={"team": "web"}))
    assert "a" == file.choose(incident(severity="low", labels={"team": "db"}))


def test_without_an_assignment() -> None:
    """If no assignment matches, the policy ``default`` decides if there is one, or else the built-in one."""
    assert "builtin" == read({"severity": "low", "policy": "a"}).choose(incident())
    assert "default" == read(names="a default").choose(incident())
    assert "builtin" == read({"policy": "builtin"}, names="a default").choose(incident())


def test_labels_are_read_only_for_assignments_with_labels() -> None:
    """A recalculation reads labels if an assignment names some."""
    assert not read({"severity": "low", "policy": "a"}).reads_labels
    assert read({"policy": "b"}, {"labels": {"team": "db"}, "policy": "a"}).reads_labels


def test_known_names() -> None:
    """The names are those of the file and ``builtin``; another one is refused with the nearest one."""
    file = read(names="primary secondary")
    assert {"primary", "secondary", "builtin"} == file.names
    assert "secondary" == check_policy_name("secondary", file)
    assert "builtin" == check_policy_name("builtin", None)
    with pytest.raises(InvalidValue, match=r"^policy: 'secondry' is not a known policy; .*'secondary'$"):
        check_policy_name("secondry", file)
    with pytest.raises(InvalidValue, match=r"'Primary' is not a known policy; .*'primary'$"):
        check_policy_name("Primary", file)
    with pytest.raises(InvalidValue, match=r"^policy: 'primary' is not known without .*'builtin'$"):
        check_policy_name("primary", None)


def test_a_digest_is_the_files_content() -> None:
    """Neither the order of policies nor the spelling of defaults changes the digest; each other content does."""
    assert read(names="a b").digest == read(names="b a").digest
    assert read(names="a b").digest != read({"policy": "a"}, names="a b").digest
    assert read({"policy": "a"}, {"policy": "b"}).digest != read({"policy": "b"}, {"policy": "a"}).digest
    written_out = {"levels": [{"after": "300s"}], "repeat": {"times": 0}, "anchor": "previous"}
    assert read(names="a").digest == Policies.from_mapping({"policies": {"a": written_out}}).digest
    hours = {"office": {"zone": "UTC", "windows": [{"from": "09:00", "to": "17:00"}]}}
    assert read(names="a").digest != read(names="a", hours=hours).digest


def test_a_version_of_a_long_file_can_be_read_again() -> None:
    """A text writes out what a file leaves to defaults; however many values that are, it is not lost."""
    windows = [{"from": "09:00", "to": "17:00"}] * 100
    hours = {f"h{number}": {"zone": "UTC", "windows": windows} for number in range(50)}
    levels = [{"after": "1m", "deliver": name} for name in hours]
    policy = Policies.from_mapping({"policies": {"a": {"levels": levels}}, "hours": hours}).policies["a"]
    assert policy == read_version("a", policy.text())
