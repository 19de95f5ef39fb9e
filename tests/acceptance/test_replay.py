"""The replay of a log: what the engine records equals the rules, on every store, and no bad row stops it."""

import asyncio
import csv
import hashlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.postgres.scratch import scratch_store
from escalation_adapters.replay import Replay, UnreadableLog, read_events, replay, replay_settings, write_escalations
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Engine, Settings, SettingsRouter, Store
from escalation_core.testing import ManualClock, MemoryStore

from ..postgres import Server
from .console import PROGRAM, Console, Said, finish, one_line, program, start, url_of
from .reference import MINUTE, Row, Rules, expect, instant

ROOT = Path(__file__).parents[2]
LOG = ROOT.parent / "shared" / "data" / "incident_events.csv"
"""The log of a real service desk, where a checkout has it beside itself."""
DAY = datetime(2025, 3, 14, tzinfo=UTC)
HEADER = "at,incident_key,event,severity"
KEYS = ("db-7/disk", "shop", 'say "hi", you', "C|1", "Straße", "straße", "🔥")
EVENTS = ("opened", "acknowledged", "severity_changed", "reopened", "resolved")
SEVERITIES = ("critical", "warning", " CRITICAL ", "high", "", "no such")
RUBBISH = (
    b"",
    b"   ",
    b"2025-03-14T00:00:00Z,shop,opened",
    b"2025-03-14T00:00:00Z,shop,opened,critical,more",
    b"2025-03-14T00:00:00,shop,opened,critical",
    b"yesterday,shop,opened,critical",
    b"2025-03-14T00:00:00Z,shop,exploded,critical",
    b"2025-03-14T00:00:00Z,,opened,critical",
    b"2025-03-14T00:00:00Z,shop,severity_changed,",
    b"2025-03-14T00:00:00Z,\xff\xfe,opened,critical",
    b'2025-03-14T00:00:00Z,"shop,opened,critical',
)
"""Lines that are no events; the first two are blank, and so no faults either."""


def at(minute: float) -> datetime:
    return DAY + timedelta(minutes=minute)


def log_of(*events: tuple[float, str, str, str]) -> str:
    """Return a log of events: minute, key, event, severity."""
    return "".join(f"{line}\n" for line in (HEADER, *(f"{instant(at(m))},{k},{e},{s}" for m, k, e, s in events)))


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "events.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


async def play(store: Store, clock: ManualClock, log: Path, chosen: Settings) -> Replay:
    """Replay a log on a store, as the command does."""
    events, unusable = read_events(log)
    if events:
        clock.set(events[0].at)
    engine = Engine(store, settings=chosen, notifiers=[LogNotifier("replay")], router=SettingsRouter((), "replay"))
    outcome = await replay(engine, clock, events)
    outcome.unusable = unusable
    return outcome


async def play_on_memory(log: Path, chosen: Settings) -> Replay:
    clock = ManualClock()
    return await play(MemoryStore(clock), clock, log, chosen)


async def play_on_sqlite(log: Path, chosen: Settings) -> Replay:
    clock = ManualClock(DAY)
    store = await SQLiteStore.connect(log.parent / "replay.db", clock=clock)
    try:
        return await play(store, clock, log, chosen)
    finally:
        await store.aclose()


async def play_on_postgres(log: Path, chosen: Settings, dsn: str) -> Replay:
    clock = ManualClock(DAY)
    async with scratch_store(dsn, clock) as store:
        return await play(store, clock, log, chosen)


def written(folder: Path, outcome: Replay) -> bytes:
    path = folder / "out.csv"
    write_escalations(path, outcome.escalations)
    return path.read_bytes()


def steps(folder: Path, text: str, **env: str) -> list[tuple[float, str, int, int]]:
    """Replay a log on memory, with these variables, and return its escalations: minute, key, episode, level."""
    chosen = replay_settings(Settings.from_env(env))
    outcome = asyncio.run(play_on_memory(write(folder, text), chosen))
    return [((e.created_at - DAY) / MINUTE, e.incident_key, e.episode, e.level) for e in outcome.escalations]


# --- the rules


def rows_of(log: Path) -> list[Row]:
    """Read a clean log, in this test's own way."""
    with log.open(newline="", encoding="utf-8") as file:
        return [
            Row(line, datetime.fromisoformat(row["at"]), row["incident_key"], row["event"], row["severity"])
            for line, row in enumerate(csv.DictReader(file), 2)
        ]


@pytest.mark.skipif(not LOG.exists(), reason=f"no shared/data/{LOG.name} beside the checkout")
def test_real_log(postgres_server: Server, tmp_path: Path) -> None:
    """A year of a real service desk comes to what the rules say, the same file byte for byte on all three stores."""
    expected = expect(rows_of(LOG), Rules())
    outs = {name: tmp_path / f"{name}.csv" for name in ("memory", "sqlite", "postgres")}
    with postgres_server.fresh() as dsn:
        urls = {"memory": "memory", "sqlite": f"sqlite:///{tmp_path / 'replay.db'}", "postgres": url_of(dsn)}
        programs = {
            name: start("replay", LOG, "--store", url, "--out", outs[name], "--json") for name, url in urls.items()
        }
        said = {name: finish(process) for name, process in programs.items()}
    for name, told in said.items():
        assert (0, "") == (told.code, told.err), name
        assert expected.csv() == outs[name].read_bytes(), name
        assert [] == told.json["unusable"]
        assert expected.refused == [fault["line"] for fault in told.json["refused"]]
        assert len(expected.steps) == told.json["escalations"] > 3000


MOMENTS = st.one_of(
    st.integers(0, 240).map(float),
    st.integers(0, 48).map(lambda five: five * 5.0),
    st.integers(0, 240 * 60).map(lambda second: second / 60),
    st.sampled_from((10 + 0.5 / 60, 25 + 1e-6 / 60)),
)
GENERATED = st.lists(
    st.one_of(
        st.tuples(MOMENTS, st.sampled_from(KEYS), st.sampled_from(EVENTS), st.sampled_from(SEVERITIES)),
        st.sampled_from(RUBBISH),
    ),
    max_size=40,
)
"""Logs: events in any order, about keys that may be unknown, and lines that are none."""
CHOSEN = st.fixed_dictionaries(
    {
        "critical": st.integers(1, 12),
        "other": st.integers(1, 30),
        "high": st.integers(1, 20),
        "snooze": st.sampled_from((0, 1, 7, 30)),
        "tick": st.sampled_from((1, 60, 600)),
        "max_level": st.integers(1, 7),
    }
)
Generated = list[tuple[float, str, str, str] | bytes]


def hold(log: Generated, chosen: dict[str, int]) -> tuple[bytes, list[Row], list[int], Settings, Rules]:
    """Return a generated log's file, its rows, the lines that are no events, and the settings in both tongues."""
    lines, rows, faults = [HEADER.encode()], [], []
    for number, entry in enumerate(log, 2):
        if isinstance(entry, bytes):
            lines.append(entry)
            if entry.strip():
                faults.append(number)
            continue
        minute, key, event, severity = entry
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow((instant(at(minute)), key, event, severity))
        lines.append(text.getvalue().encode())
        if event == "severity_changed" and not severity:
            faults.append(number)
        else:
            rows.append(Row(number, at(minute), key, event, severity))
    windows = {name: timedelta(minutes=chosen[name]) for name in ("critical", "high")}
    settings_ = Settings(
        critical_window=windows["critical"],
        warning_window=timedelta(minutes=chosen["other"]),
        windows={"high": windows["high"]},
        snooze=timedelta(minutes=chosen["snooze"]),
        tick_interval=timedelta(seconds=chosen["tick"]),
        max_level=chosen["max_level"],
    )
    rules = Rules(
        windows=windows,
        other=timedelta(minutes=chosen["other"]),
        snooze=timedelta(minutes=chosen["snooze"]),
        tick=timedelta(seconds=chosen["tick"]),
        max_level=chosen["max_level"],
    )
    return b"\n".join(lines), rows, faults, settings_, rules


def compare(outcome: Replay, folder: Path, rows: Sequence[Row], faults: Sequence[int], rules: Rules) -> None:
    """Hold an outcome against the reference, whole."""
    expected = expect(rows, rules) if rows else None
    assert list(faults) == [fault.line for fault in outcome.unusable]
    assert ([] if expected is None else expected.refused) == sorted(fault.line for fault in outcome.refused)
    assert (expected.csv() if expected else b"at,incident_key,episode,level\r\n") == written(folder, outcome)
    assert (len(rows), len({row.key for row in rows})) == (outcome.events, outcome.incidents)


DEFAULTS = {"critical": 5, "other": 15, "high": 10, "snooze": 30, "tick": 60, "max_level": 7}


@given(log=GENERATED, chosen=CHOSEN)
@settings(max_examples=5 * settings().max_examples)
@example(
    # A live incident opened and acknowledged twice, reopened before its end and after it, all on one instant each.
    log=[
        (0.0, "shop", "opened", "critical"),
        (5.0, "shop", "reopened", "critical"),
        (5.0, "shop", "opened", ""),
        (40.0, "shop", "acknowledged", ""),
        (40.0, "shop", "acknowledged", ""),
        (60.0, "shop", "resolved", ""),
        (60.0, "shop", "reopened", "high"),
        (50.0, "nobody", "resolved", ""),
        (240.0, "shop", "severity_changed", "critical"),
    ],
    chosen=DEFAULTS,
)
def test_any_log_on_memory(log: Generated, chosen: dict[str, int]) -> None:
    """Whatever a log holds, the memory store's replay equals the rules, and every bad row is named."""
    text, rows, faults, settings_, rules = hold(log, chosen)
    with tempfile.TemporaryDirectory() as name:
        outcome = asyncio.run(play_on_memory(write(Path(name), text), settings_))
        compare(outcome, Path(name), rows, faults, rules)


@given(log=GENERATED, chosen=CHOSEN)
@settings(max_examples=min(30, settings().max_examples))
def test_any_log_on_sqlite(log: Generated, chosen: dict[str, int]) -> None:
    """Whatever a log holds, SQLite's replay equals the rules."""
    text, rows, faults, settings_, rules = hold(log, chosen)
    with tempfile.TemporaryDirectory() as name:
        outcome = asyncio.run(play_on_sqlite(write(Path(name), text), settings_))
        compare(outcome, Path(name), rows, faults, rules)


def test_any_log_on_postgres(postgres_server: Server) -> None:
    """Whatever a log holds, PostgreSQL's replay equals the rules."""
    with postgres_server.fresh() as dsn:

        @given(log=GENERATED.filter(lambda log: len(log) > 10), chosen=CHOSEN)
        @settings(max_examples=min(8, settings().max_examples // 5))
        def holds(log: Generated, chosen: dict[str, int]) -> None:
            text, rows, faults, settings_, rules = hold(log, chosen)
            with tempfile.TemporaryDirectory() as name:
                outcome = asyncio.run(play_on_postgres(write(Path(name), text), settings_, dsn))
                compare(outcome, Path(name), rows, faults, rules)

        holds()


# --- boundaries, by hand


def test_due_at_the_last_instant(tmp_path: Path) -> None:
    """An escalation that is due at the last event's very instant is played, and nothing after it."""
    log = log_of((0, "a", "opened", "critical"), (5, "b", "opened", "critical"))
    assert [(5, "a", 1, 1)] == steps(tmp_path, log)
    log = log_of((0, "a", "opened", "critical"), (4.99, "b", "opened", "critical"))
    assert [] == steps(tmp_path, log)


def test_acknowledged_at_the_due_instant(tmp_path: Path) -> None:
    """At one instant events come first: an acknowledgement at the very due instant wins."""
    log = log_of((0, "a", "opened", "critical"), (5, "a", "acknowledged", ""), (60, "b", "opened", ""))
    assert [] == steps(tmp_path, log)
    log = log_of((0, "a", "opened", "critical"), (5 + 1e-6 / 60, "a", "acknowledged", ""), (60, "b", "opened", ""))
    assert [(5, "a", 1, 1)] == steps(tmp_path, log)


def test_resolved_and_reopened_at_the_due_instant(tmp_path: Path) -> None:
    """An incident that ends and comes back at its due instant is in a new episode, whose window is whole."""
    log = log_of(
        (0, "a", "opened", "critical"),
        (5, "a", "resolved", ""),
        (5, "a", "reopened", "critical"),
        (10, "b", "opened", ""),
    )
    assert [(10, "a", 2, 1)] == steps(tmp_path, log)


def test_severity_at_the_due_instant(tmp_path: Path) -> None:
    """A severity that changes at the due instant counts: a longer window puts the escalation off."""
    log = log_of((0, "a", "opened", "critical"), (5, "a", "severity_changed", "warning"), (15, "b", "opened", ""))
    assert [(15, "a", 1, 1)] == steps(tmp_path, log)


def test_severity_makes_overdue(tmp_path: Path) -> None:
    """A shorter window that is over already escalates at the instant of the change."""
    log = log_of((0, "a", "opened", "warning"), (8, "a", "severity_changed", "critical"), (8, "b", "opened", ""))
    assert [(8, "a", 1, 1)] == steps(tmp_path, log)


def test_exact_instants(tmp_path: Path) -> None:
    """Each escalation is at the exact instant at which it is due: windows first, then the snooze between two."""
    log = log_of((0, "a", "opened", "critical"), (600, "b", "opened", ""))
    assert [(5 + 30 * (level - 1), "a", 1, level) for level in range(1, 8)] == steps(tmp_path, log)
    assert [(5 * level, "a", 1, level) for level in range(1, 8)] == steps(tmp_path, log, ESC_SNOOZE_MIN="0")


def test_order_of_the_output(tmp_path: Path) -> None:
    """Escalations of one instant stand in the order of their keys' bytes."""
    keys = ("b", "B", "é", "🔥", "\uff5e", "a")
    log = log_of(*((0, key, "opened", "critical") for key in keys), (5, "z", "opened", ""))
    assert sorted(keys, key=str.encode) == [key for _, key, _, _ in steps(tmp_path, log)]


@pytest.mark.parametrize("year", ["1970", "9998"])
def test_ends_of_time(console: Console, tmp_path: Path, year: str) -> None:
    """A log from either end of what every store keeps is played like any other."""
    log = write(tmp_path, f"{HEADER}\n{year}-06-30T00:00:00Z,a,opened,critical\n{year}-06-30T00:05:00Z,b,opened,\n")
    said = console("replay", log, "--store", "memory", "--out", tmp_path / "out.csv")
    assert (0, "") == (said.code, said.err)
    assert f"{year}-06-30T00:05:00Z,a,1,1" == (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[1]


# --- rows and files that are none


def faults(said: Said) -> list[tuple[int, str]]:
    assert 0 == said.code, said
    return [(fault["line"], fault["reason"]) for fault in said.json["unusable"]]


GOOD = f"{instant(at(0))},good,opened,critical\n{instant(at(9))},last,opened,\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2025-03-14T00:00:00Z,\xff\xfe,opened,critical", "row: is not UTF-8; save"),
        (b'2025-03-14T00:00:00Z,"a,opened,critical', "row: is not valid CSV (unexpected end of data)"),
        (b"2025-03-14T00:00:00Z,a,opened", "row: has 3 cells; give 4"),
        (b"2025-03-14T00:00:00Z,a,opened,critical,x", "row: has 5 cells; give 4"),
        (b"2025-03-14T00:00:00,a,opened,critical", "at: has no time zone"),
        (b"tomorrow,a,opened,critical", "at: 'tomorrow' is not a valid instant"),
        (b"9999-12-31T23:59:59-12:00,a,opened,critical", "at: lies outside the years"),
        (b"2025-03-14T00:00:00Z,a,Opened,critical", "event: 'Opened' is not a valid event; write opened, acknowledged"),
        (b"2025-03-14T00:00:00Z,a,severity_changed, ", "severity: is empty"),
        (b"2025-03-14T00:00:00Z,,opened,critical", "incident_key: has 0 bytes"),
        (b"2025-03-14T00:00:00Z," + b"k" * 513 + b",opened,critical", "incident_key: has 513 bytes; give 1 to 512"),
        ("2025-03-14T00:00:00Z,{},opened,critical".format("é" * 257).encode(), "incident_key: has 514 bytes"),
        (b"2025-03-14T00:00:00Z,a\tb,opened,critical", "incident_key: holds a control character"),
        (b"2025-03-14T00:00:00Z,a\0b,opened,critical", "row: holds a NUL character"),
        (b"x" * 200_000, "row: is not valid CSV (field larger than field limit"),
        (b"2025-03-14T00:00:00Z,a\rb,opened,critical", "row: is not valid CSV (new-line character"),
    ],
)
def test_bad_row(console: Console, tmp_path: Path, line: bytes, reason: str) -> None:
    """A row that is no event is named with its line and its fault, and the rest goes on."""
    log = write(tmp_path, f"{HEADER}\n\n".encode() + line + b"\n" + GOOD.encode())
    said = console("replay", log, "--store", "memory", "--json")
    [(number, told)] = faults(said)
    assert 3 == number
    assert told.startswith(reason)
    assert (2, 1) == (said.json["events"], said.json["escalations"])


@pytest.mark.parametrize("key", ["k" * 512, "é" * 256, "🔥" * 128])
def test_longest_key(console: Console, tmp_path: Path, key: str) -> None:
    """A key of 512 bytes is legal."""
    log = write(tmp_path, f"{HEADER}\n{instant(at(0))},{key},opened,critical\n{GOOD}")
    assert [] == faults(console("replay", log, "--store", "memory", "--json"))


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEADER}\n{GOOD}",
        f"{HEADER}\r\n{GOOD}".replace("\n", "\r\n").replace("\r\r", "\r"),
        f"{HEADER}\n\n   \n{GOOD}\n\n",
        f"{HEADER}\n{GOOD}".rstrip("\n"),
        f" at , incident_key,event ,severity\n{GOOD}",
        f"{HEADER},note\n{GOOD}".replace(",critical", ',critical,"a, ""b"""').replace("last,opened,", "last,opened,,"),
        "severity,event,incident_key,at\n"
        + "".join(",".join(reversed(line.split(","))) + "\n" for line in GOOD.splitlines()),
        f"{HEADER}\n{GOOD}".replace("Z,", "+00:00,"),
        f"{HEADER}\n{GOOD}".replace("00:00Z,", "00:00 Z,").replace(" Z", "Z"),
    ],
)
def test_dialects(console: Console, tmp_path: Path, text: str) -> None:
    """A byte order mark, CRLF, blank lines, further columns, another order of columns: all of it is read."""
    said = console("replay", write(tmp_path, text), "--store", "memory", "--json")
    assert [] == faults(said)
    assert (2, 1) == (said.json["events"], said.json["escalations"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "line 1: column 'at' is missing; the columns are at,incident_key,event,severity"),
        (b"at,incident_key,event\n", "line 1: column 'severity' is missing"),
        (b"at,incident_key,event,severity,at\n", "line 1: column 'at' is there twice"),
        (f"{HEADER}\n{GOOD}".encode("utf-16"), "line 1: row: is not UTF-8; save the log as UTF-8"),
        (f"{HEADER}\n{GOOD}".encode("utf-16-le"), "line 1: row: holds a NUL"),
        (b'"at,incident_key,event,severity\n', "line 1: row: is not valid CSV"),
        (b"\x89PNG\r\n\x1a\n", "line 1: row: is not UTF-8"),
    ],
)
def test_no_log(console: Console, tmp_path: Path, text: bytes, told: str) -> None:
    """A file that is no log is refused in one line, and nothing is written."""
    log, out = write(tmp_path, text), tmp_path / "out.csv"
    line = one_line(console("replay", log, "--store", "memory", "--out", out))
    assert line.startswith(f"{log}, {told}")
    assert not out.exists()


def test_no_file(console: Console, tmp_path: Path) -> None:
    """A log that cannot be opened is refused in one line."""
    missing = tmp_path / "none.csv"
    assert f"{missing} cannot be read: No such file or directory" == one_line(
        console("replay", missing, "--store", "memory")
    )
    assert f"{tmp_path} cannot be read: Is a directory" == one_line(console("replay", tmp_path, "--store", "memory"))
    with pytest.raises(UnreadableLog):
        read_events(missing)


def test_only_a_header(console: Console, tmp_path: Path) -> None:
    """A log without events is played like any other, and comes to nothing."""
    log, out = write(tmp_path, HEADER), tmp_path / "out.csv"
    said = console("replay", log, "--store", "memory", "--out", out, "--json")
    assert {"events": 0, "incidents": 0, "escalations": 0, "first": None, "last": None}.items() <= said.json.items()
    assert b"at,incident_key,episode,level\r\n" == out.read_bytes()


def test_refused_events(console: Console, tmp_path: Path) -> None:
    """Events that the incident's state does not allow are named with line and reason, and change nothing."""
    log = write(
        tmp_path,
        log_of(
            (0, "a", "acknowledged", ""),
            (1, "a", "opened", "critical"),
            (2, "a", "reopened", ""),
            (3, "a", "resolved", ""),
            (4, "a", "acknowledged", ""),
            (5, "a", "severity_changed", "critical"),
            (6, "a", "resolved", ""),
        ),
    )
    said = console("replay", log, "--store", "memory", "--json")
    assert [
        (2, "cannot acknowledge incident 'a': it is unknown; open it first"),
        (4, "cannot reopen incident 'a': it is open; only a resolved incident is reopened"),
        (6, "cannot acknowledge incident 'a': it is resolved; open it again first"),
        (7, "cannot change_severity incident 'a': it is resolved; open it again first"),
    ] == [(fault["line"], fault["reason"]) for fault in said.json["refused"]]
    assert {"opened": 1, "resolved": 2} == said.json["played"]


# --- the command


def test_json(console: Console, tmp_path: Path) -> None:
    """--json tells counts per event and level, the span, and every row that was left out."""
    log = write(tmp_path, log_of((0, "a", "opened", "critical"), (5, "b", "opened", ""), (5, "a", "reopened", "")))
    said = console("replay", log, "--store", "memory", "--json")
    assert {
        "events": 3,
        "played": {"opened": 2},
        "incidents": 2,
        "escalations": 1,
        "levels": {"1": 1},
        "first": "2025-03-14T00:00:00+00:00",
        "last": "2025-03-14T00:05:00+00:00",
        "unusable": [],
        "refused": [
            {"line": 4, "reason": "cannot reopen incident 'a': it is open; only a resolved incident is reopened"}
        ],
    } == said.json


def test_for_people(console: Console, tmp_path: Path) -> None:
    """Without --json it tells the same in lines, unusable rows and refused events apart."""
    log = write(tmp_path, f"{HEADER}\n{instant(at(0))},a,resolved,\nrubbish\n{GOOD}")
    assert [
        "3 events about 3 incidents, 2025-03-14 00:00:00Z to 2025-03-14 00:09:00Z: 1 escalations",
        "level\tcount",
        "1\t1",
        "unusable row, line\treason",
        "3\trow: has 1 cells; give 4, as the header has",
        "refused event, line\treason",
        "2\tcannot resolve incident 'a': it is unknown; open it first",
    ] == console("replay", log, "--store", "memory").lines


def test_keep_pause(console: Console, tmp_path: Path) -> None:
    """A scheduled pause counts only when it is kept: what came due in it escalates at its end."""
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
    # A change in the pause makes due what had its instant before the pause.
    log=[
        (0.0, "shop", "opened", "warning"),
        (12.0, "shop", "severity_changed", "critical"),
        (60.0, "shop", "acknowledged", ""),
    ],
    begin=10,
    length=20,
)
def test_any_log_with_a_pause(log: Generated, begin: int, length: int) -> None:
    """Whatever a log holds, a pause that is kept holds back exactly what falls into it."""
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
    """The canary counts only when it is kept: then keys outside it never escalate."""
    keys = [f"INC{number}" for number in range(60)]
    log = write(tmp_path, log_of(*((0, key, "opened", "critical") for key in keys), (9, "z", "opened", "")))
    out = tmp_path / "out.csv"
    console("replay", log, "--store", "memory", "--out", out, ESC_CANARY_PCT="10")
    assert 61 == len(out.read_bytes().splitlines())
    console("replay", log, "--store", "memory", "--out", out, "--keep", "canary", ESC_CANARY_PCT="10")
    inside = Rules(admitted=lambda key: int(hashlib.md5(key.encode()).hexdigest()[:8], 16) % 100 < 10)  # noqa: S324 - the seed's bucket, no secret
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
    """Switches and the dry run count only when they are kept: then nothing escalates."""
    log = write(tmp_path, f"{HEADER}\n{GOOD}")
    assert 1 == console("replay", log, "--store", "memory", "--json", **variables).json["escalations"]
    kept = console("replay", log, "--store", "memory", "--json", "--keep", keep, **variables)
    assert 0 == kept.json["escalations"]


def test_settings_apply(console: Console, tmp_path: Path) -> None:
    """Windows, snooze and the maximum level are those of the environment, and wrong ones are refused."""
    log = write(tmp_path, log_of((0, "a", "opened", "high"), (30, "z", "opened", "")))
    said = console(
        "replay", log, "--store", "memory", "--json", ESC_ACK_MIN='{"high": 2}', ESC_SNOOZE_MIN="0", MAX_ESC_LEVEL="4"
    )
    assert {"1": 1, "2": 1, "3": 1, "4": 1} == said.json["levels"]
    refused = console("replay", log, "--store", "memory", MAX_ESC_LEVEL="0")
    assert 1 == refused.code
    assert "MAX_ESC_LEVEL: is 0" in refused.err


def test_sqlite_file_is_kept(console: Console, tmp_path: Path) -> None:
    """A replay keeps its SQLite file, and refuses one that holds anything, which it leaves as it was."""
    log, file = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "replay.db"
    file.touch()
    assert 0 == console("replay", log, "--store", f"sqlite:///{file}").code
    kept = file.read_bytes()
    assert kept
    told = one_line(console("replay", log, "--store", f"sqlite:///{file}"))
    assert f"{file} is not empty; a replay wants a new file" == told
    assert kept == file.read_bytes()


@pytest.mark.parametrize("url", ["mongodb://u:hunter2@h/d", "replay.db", "sqlite://replay.db", ""])
def test_no_such_store(console: Console, tmp_path: Path, url: str) -> None:
    """A store of no known kind is refused in one line that does not repeat it."""
    told = one_line(console("replay", write(tmp_path, f"{HEADER}\n{GOOD}"), "--store", url))
    assert "hunter2" not in told


@pytest.mark.parametrize("name", ["no/out.csv", "file/out.csv", ".", "folder", "/", "o" * 300])
def test_out_cannot_be_written(console: Console, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where --out cannot be written it says so in one line, and no half file is left."""
    log = write(tmp_path, f"{HEADER}\n{GOOD}")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert f"{name} cannot be written: " in one_line(console("replay", log, "--store", "memory", "--out", name))
    assert before == sorted(tmp_path.rglob("*"))


def test_out_replaces(console: Console, tmp_path: Path) -> None:
    """--out replaces a file that is there, through a link as well, and leaves the file alone when the log is bad."""
    log, out, link = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "out.csv", tmp_path / "link.csv"
    out.write_text("precious", encoding="utf-8")
    link.symlink_to(out)
    one_line(console("replay", tmp_path / "none.csv", "--store", "memory", "--out", link))
    assert "precious" == out.read_text(encoding="utf-8")
    console("replay", log, "--store", "memory", "--out", link)
    assert link.is_symlink()
    assert f"at,incident_key,episode,level\r\n{instant(at(5))},good,1,1\r\n".encode() == out.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes with names in folders")
def test_out_is_a_pipe(console: Console, tmp_path: Path) -> None:
    """A pipe or a device is written into; it is not replaced by a file."""
    log, pipe, read = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    said = console("replay", log, "--store", "memory", "--out", pipe)
    reader.join(10)
    assert (0, True) == (said.code, pipe.is_fifo())
    assert [f"at,incident_key,episode,level\r\n{instant(at(5))},good,1,1\r\n".encode()] == read


# --- PostgreSQL's schema


def schemas(dsn: str) -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
        )
        return sorted(name for (name,) in rows)


def test_postgres_leaves_nothing(console: Console, pg_dsn: str, tmp_path: Path) -> None:
    """A replay on PostgreSQL works in a schema of its own, and drops it."""
    log, out = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "out.csv"
    said = console("replay", log, "--store", url_of(pg_dsn), "--out", out)
    assert (0, "") == (said.code, said.err)
    assert 2 == len(out.read_bytes().splitlines())
    assert ["public"] == schemas(pg_dsn)


async def test_postgres_leaves_nothing_when_it_fails(pg_dsn: str, tmp_path: Path) -> None:
    """The schema is dropped as well when the replay breaks off half-way."""
    events, _ = read_events(write(tmp_path, f"{HEADER}\n{GOOD}"))
    clock = ManualClock(DAY)
    seen: list[Any] = []

    def fail(done: int) -> None:
        seen.extend(schemas(pg_dsn))
        raise RuntimeError("half-way")

    async def work() -> None:
        async with scratch_store(pg_dsn, clock) as store:
            await replay(Engine(store, notifiers=[LogNotifier("replay")]), clock, events, progress=fail)

    with pytest.raises(RuntimeError, match="half-way"):
        await work()
    assert 2 == len(seen)
    assert ["public"] == schemas(pg_dsn)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_postgres_leaves_nothing_when_it_is_interrupted(pg_dsn: str, tmp_path: Path) -> None:
    """The schema is dropped as well when somebody presses Ctrl-C."""
    log = write(tmp_path, log_of(*((minute, f"k{minute}", "opened", "") for minute in range(50_000))))
    process = start("replay", log, "--store", url_of(pg_dsn))
    until = time.monotonic() + 20
    while 2 > len(schemas(pg_dsn)) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert 1 == said.code
    assert "Traceback" not in said.err
    assert ["public"] == schemas(pg_dsn)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_postgres_leaves_nothing_when_it_is_terminated(pg_dsn: str, tmp_path: Path) -> None:
    """SIGTERM ends a replay as Ctrl-C does."""
    log = write(tmp_path, log_of(*((minute, f"k{minute}", "opened", "") for minute in range(50_000))))
    process = start("replay", log, "--store", url_of(pg_dsn))
    until = time.monotonic() + 20
    while 2 > len(schemas(pg_dsn)) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert 1 == finish(process).code
    assert ["public"] == schemas(pg_dsn)


@pytest.mark.parametrize("at", ["1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_instants_that_no_store_escalates_at(at: str, tmp_path: Path) -> None:
    """An instant at the ends of what stores keep is an unusable row, in every store."""
    events, faults = read_events(write(tmp_path, f"{HEADER}\n{at},k,opened,\n"))
    assert ([], True) == (events, "lies outside the years 1970 to 9998" in faults[0].reason)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="only where there is such a file")
def test_out_to_where_the_rest_is_printed(tmp_path: Path) -> None:
    """--out /dev/stdout into a file: the file holds the escalations and what is told after them."""
    log, said = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "said"
    with said.open("wb") as stdout:
        command = [*PROGRAM, "replay", str(log), "--store", "memory", "--out", "/dev/stdout"]
        subprocess.run(command, stdout=stdout, check=True, timeout=60)
    text = said.read_text(encoding="utf-8")
    assert text.startswith("at,incident_key,episode,level")
    assert "escalations" in text


def test_store_that_cannot_be_looked_at(console: Console, tmp_path: Path) -> None:
    """A file name that the system refuses is told in one line."""
    log = write(tmp_path, f"{HEADER}\n{GOOD}")
    line = one_line(console("replay", log, "--store", f"sqlite:////tmp/{'x' * 300}"))
    assert "cannot be read: File name too long" in line


def test_as_a_program(tmp_path: Path) -> None:
    """Started as a program it writes the file and tells no more than asked."""
    log, out = write(tmp_path, f"{HEADER}\n{GOOD}"), tmp_path / "out.csv"
    said = program("replay", log, "--store", "memory", "--out", out)
    assert (0, "") == (said.code, said.err)
    assert 2 == len(out.read_bytes().splitlines())
