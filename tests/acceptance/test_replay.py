"""The replay of a log: what the engine records equals the rules, on every store."""

import asyncio
import hashlib
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from escalation_adapters.replay import Replay, replay_settings
from escalation_core import Settings

from ..postgres import Server
from .console import Console
from .reference import Row, Rules, expect
from .replaying import (
    CHOSEN,
    DEFAULTS,
    GENERATED,
    GOOD,
    HEADER,
    Generated,
    at,
    hold,
    log_of,
    play_on_memory,
    play_on_postgres,
    play_on_sqlite,
    rows_of,
    steps,
    write,
    written,
)

# --- the rules


def compare(outcome: Replay, folder: Path, rows: Sequence[Row], faults: Sequence[int], rules: Rules) -> None:
    """Compare the whole outcome with the reference."""
    expected = expect(rows, rules) if rows else None
    assert list(faults) == [fault.line for fault in outcome.unusable]
    assert ([] if expected is None else expected.refused) == sorted(fault.line for fault in outcome.refused)
    assert (expected.csv() if expected else b"at,incident_key,episode,level\r\n") == written(folder, outcome)
    assert (len(rows), len({row.key for row in rows})) == (outcome.events, outcome.incidents)


@given(log=GENERATED, chosen=CHOSEN)
@settings(max_examples=5 * settings().max_examples)
@example(
    # A live incident opened and acknowledged twice, reopened before and after its end, each pair at one instant.
    log=[
        (0.0, "shop", "opened", "critical"),
        (5.0, "shop", "reopened", "critical"),
        (5.0, "shop", "opened", ""),
        (40.0, "shop", "acknowledged", ""),
        (40.0, "shop", "acknowledged", ""),
        (60.0, "shop", "resolved", ""),
        (60.0, "shop", "reopened", "high"),
        (50.0, "unknown", "resolved", ""),
        (240.0, "shop", "severity_changed", "critical"),
    ],
    chosen=DEFAULTS,
)
def test_any_log_on_memory(log: Generated, chosen: dict[str, int]) -> None:
    """For any log, the replay on the memory store equals the reference, and names every bad row."""
    text, rows, faults, settings_, rules = hold(log, chosen)
    with tempfile.TemporaryDirectory() as name:
        outcome = asyncio.run(play_on_memory(write(Path(name), text), settings_))
        compare(outcome, Path(name), rows, faults, rules)


@given(log=GENERATED, chosen=CHOSEN)
@settings(max_examples=min(30, settings().max_examples))
def test_any_log_on_sqlite(log: Generated, chosen: dict[str, int]) -> None:
    """For any log, the replay on SQLite equals the reference."""
    text, rows, faults, settings_, rules = hold(log, chosen)
    with tempfile.TemporaryDirectory() as name:
        outcome = asyncio.run(play_on_sqlite(write(Path(name), text), settings_))
        compare(outcome, Path(name), rows, faults, rules)


def test_any_log_on_postgres(postgres_server: Server) -> None:
    """For any log, the replay on PostgreSQL equals the reference."""
    with postgres_server.fresh() as dsn:

        @given(log=GENERATED.filter(lambda log: len(log) > 10), chosen=CHOSEN)
        @settings(max_examples=min(8, settings().max_examples // 5))
        def holds(log: Generated, chosen: dict[str, int]) -> None:
            text, rows, faults, settings_, rules = hold(log, chosen)
            with tempfile.TemporaryDirectory() as name:
                outcome = asyncio.run(play_on_postgres(write(Path(name), text), settings_, dsn))
                compare(outcome, Path(name), rows, faults, rules)

        holds()


# --- boundaries, with explicit logs


def test_due_at_the_last_instant(tmp_path: Path) -> None:
    """An escalation due at the instant of the last event is played, and no later one."""
    log = log_of((0, "a", "opened", "critical"), (5, "b", "opened", "critical"))
    assert [(5, "a", 1, 1)] == steps(tmp_path, log)
    log = log_of((0, "a", "opened", "critical"), (4.99, "b", "opened", "critical"))
    assert [] == steps(tmp_path, log)


def test_acknowledged_at_the_due_instant(tmp_path: Path) -> None:
    """At one instant events come first: an acknowledgement at the due instant prevents the escalation."""
    log = log_of((0, "a", "opened", "critical"), (5, "a", "acknowledged", ""), (60, "b", "opened", ""))
    assert [] == steps(tmp_path, log)
    log = log_of((0, "a", "opened", "critical"), (5 + 1e-6 / 60, "a", "acknowledged", ""), (60, "b", "opened", ""))
    assert [(5, "a", 1, 1)] == steps(tmp_path, log)


def test_resolved_and_reopened_at_the_due_instant(tmp_path: Path) -> None:
    """An incident that is resolved and reopened at its due instant starts a new episode with a whole window."""
    log = log_of(
        (0, "a", "opened", "critical"),
        (5, "a", "resolved", ""),
        (5, "a", "reopened", "critical"),
        (10, "b", "opened", ""),
    )
    assert [(10, "a", 2, 1)] == steps(tmp_path, log)


def test_severity_at_the_due_instant(tmp_path: Path) -> None:
    """A severity change at the due instant counts: a longer window delays the escalation."""
    log = log_of((0, "a", "opened", "critical"), (5, "a", "severity_changed", "warning"), (15, "b", "opened", ""))
    assert [(15, "a", 1, 1)] == steps(tmp_path, log)


def test_severity_makes_overdue(tmp_path: Path) -> None:
    """If a change to a shorter window makes an incident overdue, the incident escalates at the change."""
    log = log_of((0, "a", "opened", "warning"), (8, "a", "severity_changed", "critical"), (8, "b", "opened", ""))
    assert [(8, "a", 1, 1)] == steps(tmp_path, log)


def test_exact_instants(tmp_path: Path) -> None:
    """Each escalation has its exact due instant: windows first, then the snooze between two escalations."""
    log = log_of((0, "a", "opened", "critical"), (600, "b", "opened", ""))
    assert [(5 + 30 * (level - 1), "a", 1, level) for level in range(1, 8)] == steps(tmp_path, log)
    assert [(5 * level, "a", 1, level) for level in range(1, 8)] == steps(tmp_path, log, ESC_SNOOZE_MIN="0")


def test_order_of_the_output(tmp_path: Path) -> None:
    """Escalations of one instant are ordered by their keys' bytes."""
    keys = ("b", "B", "é", "🔥", "\uff5e", "a")
    log = log_of(*((0, key, "opened", "critical") for key in keys), (5, "z", "opened", ""))
    assert sorted(keys, key=str.encode) == [key for _, key, _, _ in steps(tmp_path, log)]


@pytest.mark.parametrize("year", ["1970", "9998"])
def test_ends_of_time(console: Console, tmp_path: Path, year: str) -> None:
    """A log at the first or last year that stores keep is played like any other."""
    log = write(tmp_path, f"{HEADER}\n{year}-06-30T00:00:00Z,a,opened,critical\n{year}-06-30T00:05:00Z,b,opened,\n")
    said = console("replay", log, "--store", "memory", "--out", tmp_path / "out.csv")
    assert (0, "") == (said.code, said.err)
    assert f"{year}-06-30T00:05:00Z,a,1,1" == (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[1]


# --- settings


def test_keep_pause(console: Console, tmp_path: Path) -> None:
    """A scheduled pause counts only with --keep pause: incidents due in it escalate at its end."""
    log = write(
        tmp_path,
        log_of(
            (0, "early", "opened", "warning"),
            (16, "late", "opened", "critical"),
            (25, "early", "severity_changed", "critical"),
            (200, "z", "opened", ""),
        ),
    )
    out = tmp_path / "out.csv"
    pause = {"ESC_PAUSE_CRON": "10 0 * * *", "ESC_PAUSE_MIN": "30", "MAX_ESC_LEVEL": "1"}
    console("replay", log, "--store", "memory", "--out", out, **pause)
    rules = Rules(max_level=1)
    assert expect(rows_of(log), rules).csv() == out.read_bytes()
    console("replay", log, "--store", "memory", "--out", out, "--keep", "pause", **pause)
    paused = Rules(max_level=1, held_until=lambda instant: at(40) if at(10) <= instant < at(40) else None)
    assert [(at(40), "early", 1, 1), (at(40), "late", 1, 1)] == expect(rows_of(log), paused).steps
    assert expect(rows_of(log), paused).csv() == out.read_bytes()


@given(log=GENERATED, begin=st.integers(0, 100), length=st.integers(1, 120))
@settings(max_examples=min(40, settings().max_examples))
@example(
    # A severity change during the pause moves the due instant to before the pause.
    log=[
        (0.0, "shop", "opened", "warning"),
        (12.0, "shop", "severity_changed", "critical"),
        (60.0, "shop", "acknowledged", ""),
    ],
    begin=10,
    length=20,
)
def test_any_log_with_a_pause(log: Generated, begin: int, length: int) -> None:
    """For any log, a kept pause delays exactly the escalations that fall into it."""
    text, rows, _, settings_, rules = hold(log, DEFAULTS)
    cron = f"{begin % 60} {begin // 60} * * *"
    paused = Settings(pause_cron=cron, pause_length=timedelta(minutes=length), windows=settings_.windows)
    rules = Rules(
        windows=rules.windows,
        held_until=lambda now: at(begin + length) if at(begin) <= now < at(begin + length) else None,
    )
    if not rows:
        return
    with tempfile.TemporaryDirectory() as name:
        outcome = asyncio.run(play_on_memory(write(Path(name), text), replay_settings(paused, ["pause"])))
        assert expect(rows, rules).csv() == written(Path(name), outcome)


def test_keep_canary(console: Console, tmp_path: Path) -> None:
    """The canary counts only with --keep canary: then keys outside it never escalate."""
    keys = [f"INC{number}" for number in range(60)]
    log = write(tmp_path, log_of(*((0, key, "opened", "critical") for key in keys), (9, "z", "opened", "")))
    out = tmp_path / "out.csv"
    console("replay", log, "--store", "memory", "--out", out, ESC_CANARY_PCT="10")
    assert 61 == len(out.read_bytes().splitlines())
    console("replay", log, "--store", "memory", "--out", out, "--keep", "canary", ESC_CANARY_PCT="10")
    inside = Rules(admitted=lambda key: int(hashlib.md5(key.encode()).hexdigest()[:8], 16) % 100 < 10)  # noqa: S324 - a bucket, no secret
    assert expect(rows_of(log), inside).csv() == out.read_bytes()
    assert 1 < len(out.read_bytes().splitlines()) < 31


@pytest.mark.parametrize(
    ("keep", "variables"),
    [
        ("switches", {"ESCALATION_WORKER_ENABLED": "false"}),
        ("switches", {"ESCALATION_V1": "false"}),
        ("dry-run", {"ESC_DRY_RUN": "true"}),
    ],
)
def test_keep_switches(console: Console, tmp_path: Path, keep: str, variables: dict[str, str]) -> None:
    """Switches and dry run count only with --keep: then nothing escalates."""
    log = write(tmp_path, f"{HEADER}\n{GOOD}")
    assert 1 == console("replay", log, "--store", "memory", "--json", **variables).json["escalations"]
    kept = console("replay", log, "--store", "memory", "--json", "--keep", keep, **variables)
    assert 0 == kept.json["escalations"]


def test_settings_apply(console: Console, tmp_path: Path) -> None:
    """Windows, snooze and maximum level come from the environment, and wrong values are refused."""
    log = write(tmp_path, log_of((0, "a", "opened", "high"), (30, "z", "opened", "")))
    said = console(
        "replay", log, "--store", "memory", "--json", ESC_ACK_MIN='{"high": 2}', ESC_SNOOZE_MIN="0", MAX_ESC_LEVEL="4"
    )
    assert {"1": 1, "2": 1, "3": 1, "4": 1} == said.json["levels"]
    refused = console("replay", log, "--store", "memory", MAX_ESC_LEVEL="0")
    assert 1 == refused.code
    assert "MAX_ESC_LEVEL: is 0" in refused.err
