"""Shared by tests of the replay: logs, functions that play a log on each store, and its outcome."""

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.postgres.scratch import scratch_store
from escalation_adapters.replay import Replay, read_events, replay, replay_settings, write_escalations
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Engine, Settings, SettingsRouter, Store
from escalation_core.testing import ManualClock, MemoryStore
from escalation_core.testing.conformance.harness import START

from .console import Said
from .reference import MINUTE, Row, Rules, instant

ROOT = Path(__file__).parents[2]
LOG = ROOT.parent / "shared" / "data" / "incident_events.csv"
"""The log of a real service desk, if it lies beside the checkout."""
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
"""Lines that are not valid events. The first two are blank, so they are not faults either."""


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
    clock = ManualClock(START)
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
    """Replay a log on memory with these variables; return its escalations: minute, key, episode, level."""
    chosen = replay_settings(Settings.from_env(env))
    outcome = asyncio.run(play_on_memory(write(folder, text), chosen))
    return [((e.created_at - DAY) / MINUTE, e.incident_key, e.episode, e.level) for e in outcome.escalations]


def rows_of(log: Path) -> list[Row]:
    """Read a log without faults, with this file's own code."""
    with log.open(newline="", encoding="utf-8") as file:
        return [
            Row(line, datetime.fromisoformat(row["at"]), row["incident_key"], row["event"], row["severity"])
            for line, row in enumerate(csv.DictReader(file), 2)
        ]


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
"""Logs: events in any order, for keys that may be unknown, and lines that are not valid events."""
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
    """Return a generated log's file, its rows, its lines with faults, and the settings in both forms."""
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


DEFAULTS = {"critical": 5, "other": 15, "high": 10, "snooze": 30, "tick": 60, "max_level": 7}


def faults(said: Said) -> list[tuple[int, str]]:
    assert 0 == said.code, said
    return [(fault["line"], fault["reason"]) for fault in said.json["unusable"]]


GOOD = f"{instant(at(0))},good,opened,critical\n{instant(at(9))},last,opened,\n"
