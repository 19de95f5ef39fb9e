"""Timelines as pictures: for any content, the SVG is well-formed and the text keeps its lines."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.timeline import COLOURS, Span, Track, svg, text, track
from escalation_core import Engine, IncidentHistory
from escalation_core.checks import visible
from escalation_core.rules.upcoming import Upcoming
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import HOUR, MINUTE, START, incident

SVG = "{http://www.w3.org/2000/svg}"
BARS = {"open": "━", "acknowledged": "─", "resolved": "┄"}
LEGEND = "━ open  ─ acknowledged  ┄ resolved  n escalated to level n"


def parsed(tracks: Sequence[Track], title: str = "t") -> ET.Element:
    return ET.fromstring(svg(tracks, title=title))  # noqa: S314 - our own text


def numbers_of(picture: ET.Element) -> list[str]:
    """Return the numbers in the escalations' circles."""
    numbers = [element.text or "" for element in picture.iter(f"{SVG}text") if "#ffffff" == element.get("fill")]
    circles = [element for element in picture.iter(f"{SVG}circle") if "9" == element.get("r")]
    assert len(circles) == len(numbers)
    return numbers


def line(label: str = "k", *spans: tuple[float, float, str], levels: Sequence[tuple[float, int]] = ()) -> Track:
    """Return a track whose instants are minutes from START."""
    return Track(
        label,
        [Span(START + start * MINUTE, START + end * MINUTE, state) for start, end, state in spans],
        [(START + at * MINUTE, level) for at, level in levels],
    )


# --- odd pictures


def test_nothing_at_all() -> None:
    """Without any track, ``svg`` and ``text`` still draw a picture."""
    assert [] == numbers_of(parsed([]))
    assert LEGEND == text([]).splitlines()[-1].strip()


def test_a_track_without_anything() -> None:
    """A track without spans and levels is drawn as a label."""
    picture = parsed([line("k")])
    assert "k" in [element.text for element in picture.iter(f"{SVG}text")]
    assert "k" == text([line("k")]).splitlines()[0].strip()


@pytest.mark.parametrize("length", [0, 1e-6, 1e-3])
def test_no_length(length: float) -> None:
    """A span of no length, and a picture of one instant, are drawn."""
    tracks = [line("k", (0, length, "open"), levels=[(0, 1)])]
    picture = parsed(tracks)
    assert ["1"] == numbers_of(picture)
    assert all(float(bar.get("width", "0")) > 0 for bar in picture.iter(f"{SVG}rect"))
    assert "1" in text(tracks).splitlines()[0]


def test_levels_alone() -> None:
    """Levels without a span are drawn in the picture."""
    tracks = [line("k", levels=[(0, 1), (60, 12)])]
    assert ["1", "12"] == numbers_of(parsed(tracks))
    shown = text(tracks).splitlines()[0]
    assert ("1", "2") == (shown.split()[1][0], shown[-1])


@pytest.mark.parametrize("label", ["<script>&amp;]]>", "\"'", "a\x1bb", "\x00", "\ufffe\uffff", "\ud800", "x" * 512])
def test_labels_that_xml_knows(label: str) -> None:
    """Labels and titles that mean something to XML, or cannot occur in XML, leave the picture well-formed."""
    picture = parsed([line(label, (0, 1, "open"))], title=label)
    svg([line(label)], title=label).encode()
    kept = "".join(char for char in visible(label) if char in "<>&\"']/" or char.isalnum())
    labels = [element.text or "" for element in picture.iter(f"{SVG}text")]
    assert any(kept == "".join(c for c in found if c in "<>&\"']/" or c.isalnum()) for found in labels)


@pytest.mark.parametrize("label", ["磁盘/磁盘", "\uff44\uff42", "e\u0301tage", "Straße"])
def test_wide_labels(label: str) -> None:
    """Bars begin in the same column, however wide the letters of their labels are."""
    from unicodedata import combining, east_asian_width

    def cells(shown: str) -> int:
        return sum(2 if east_asian_width(char) in "WF" else 0 if combining(char) else 1 for char in shown)

    first, second = text([line(label, (0, 10, "open")), line("db-7", (0, 10, "open"))]).splitlines()[:2]
    assert cells(first.partition("━")[0]) == cells(second.partition("━")[0])


@pytest.mark.parametrize("width", [1, 20, 78, 300])
def test_width(width: int) -> None:
    """The text has the given width, and at least ten cells for bars."""
    tracks = [line("key", (0, 30, "open"), (30, 60, "acknowledged"), (60, 120, "resolved"), levels=[(5, 1), (119, 2)])]
    bars = text(tracks, width=width).splitlines()[0]
    assert max(width, 15) == len(bars)
    assert list(dict.fromkeys(char for char in bars if char in BARS.values())) == list(BARS.values())


@pytest.mark.parametrize("length", [timedelta(seconds=1), 3 * HOUR, timedelta(days=40), timedelta(days=9000)])
def test_scale(length: timedelta) -> None:
    """For any length of the picture, the scale has 1 to 10 lines."""
    tracks = [Track("k", [Span(START, START + length, "open")], [])]
    lines = list(parsed(tracks).iter(f"{SVG}line"))
    assert 1 <= len(lines) <= 10


@pytest.mark.parametrize(
    "at",
    [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)],
)
def test_ends_of_time(at: datetime) -> None:
    """The first and the last instant of datetime can be drawn."""
    for tracks in ([Track("k", [], [(at, 1)])], [Track("k", [Span(min(at, START), max(at, START), "open")], [])]):
        parsed(tracks)
        assert LEGEND in text(tracks)


STATES = st.sampled_from(sorted(COLOURS))
MINUTES = st.floats(0, 10_000, allow_nan=False)
TRACKS = st.lists(
    st.builds(
        lambda label, spans, levels: line(label, *((min(a, b), max(a, b), c) for a, b, c in spans), levels=levels),
        st.text(max_size=20),
        st.lists(st.tuples(MINUTES, MINUTES, STATES), max_size=5),
        st.lists(st.tuples(MINUTES, st.integers(1, 100)), max_size=5),
    ),
    max_size=5,
)


@given(tracks=TRACKS, title=st.text(max_size=20))
def test_any_picture(tracks: list[Track], title: str) -> None:
    """Any picture is well-formed, with a number per escalation; any text has a line per track and two more."""
    picture = parsed(tracks, title)
    assert sorted(str(level) for one in tracks for _, level in one.levels) == sorted(numbers_of(picture))
    assert len(tracks) + 2 == len(text(tracks).splitlines())


# --- from a history


def states(found: Track) -> list[tuple[float, float, str]]:
    return [((span.start - START) / MINUTE, (span.end - START) / MINUTE, span.state) for span in found.spans]


async def test_track_of_an_incident_from_open_to_reopened(store: MemoryStore, clock: ManualClock) -> None:
    """A track holds an incident's states in their order, and its escalations."""
    async with Engine(store, notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k", severity="critical")
        clock.advance(6 * MINUTE)
        await engine.tick()
        clock.advance(4 * MINUTE)
        await engine.acknowledge("k")
        clock.advance(10 * MINUTE)
        await engine.unacknowledge("k")
        clock.advance(10 * MINUTE)
        await engine.resolve("k")
        clock.advance(10 * MINUTE)
        await engine.open("k")
        clock.advance(10 * MINUTE)
        found = track(await engine.history("k"), "k", clock())
    assert [
        (0, 10, "open"),
        (10, 20, "acknowledged"),
        (20, 30, "open"),
        (30, 40, "resolved"),
        (40, 50, "open"),
    ] == states(found)
    assert [(START + 6 * MINUTE, 1)] == list(found.levels)


async def test_brought_up_to_date(store: MemoryStore, clock: ManualClock) -> None:
    """An acknowledged incident whose summary is updated stays acknowledged."""
    async with Engine(store, notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k")
        clock.advance(10 * MINUTE)
        await engine.acknowledge("k")
        clock.advance(10 * MINUTE)
        await engine.open("k", summary="more is known")
        clock.advance(10 * MINUTE)
        found = track(await engine.history("k"), "k", clock())
    assert [(0, 10, "open"), (10, 30, "acknowledged")] == states(found)


async def test_a_host_of_its_own(store: MemoryStore, clock: ManualClock) -> None:
    """For a row that a host wrote with SQL, the track takes the instants from the row's columns."""
    async with Engine(store, notifiers=[RecordingNotifier()]) as engine:
        await store.host.insert("k", severity="critical")
        clock.advance(10 * MINUTE)
        await store.host.update("k", acknowledged_at=clock())
        clock.advance(10 * MINUTE)
        await store.host.update("k", resolved_at=clock())
        clock.advance(10 * MINUTE)
        found = track(await engine.history("k"), "k", clock())
    assert [(0, 10, "open"), (10, 20, "acknowledged"), (20, 30, "resolved")] == states(found)


def test_a_row_that_is_gone() -> None:
    """Without a row and an audit, a track is empty; a row first seen in the future has no spans."""
    coming = Upcoming(None)
    nothing = IncidentHistory(incident=None, upcoming=coming, escalations=[], pages=[], audit=[])
    assert Track("k", [], []) == track(nothing, "k", START)
    later = incident(first_seen=START + HOUR)
    unborn = IncidentHistory(incident=later, upcoming=coming, escalations=[], pages=[], audit=[])
    assert [] == states(track(unborn, "k", START))


@pytest.mark.parametrize("width", [20, 30, 78])
def test_narrow_and_plain_text(width: int) -> None:
    """A narrow timeline labels fewer instants, and none over another; a plain one is ASCII; its times are of a zone."""
    start = datetime(2025, 1, 1, 2, 15, tzinfo=UTC)
    line = Track("", [Span(start, start + timedelta(hours=8), "open")], [(start, 1)])
    zone = timezone(timedelta(hours=5, minutes=45))
    bars, labels, legend = text([line], width=width, plain=True, there=lambda at: at.astimezone(zone)).splitlines()
    assert (bars + labels + legend).isascii()
    shown = labels.split()
    assert all(re.fullmatch(r"\d\d:\d\d", label) for label in shown)
    assert "08:45" == shown[0]
    assert len(labels) <= width + 5
