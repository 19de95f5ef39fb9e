"""The picture of who is on call: a stranger reads from it who is on call when, and nothing overlaps."""

from collections import defaultdict
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.oncall_picture.days import Rota, people_text
from escalation_adapters.oncall_picture.svg import GAP, svg

from .rotas import AUTUMN, HOUR, SPRING, UNKNOWN, at, rota

SVG = "{http://www.w3.org/2000/svg}"


@attrs.frozen
class Box:
    """Where a text stands: at least this wide in the usual fonts of browsers."""

    left: float
    right: float
    top: float
    bottom: float
    text: str

    def overlaps(self, other: "Box") -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


@attrs.frozen
class Bar:
    """A bar, its full text, and what stands in it."""

    x: float
    y: float
    width: float
    title: str
    shown: str
    fill: str


@attrs.define
class Picture:
    """A parsed picture, read as a person reads it."""

    root: ET.Element

    @property
    def texts(self) -> list[Box]:
        found = []
        for one in self.root.iter(f"{SVG}text"):
            x, y, size = (float(one.get(name, "")) for name in ("x", "y", "font-size"))
            width = 0.55 * size * len(one.text or "")
            left = x - {"middle": width / 2, "end": width}.get(one.get("text-anchor", ""), 0)
            # Digits and capital letters are 0.73 of the size high.
            found.append(Box(left, left + width, y - 0.73 * size, y, one.text or ""))
        return found

    @property
    def bars(self) -> list[Bar]:
        found = []
        for one in self.root.iter(f"{SVG}g"):
            [title, rect] = (one.find(f"{SVG}{name}") for name in ("title", "rect"))
            assert title is not None
            assert rect is not None
            x, y, width = (float(rect.get(name, "")) for name in ("x", "y", "width"))
            shown = one.findtext(f"{SVG}text") or ""
            found.append(Bar(x, y, width, title.text or "", shown, rect.get("fill", "")))
        return found

    def who(self, day: str, clock: str) -> str:
        """Return who is on call: find the day's row, and the bar below the hour of the nearest scale above it."""
        [label] = [text for text in self.texts if text.text == day]
        above = [text for text in self.texts if text.text == "24" and text.bottom < label.bottom]
        scale = max(text.bottom for text in above)
        hours = sorted(
            (int(text.text), (text.left + text.right) / 2)
            for text in self.texts
            if text.bottom == scale and text.text.isdigit()
        )
        wanted = int(clock[:2]) + int(clock[3:]) / 60
        [(before, start), (_, _)] = next(pair for pair in pairwise(hours) if pair[0][0] <= wanted < pair[1][0])
        x = start + 30 * (wanted - before)
        row = [bar for bar in self.bars if bar.y < label.bottom < bar.y + 24]
        [found] = [bar for bar in row if bar.x <= x < bar.x + bar.width]
        return found.shown


def drawn(*rotas: Rota, title: str = "Who is on call") -> Picture:
    return Picture(ET.fromstring(svg(rotas, title=title)))  # noqa: S314 - our own text


def check_layout(picture: Picture) -> None:
    """Check that each text is large enough and within the picture, and that no two overlap."""
    _, _, width, height = map(float, picture.root.get("viewBox", "").split())
    for box in picture.texts:
        assert 0 <= box.left, box
        assert box.right <= width, box
        assert 0 <= box.top, box
        assert box.bottom < height, box
    for one, other in combinations(picture.texts, 2):
        assert not one.overlaps(other), (one, other)
    assert all(float(one.get("font-size", "")) >= 11 for one in picture.root.iter(f"{SVG}text"))
    assert all(0 <= bar.x and bar.x + bar.width <= width and bar.y + 24 <= height for bar in picture.bars)


@pytest.mark.parametrize("one", [SPRING, AUTUMN, UNKNOWN], ids=["spring", "autumn", "unknown"])
def test_the_layout(one: Rota) -> None:
    """Each text is within the picture, and no two overlap."""
    check_layout(drawn(one))
    check_layout(drawn(one, UNKNOWN, one))


def test_a_stranger_sees_who_is_on_call() -> None:
    """The scale and the bars say it for each hour of each day, also where the clock is changed."""
    spring, autumn = drawn(SPRING), drawn(AUTUMN)
    assert "no one" == spring.who("Fri 27 Mar", "08:59")
    assert ["ann", "ann"] == [spring.who("Fri 27 Mar", "09:00"), spring.who("Sat 28 Mar", "23:59")]
    assert ["ann", "bob", "bob"] == [spring.who("Sun 29 Mar", clock) for clock in ("01:59", "03:30", "23:59")]
    assert ["bob", "cid"] == [spring.who("Mon 30 Mar", clock) for clock in ("09:00", "10:00")]
    assert ["ann", "bob", "bob"] == [autumn.who("Sun 25 Oct", clock) for clock in ("01:59", "03:30", "23:59")]


def test_each_cover_is_drawn_once() -> None:
    """The parts of the bars add up to the spans, one beside the other, in rows as long as the day."""
    for one in (SPRING, AUTUMN, UNKNOWN):
        hours = defaultdict[str, float](float)
        for bar in drawn(one).bars:
            hours[bar.title.partition(":")[0]] += round(bar.width / 30, 3)
        expected = defaultdict[str, float](float)
        for span in one.spans:
            expected[people_text(span)] += (span.end - span.start) / HOUR
        assert expected == hours
        rows: dict[float, list[Bar]] = {}
        for bar in drawn(one).bars:
            rows.setdefault(bar.y, []).append(bar)
        assert [day.hours for day in one.days] == [sum(bar.width for bar in row) / 30 for row in rows.values()]
        for row in rows.values():
            assert all(left.x + left.width == right.x for left, right in pairwise(row))


def test_clock_changes_are_visible() -> None:
    """A day of 23 or 25 hours says how the clock is changed, and has a scale of its own."""
    for one, change in ((SPRING, "clock +1 h"), (AUTUMN, "clock -1 h")):
        texts = [box.text for box in drawn(one).texts]
        assert (1, 3) == (texts.count(change), texts.count("24"))
    assert not [box for box in drawn(UNKNOWN).texts if box.text.startswith("clock")]


def test_the_longest_day_fits() -> None:
    """On Troll in Antarctica a day has 26 hours."""
    one = rota("2026-10-25", 1, ("ann", "2026-10-01T00:00", "2026-11-01T00:00"), zone="Antarctica/Troll")
    picture = drawn(one)
    assert 26 * 30 == picture.bars[0].width
    assert "clock -2 h" in [box.text for box in picture.texts]
    check_layout(picture)


def test_gaps_are_red_and_say_so() -> None:
    """Also a gap that is too short for its words, below the rows. What is not known is no gap."""
    picture = drawn(SPRING)
    gaps = [bar for bar in picture.bars if bar.fill == GAP]
    assert [("no one", 270), ("", 15)] == [(bar.shown, bar.width) for bar in gaps]
    assert "no one: 2026-03-30 09:30 to 10:00" in [box.text for box in picture.texts]
    unknown = [bar for bar in drawn(UNKNOWN).bars if bar.fill == "url(#unknown)"]
    assert ["not known"] == [bar.shown for bar in unknown]
    assert GAP not in [bar.fill for bar in drawn(UNKNOWN).bars]


def test_handovers_have_a_line_and_a_time() -> None:
    """If two are close to each other, the second time is left out; the titles of the bars have it."""
    picture = drawn(SPRING)
    texts = [box.text for box in picture.texts]
    assert [1, 1, 1, 0] == [texts.count(clock) for clock in ("09:00", "03:00", "09:30", "10:00")]
    lines = [line for line in picture.root.iter(f"{SVG}line") if line.get("stroke") == "#1f2430"]
    assert 4 == len(lines)
    assert "cid: 2026-03-30 10:00 to 2026-03-31 00:00" in [bar.title for bar in picture.bars]


def test_a_person_has_one_colour() -> None:
    """In all schedules, and no two of the first ten persons have the same."""
    people = [f"p{number}" for number in range(10)]
    shifts = [
        (who, f"2026-01-05T{number:02}:00", f"2026-01-05T{number + 1:02}:00") for number, who in enumerate(people)
    ]
    one = rota("2026-01-05", 1, *shifts)
    other = rota("2026-01-05", 1, *reversed(shifts[3:]), name="secondary")
    fills = {(bar.title.partition(":")[0], bar.fill) for bar in drawn(one, other).bars}
    assert 11 == len(fills)
    assert 11 == len({fill for _, fill in fills})


def test_an_override_is_outlined() -> None:
    over = [("cid", "2026-01-05T10:00", "2026-01-05T14:00")]
    one = rota("2026-01-05", 1, ("ann", "2026-01-01T00:00", "2026-01-09T00:00"), overrides=over)
    picture = drawn(one)
    assert ["ann", "cid", "ann"] == [bar.shown for bar in picture.bars]
    assert "cid: 2026-01-05 10:00 to 14:00 (override)" == picture.bars[1].title
    dashed = [rect for rect in picture.root.iter(f"{SVG}g") if rect[1].get("stroke-dasharray")]
    assert [picture.bars[1].title] == [group[0].text for group in dashed]


def test_a_name_that_does_not_fit_is_cut() -> None:
    """It ends in an ellipsis, and the title has all of it. In a very short bar there is no text."""
    long, middle, end = "Christopher Montgomery-Wellington", "2026-01-05T03:00", "2026-01-05T03:30"
    one = rota("2026-01-05", 1, (long, "2026-01-05T00:00", middle), ("W" * 200, middle, end))
    picture = drawn(one)
    first, second = picture.bars[:2]
    assert ("Chris", "…") == (first.shown[:5], first.shown[-1])
    assert first.title.startswith(f"{long}:")
    assert ("", True) == (second.shown, second.title.startswith("W" * 200))
    check_layout(picture)


def test_long_names_of_schedule_and_zone_fit() -> None:
    one = rota("2026-01-05", 1, name="w" * 60, zone="America/Argentina/ComodRivadavia")
    check_layout(drawn(one, title="w" * 300))


def test_it_is_accessible() -> None:
    """It has a role, a title, and a description that a screen reader reads."""
    root = drawn(SPRING, title="Who is on call: primary").root
    assert ("img", "title desc") == (root.get("role"), root.get("aria-labelledby"))
    assert "Who is on call: primary" == root.findtext(f"{SVG}title")
    assert "primary: 2026-03-27 to 2026-03-30, hours of Europe/Berlin; handovers: 4, gaps: 2." == root.findtext(
        f"{SVG}desc"
    )
    assert "2026-03-27 to 2026-03-30, hours of Europe/Berlin" in [box.text for box in Picture(root).texts]


NAMES = st.text(min_size=1, max_size=40).filter(lambda name: name == name.strip() and name.isprintable())
STARTS = st.lists(st.integers(0, 95), min_size=1, max_size=12, unique=True).map(sorted)


@given(names=st.lists(NAMES, min_size=1, max_size=5), starts=STARTS, title=st.text(max_size=300))
def test_any_picture(names: list[str], starts: list[int], title: str) -> None:
    """For any people and handovers the picture is well-formed, and each day's bars are as long as the day."""
    texts = [(at("2026-01-05T00:00") + start * HOUR / 4).isoformat()[:19] for start in (*starts, 96)]
    shifts = [(names[number % len(names)], start, texts[-1]) for number, start in enumerate(texts[:-1])]
    picture = drawn(rota("2026-01-05", 1, *shifts), title=title)
    assert 24 * 30 == sum(bar.width for bar in picture.bars)
    _, _, width, height = map(float, picture.root.get("viewBox", "").split())
    assert all(0 <= box.left < width and 0 < box.bottom < height for box in picture.texts)
