"""Who is on call, from the command line: now, next, gaps, the pictures, and overrides."""

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from escalation_adapters.policies_file import load_policies
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Engine
from escalation_core.testing import ManualClock

from .console import Console, one_line, screen, told

FILE = """
policies: {ops: {levels: [{after: 0m, to: [oncall:primary, oncall:office, oncall:gone, oncall:rota]}]}}
assign: [{severity: critical, policy: ops}]
hours: {office: {zone: Asia/Kathmandu, windows: [{days: mon-fri, from: "09:00", to: "17:00"}]}}
schedules:
  primary: {rotation: {zone: Europe/Berlin, start: 2026-01-05T09:00, turn: 365d, people: [ann, bob]}}
  office: {rotation: {zone: Asia/Kathmandu, start: 2026-01-05T09:00, turn: 1d, people: [ann, bob], hours: office}}
  gone: {rotation: {zone: UTC, start: 2026-01-05T09:00, until: 2026-01-06T09:00, turn: 1d, people: [cid]}}
  rota: {ical: rota.ics}
people: {ann: slack:ann, bob: slack:bob}
"""
CALENDAR = """
BEGIN:VCALENDAR
PRODID:-//x//EN
VERSION:2.0
BEGIN:VEVENT
UID:1
SUMMARY:ann
DTSTAMP:20260101T000000Z
DTSTART:20260101T000000Z
DTEND:20990101T000000Z
END:VEVENT
END:VCALENDAR
"""
TARGETS = json.dumps(dict.fromkeys(("slack:ann", "slack:bob"), "https://hooks.example.test/s3cret"))


@pytest.fixture
def oncall(on_sqlite: Console, tmp_path: Path) -> Console:
    """The command line on SQLite, with a policies file that has schedules of each kind."""
    (tmp_path / "policies.yaml").write_text(FILE, encoding="utf-8")
    (tmp_path / "rota.ics").write_text(CALENDAR.strip().replace("\n", "\r\n") + "\r\n", encoding="utf-8")
    on_sqlite.env |= {
        "ESC_POLICIES": str(tmp_path / "policies.yaml"),
        "ESC_TARGETS": TARGETS,
        "ESC_DEFAULT_TARGET": "slack:ann",
    }
    return on_sqlite


def rows(text: str) -> list[list[str]]:
    """Return the rows of a table without its header."""
    return [line.split("\t") for line in text.splitlines()[1:]]


def in_hours(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def test_now_at_an_instant(oncall: Console) -> None:
    """``now`` has the people, their targets, until when, and why; a gap is no one, and a person may lack a target."""
    monday = rows(told(oncall("oncall", "now", "--at", "2026-01-05T09:30:00Z")))
    assert [
        ["gone", "cid", "", "2026-01-06 09:00:00Z", "the schedule; a person has no target"],
        ["office", "ann", "slack:ann", "2026-01-05 11:15:00Z", "the schedule"],
        ["primary", "ann", "slack:ann", "2027-01-05 08:00:00Z", "the schedule"],
    ] == monday[:3]
    sunday = rows(told(oncall("oncall", "now", "office", "--at", "2026-01-11T09:30:00Z")))
    assert [["office", "no one", "", "2026-01-12 03:15:00Z", "a gap"]] == sunday
    assert "rota\tann\tslack:ann" in told(oncall("oncall", "now", "rota", "--at", "1h"))


def test_now_as_json(oncall: Console) -> None:
    found = json.loads(told(oncall("oncall", "now", "primary", "--at", "2026-01-05T09:30:00Z", "--json")))
    assert {
        "at": "2026-01-05T09:30:00+00:00",
        "schedules": [
            {
                "schedule": "primary",
                "people": ["ann"],
                "targets": ["slack:ann"],
                "until": "2027-01-05T08:00:00+00:00",
                "override": None,
                "horizon": "9999-12-31T23:59:59.999999+00:00",
            }
        ],
    } == found


def test_a_calendar_that_cannot_be_read_is_not_known(oncall: Console, tmp_path: Path) -> None:
    """It is not taken for a gap: ``now``, ``next``, ``gaps`` and ``show`` say so, and standard error says why."""
    (tmp_path / "rota.ics").unlink()
    said = oncall("oncall", "now", "rota")
    assert (0, [["rota", "not known", "", "", "the schedule could not be loaded"]]) == (said.code, rows(said.out))
    assert "schedule 'rota'" in said.err
    assert "rota\t\tnot known\tno handover is known" in oncall("oncall", "next").out
    gaps = oncall("oncall", "gaps", "rota", "--json")
    assert (1, "not known") == (gaps.code, gaps.json["gaps"][0]["what"])
    [shown] = oncall("oncall", "show", "rota", "--json").json["schedules"]
    assert [None] == [span["people"] for span in shown["spans"]]


def test_a_schedule_that_ends_says_so(oncall: Console) -> None:
    """Beyond the end of what a calendar knows, ``now`` says when it ended."""
    [[_, people, _, _, why]] = rows(told(oncall("oncall", "now", "rota", "--at", "900d")))
    assert ("not known", True) == (people, why.startswith("ends at 20"))


def test_next(oncall: Console) -> None:
    """``next`` has the next handover of each schedule, and says if there is none."""
    found = {row[0]: row[1:] for row in rows(told(oncall("oncall", "next")))}
    begin = datetime(2026, 1, 5, 9, tzinfo=UTC)
    turns = (datetime.now(UTC) - begin) // timedelta(days=365)
    who = ["ann", "bob"]
    at, before, after = found["primary"]
    assert (who[turns % 2], who[(turns + 1) % 2]) == (before, after)
    assert (begin + (turns + 1) * timedelta(days=365)).date().isoformat() == at[:10]
    assert ["", "no one", "no handover is known"] == found["gone"]
    [one] = json.loads(told(oncall("oncall", "next", "primary", "--json")))["handovers"]
    assert ([before], [after]) == (one["before"], one["after"])


def test_gaps(oncall: Console) -> None:
    """``gaps`` has exit code 1 if no one is on call at some time, else 0. An override fills a gap."""
    assert "there is no gap\n" == told(oncall("oncall", "gaps", "primary", "--until", "700d"))
    said = oncall("oncall", "gaps", "gone", "--until", "10h", "--json")
    [gap] = said.json["gaps"]
    assert (1, "gone", "no one") == (said.code, gap["schedule"], gap["what"])
    assert (said.json["at"], said.json["until"]) == (gap["start"], gap["end"])
    told(oncall("oncall", "override", "gone", "ann", "--until", "4h"))
    [[schedule, what, start, _]] = rows(oncall("oncall", "gaps", "gone", "--until", "10h").out)
    assert ("gone", "no one") == (schedule, what)
    begins = datetime.fromisoformat(start)
    assert in_hours(3.9) < begins < in_hours(4.1)
    told(oncall("oncall", "override", "gone", "bob", "--until", "20h"))
    assert "there is no gap\n" == told(oncall("oncall", "gaps", "gone", "--until", "10h"))


def test_override(oncall: Console) -> None:
    """It says what it made, is in the audit with actor and reason, and ``now`` and ``show`` obey and name it."""
    said = told(oncall("oncall", "override", "primary", "bob", "--until", "2h", "--by", "ann", "--reason", "dentist"))
    assert re.fullmatch(r"bob is on call for primary from 20.{17}Z until 20.{17}Z\n", said)
    [[_, people, targets, until, why]] = rows(told(oncall("oncall", "now", "primary")))
    assert ("bob", "slack:bob", "override by ann: dentist") == (people, targets, why)
    assert in_hours(1.9) < datetime.fromisoformat(until) < in_hours(2.1)
    [shown] = json.loads(told(oncall("oncall", "show", "primary", "--json")))["schedules"]
    [span] = [one for one in shown["spans"] if one["override"] is not None]
    assert (["bob"], "bob", "dentist") == (span["people"], span["override"]["person"], span["override"]["reason"])
    [entry] = [one for one in json.loads(told(oncall("audit", "--json"))) if one["action"] == "override"]
    assert ("ann", True) == (entry["actor"], "dentist" in entry["reason"])


async def test_the_picture_has_what_is_over(oncall: Console) -> None:
    """``show`` begins at midnight, so an override that ended an hour ago is in it; ``now`` no longer obeys it."""
    now = datetime.now(UTC)
    store = await SQLiteStore.connect(
        oncall.env["ESC_DATABASE_URL"].removeprefix("sqlite:///"), clock=ManualClock(now - timedelta(hours=2))
    )
    async with Engine(store, policies=load_policies(oncall.env["ESC_POLICIES"])) as engine:
        await engine.override("gone", "bob", until=timedelta(hours=1))
    zone = f"Etc/GMT{now.hour - 12:+d}"  # there it is noon
    [shown] = (await asyncio.to_thread(oncall, "oncall", "show", "gone", "--zone", zone, "--json")).json["schedules"]
    assert [[], ["bob"], []] == [span["people"] for span in shown["spans"]]
    assert "\ta gap\n" in (await asyncio.to_thread(oncall, "oncall", "now", "gone")).out


def test_an_override_ahead(oncall: Console) -> None:
    """``--from`` may be a span or an instant; a span of ``--until`` counts from there."""
    made = json.loads(
        told(oncall("oncall", "override", "primary", "bob", "--from", "3h", "--until", "5h", "--by", "ann", "--json"))
    )
    starts, ends = (datetime.fromisoformat(made[name]) for name in ("starts_at", "ends_at"))
    assert timedelta(hours=5) == ends - starts
    assert in_hours(2.9) < starts < in_hours(3.1)
    assert ("primary", "bob", "ann", None) == tuple(made[name] for name in ("schedule", "person", "actor", "reason"))
    start, end = (in_hours(hours).isoformat() for hours in (1, 2))
    made = json.loads(told(oncall("oncall", "override", "primary", "bob", "--from", start, "--until", end, "--json")))
    assert (start, end) == (made["starts_at"], made["ends_at"])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["now", "primry"], "schedule: 'primry' is not a known schedule; the nearest is 'primary'"),
        (["gaps", "--until", "2020-01-01T00:00:00Z"], "until: is not after now"),
        (["gaps", "--until", "3y"], "'3y' is not a valid instant"),
        (["gaps", "--until", "900d"], "give at most 731 days"),
        (["show", "--zone", "Europe/Berln"], "'Europe/Berln' is not a valid time zone"),
        (["override", "primry", "ann", "--until", "2h"], "'primry' is not known; the nearest is 'primary'"),
        (["override", "primary", "anna", "--until", "2h"], "'anna' is not known; the nearest is 'ann'"),
        (["override", "primary", "ann", "--from", "3h", "--until", "2020-01-01T00:00:00Z"], "is not after the start"),
        (["override", "primary", "ann"], "Missing option '--until'"),
    ],
)
def test_refusals(oncall: Console, arguments: Sequence[str], part: str) -> None:
    """What is wrong is refused in one line, or as a wrong command line, and no override is made."""
    said = oncall("oncall", *arguments)
    assert said.code in (1, 2)
    assert part in (said.err if said.code == 2 else one_line(said))
    assert "the schedule" in told(oncall("oncall", "now", "primary"))


def test_show_as_lines_and_as_a_picture(oncall: Console, tmp_path: Path) -> None:
    """Elsewhere than on a terminal ``show`` has a row for each span; ``--svg`` writes a picture, and says so."""
    found = rows(told(oncall("oncall", "show", "primary", "--until", "3d")))
    assert [["primary", found[0][3], ""]] == [[row[0], row[3], row[4]] for row in found]
    midnight = datetime.fromisoformat(found[0][1])
    assert {22, 23} >= {midnight.hour}
    until = datetime.now(UTC) + timedelta(days=2)
    [shown] = json.loads(told(oncall("oncall", "show", "rota", "--until", until.isoformat(), "--json")))["schedules"]
    assert until <= datetime.fromisoformat(shown["spans"][-1]["end"]) <= until + timedelta(days=1)
    file = tmp_path / "oncall.svg"
    assert f"written: {file}\n" == told(oncall("oncall", "show", "--svg", str(file)))
    picture = ET.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314 - our own text
    titles = [one.text or "" for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"gone", "office", "primary", "rota"} <= set(titles)
    assert {"Asia/Kathmandu", "Europe/Berlin", "UTC"} == {one.split()[-1] for one in titles if ", hours of " in one}
    [shown] = json.loads(told(oncall("oncall", "show", "primary", "--zone", "Asia/Tokyo", "--json")))["schedules"]
    assert ("Asia/Tokyo", "15:00:00") == (shown["zone"], shown["spans"][0]["start"][11:19])


def test_a_picture_that_cannot_be_written(oncall: Console, tmp_path: Path) -> None:
    """It is refused in one line."""
    said = oncall("oncall", "show", "--svg", str(tmp_path / "missing" / "oncall.svg"))
    assert "cannot be written: No such file or directory" in one_line(said)


def test_without_schedules(on_sqlite: Console) -> None:
    """Without a policies file the commands say that there is no schedule, and there is no gap."""
    for command in ("now", "next", "gaps", "show"):
        assert "there is no schedule: the policies file has none\n" == told(on_sqlite("oncall", command))
    assert "'primary' is not a known schedule; there is none" in one_line(on_sqlite("oncall", "now", "primary"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_screens(oncall: Console) -> None:
    """On a terminal instants have weekday and zone, of the rotation or of ``--zone``, and no line is too wide."""
    told(oncall("oncall", "override", "gone", "ann", "--until", "2h"))
    told(oncall("oncall", "override", "office", "ann", "--until", "2h"))
    shown = {
        command: screen("oncall", *command.split(), env=oncall.env)
        for command in ("now", "next", "show", "show primary --zone America/New_York", "now primary --zone UTC")
    }
    assert all(len(line) <= 80 for text in shown.values() for line in text.splitlines()), shown
    assert re.search(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) 20\d\d-\d\d-\d\d \d\d:\d\d\s+UTC\+05:45", shown["now"])
    assert re.search(r"\d\d:\d\d\s+CES?T\s+\(in \d+\s+d\)", shown["next"])
    assert "primary, hours of Europe/Berlin" in shown["show"]
    assert "primary, hours of America/New_York" in shown["show primary --zone America/New_York"]
    assert re.search(r"\d\d:\d\d\s+UTC\s+\(in", shown["now primary --zone UTC"])
    scales = [line for line in shown["show"].splitlines() if "00  " in line and line.rstrip().endswith("24")]
    assert 4 <= len(scales) <= 4 * 3
    assert "│ann" in shown["show"]
    narrow = screen("oncall", "show", "primary", env=oncall.env, columns=40)
    assert ("schedule:", True) == (narrow.split()[2], all(len(line) <= 40 for line in narrow.splitlines()))
