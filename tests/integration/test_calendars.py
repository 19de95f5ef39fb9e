"""Calendars from files and from a server over TLS: who is on call, and what a hostile one cannot do."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from icalendar.timezone import tzp

from escalation_adapters.calendars import child, fetch, ical
from escalation_adapters.calendars.ical import IcalSource
from escalation_core import EscalationError, InvalidValue, SchedulesError
from escalation_core.ports import Schedule, ScheduleSource
from escalation_core.testing import ManualClock

from ..unit.adapters.calendars.texts import OWN_ZONE, calendar, event
from .calendar_server import NOW, ROTA, SECRET, bomb, hostile, plain, serving

pytestmark = pytest.mark.asyncio


def source(folder: Path, clock: ManualClock | None = None, **contents: bytes) -> IcalSource:
    """Return a source of files with these contents."""
    for name, content in contents.items():
        (folder / f"{name}.ics").write_bytes(content)
    return IcalSource({name: f"{name}.ics" for name in contents}, folder=folder, clock=clock or ManualClock(NOW))


async def failed(calendars: ScheduleSource) -> SchedulesError:
    with pytest.raises(SchedulesError) as raised:
        await calendars.load()
    return raised.value


def children() -> list[str]:
    """Return the processes that this process has started."""
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


async def test_files_and_urls(tmp_path: Path) -> None:
    """Each calendar is a schedule: from 7 days ago to 90 days ahead, on whole days, whatever its last event is."""
    (tmp_path / "ended.ics").write_bytes(calendar(*event("DTSTART:20260301T090000Z", "DURATION:P20D")))
    async with serving({"rota": plain()}) as server:
        calendars = server.source("rota", folder=tmp_path, ended="ended.ics", same=str(tmp_path / "ended.ics"))
        assert isinstance(calendars, ScheduleSource)
        loaded = await calendars.load()
    assert {"rota", "ended", "same"} == set(loaded)
    assert all(isinstance(each, Schedule) for each in loaded.values())
    assert {datetime(2026, 6, 24, tzinfo=UTC)} == {each.horizon for each in loaded.values()}
    nights = [datetime(2026, 3, 28, 8, tzinfo=UTC) + timedelta(hours=each) for each in (0, 23, 47)]
    assert [frozenset({"ann"})] * 3 == [loaded["rota"].on_call(each) for each in nights]
    assert [frozenset({"ann"}), frozenset()] == [
        loaded["ended"].on_call(each) for each in (NOW - timedelta(days=5), NOW)
    ]
    assert loaded["rota"].on_call(NOW - timedelta(days=7))
    assert loaded["rota"].on_call(NOW + timedelta(days=90))


async def test_the_digest_of_a_day(tmp_path: Path) -> None:
    """An unchanged calendar has the same digest for a day, and a changed one has another."""
    clock = ManualClock(NOW)
    calendars = source(tmp_path, clock, rota=ROTA)
    digests = [(await calendars.load())["rota"].digest]
    clock.advance(timedelta(hours=11))
    digests.append((await calendars.load())["rota"].digest)
    (tmp_path / "rota.ics").write_bytes(ROTA.replace(b"SUMMARY:ann", b"SUMMARY:bob"))
    digests.append((await calendars.load())["rota"].digest)
    assert digests[0] == digests[1] != digests[2]


async def test_one_failure_loses_no_other_calendar(tmp_path: Path) -> None:
    """The error has the problems of all that failed, and the schedules of the others."""
    error = await failed(source(tmp_path, rota=ROTA, html=b"<html>", empty=b""))
    assert isinstance(error, EscalationError)
    assert {"rota"} == set(error.loaded)
    assert {"ann"} == error.loaded["rota"].on_call(NOW)
    assert {"html": "calendar is a web page", "empty": "calendar is empty"} == {
        name: problem.fault for name, problem in error.problems.items()
    }
    assert str(error).startswith("2 schedules cannot be loaded:\n  html: calendar is a web page; ")


async def test_text_of_a_calendar_in_a_problem(tmp_path: Path) -> None:
    """Invisible characters of a calendar are escapes in the error, which a terminal shows."""
    lines = event("DTSTART:20260302T090000Z", "DTEND:20260302T080000Z", summary="a\x1b[2Jb\u202ec")
    error = await failed(source(tmp_path, rota=calendar(*lines)))
    assert "(a\\x1b[2Jb\\u202ec)" in error.problems["rota"]
    assert error.problems["rota"].isprintable()


@pytest.mark.parametrize(
    ("where", "part"),
    [
        ("missing.ics", "No such file"),
        (".", "is a folder"),
        ("pipe", "is not a regular file"),
        ("a\0b", "is not a valid path"),
        ("large.ics", "is longer than 1024 KiB"),
    ],
)
async def test_refused_file(tmp_path: Path, where: str, part: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.ics").write_bytes(calendar("X-FILL:" + "x" * 2_000_000))
    error = await failed(IcalSource({"rota": where}, folder=tmp_path))
    assert part in error.problems["rota"]


async def test_calendar_of_one_mebibyte(tmp_path: Path) -> None:
    """A calendar just below the limit is read."""
    events = [event("DTSTART:20260402T090000Z", "DURATION:PT1H", "X-FILL:" + "x" * 90, uid=str(n)) for n in range(5500)]
    whole = calendar(*(line for each in events for line in each))
    assert 1_000_000 < len(whole) <= fetch.MAX_BYTES
    loaded = await source(tmp_path, rota=whole).load()
    assert {"ann"} == loaded["rota"].on_call(datetime(2026, 4, 2, 9, tzinfo=UTC))


@pytest.mark.parametrize(
    "where",
    [
        "http://example.org/a.ics",
        "webcal://example.org/private/a",
        "ftp://example.org/a",
        "https://",
        "https://[]@",
        "",
    ],
)
async def test_refused_address(where: str) -> None:
    """Only https is an address, and the error does not show a wrong one."""
    with pytest.raises(InvalidValue, match=r"^calendars\.rota: is not a (valid https URL|path or a URL); ") as raised:
        IcalSource({"rota": where})
    assert "example" not in str(raised.value)


async def test_redirects(tmp_path: Path) -> None:
    """At most three redirects are followed, to https alone; relative ones count from the URL before."""
    replies: dict[str, web.Response | str] = {
        "rota": plain(), "one": "/rota", "two": "one", "three": "two", "four": "three",
        "away": "http://example.org/rota", "file": "file:///etc/hostname", "odd": "https://[", "circle": "circle",
    }  # fmt: skip
    async with serving(replies) as server:
        error = await failed(server.source("one", "three", "four", "away", "file", "odd", "circle"))
        assert {"one", "three"} == set(error.loaded)
        assert 4 == server.asked.count("circle")
    assert {
        "four": "redirects more than 3 times",
        "circle": "redirects more than 3 times",
        "away": "redirects to an address that is not https",
        "file": "redirects to an address that is not https",
        "odd": "redirects to an address that is not https",
    } == {name: problem.fault.partition(" ")[2] for name, problem in error.problems.items()}


async def test_answers_that_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of HTML, an error, a long answer, a compressed one, and one that never ends are refused in time."""
    monkeypatch.setattr(fetch, "MAX_SECONDS", 2.0)
    replies: dict[str, web.Response | str] = {
        "html": web.Response(body=b"<!doctype html>", content_type="text/html"),
        "gone": web.Response(status=404, body=ROTA),
        "no-target": web.Response(status=302, body=ROTA),
        "empty": plain(b""),
        "bomb": bomb(),
    }
    async with serving(replies) as server:
        began = time.monotonic()
        error = await failed(server.source("html", "gone", "no-target", "empty", "bomb", "long", "hang"))
        took = time.monotonic() - began
    assert {
        "html": "is a web page",
        "gone": "answers HTTP 404",
        "no-target": "answers HTTP 302",
        "empty": "is empty",
        "bomb": "compresses its answer unasked",
        "long": "sends more than 1024 KiB",
        "hang": "did not answer within 2 seconds",
    } == {name: problem.fault.partition(" ")[2] for name, problem in error.problems.items()}
    assert took < 30


@pytest.mark.parametrize("what", ["certificate", "refused", "name", "garbage", "gone", "away", "circle"])
async def test_a_url_is_never_shown(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error, its chain, the source nor the log has a path or a query: these hold the calendar's key."""
    caplog.set_level(logging.DEBUG)
    replies: dict[str, web.Response | str] = {
        "gone": web.Response(status=404), "away": f"http://example.org/{SECRET}", "circle": f"/circle?key={SECRET}",
    }  # fmt: skip
    async with serving(replies) as server:
        calendars = {
            "certificate": IcalSource({"rota": f"{server.url}/{SECRET}"}),
            "refused": IcalSource({"rota": f"https://user:{SECRET}@127.0.0.1:1/{SECRET}"}),
            "name": IcalSource({"rota": f"https://nowhere.invalid/{SECRET}"}),
        }.get(what) or server.source(what)
        error = await failed(calendars)
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(calendars) + caplog.text
    assert "https://nowhere.invalid" in shown if what == "name" else "https://127.0.0.1" in shown
    assert SECRET not in shown


async def test_hostile_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule without end is refused in time; the event loop runs on, and no process is left."""
    monkeypatch.setattr(child, "MAX_SECONDS", 2.0)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    before = children()
    error = await failed(source(tmp_path, rota=ROTA, hostile=hostile()))
    turning.cancel()
    assert "calendar takes longer than 2 seconds to read" == error.problems["hostile"].fault
    assert {"rota"} == set(error.loaded)
    assert turns > 20
    assert before == children()


async def test_many_hostile_calendars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calendars together have a time as well; the ones that were read before its end are there."""
    monkeypatch.setattr(ical, "MAX_SECONDS", 4.0)
    monkeypatch.setattr(ical, "AT_ONCE", 1)
    before = children()
    began = time.monotonic()
    error = await failed(source(tmp_path, rota=ROTA, one=hostile(), two=hostile()))
    assert time.monotonic() - began < 9
    assert {"rota"} == set(error.loaded)
    assert {"calendar had no turn within 4 seconds"} == {each.fault for each in error.problems.values()}
    assert before == children()


async def test_servers_that_hang_take_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calendars whose servers hang do not keep the others waiting."""
    monkeypatch.setattr(fetch, "MAX_SECONDS", 2.0)
    monkeypatch.setattr(ical, "AT_ONCE", 1)
    began = time.monotonic()
    async with serving({"rota": plain()}) as server:
        urls = {f"hang{number}": f"{server.url}/hang" for number in range(8)} | {"rota": f"{server.url}/rota"}
        error = await failed(IcalSource(urls, tls=server.tls, clock=ManualClock(NOW)))
    assert {"rota"} == set(error.loaded)
    assert time.monotonic() - began < 8


async def test_cancelled_load_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed. By itself it would end after twenty seconds of its processor time."""
    before, began, start = children(), asyncio.Event(), asyncio.create_subprocess_exec

    async def noticed(*args: Any, **kwargs: Any) -> Any:
        process = await start(*args, **kwargs)
        began.set()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noticed)
    loading = asyncio.create_task(source(tmp_path, hostile=hostile()).load())
    await began.wait()
    assert before != children()
    loading.cancel()
    await asyncio.wait([loading], timeout=5)
    assert loading.cancelled()
    assert before == children()


async def test_limits_of_the_process() -> None:
    """Memory has a limit; processor time has one as well, so that the process ends if its worker is gone."""
    program = """
import json, resource, sys
from escalation_adapters.calendars import child
child.expand = lambda *_: bytearray(child.MAX_MEMORY_BYTES)
child.main(["2026-01-01", "2026-01-02"])
print()
print(json.dumps(resource.getrlimit(resource.RLIMIT_CPU)))
"""
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs
        [sys.executable, "-c", program], input=b"", capture_output=True, check=True, timeout=60
    )
    answer, limits = map(json.loads, done.stdout.splitlines())
    assert "takes too much memory to read" == answer["fault"]
    assert [20, 20] == limits


async def test_process_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that reads a calendar gets no variable of the worker, for example no password."""
    seen = tmp_path / "seen.json"
    text = f"import json, os, pathlib\npathlib.Path({str(seen)!r}).write_text(json.dumps(dict(os.environ)))\n"
    (tmp_path / "sitecustomize.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ESC_DATABASE_URL", f"postgresql://user:{SECRET}@db/name")
    await source(tmp_path, rota=ROTA).load()
    found: Mapping[str, str] = json.loads(seen.read_text(encoding="utf-8"))
    assert "PYTHONPATH" in found
    assert not any(SECRET in value for value in found.values())


async def test_pytz_in_the_host(tmp_path: Path) -> None:
    """A host that switches icalendar to pytz, for its whole process, changes no shift."""
    calendars = source(tmp_path, rota=ROTA)
    expected = await calendars.load()
    tzp.use_pytz()
    try:
        assert expected == await calendars.load()
    finally:
        tzp.use_zoneinfo()


async def test_zones_of_one_name(tmp_path: Path) -> None:
    """Two calendars that define a zone of the same name keep their own rules."""
    one = calendar(*OWN_ZONE, *event("DTSTART;TZID=Ship:20260402T090000", "DURATION:PT1H"))
    loaded = await source(tmp_path, one=one, two=one.replace(b"+0330", b"+1000")).load()
    hours = [datetime(2026, 4, 2, 5, 30, tzinfo=UTC), datetime(2026, 4, 1, 23, tzinfo=UTC)]
    assert [[True, False], [False, True]] == [[bool(each.on_call(hour)) for hour in hours] for each in loaded.values()]


async def test_vendor_prefix_of_a_zone(tmp_path: Path) -> None:
    """A name such as Evolution writes it is read without its prefix."""
    name = "/freeassociation.sourceforge.net/Europe/Berlin"
    loaded = await source(tmp_path, rota=ROTA.replace(b"Europe/Berlin", name.encode())).load()
    assert loaded == await source(tmp_path, rota=ROTA).load()


async def test_no_python_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    error = await failed(source(tmp_path, rota=ROTA))
    assert "no process starts" in error.problems["rota"]
