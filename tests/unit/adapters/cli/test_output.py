"""How the command line writes instants and tables, on terminals of any width and elsewhere."""

import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from escalation_adapters.cli.output import Times, length, show, table

NOW = datetime(2026, 3, 14, 21, 30, tzinfo=UTC)
KEY = "0b6f6b0e-5d0c-4f5e-9a53-0f6f4a1d2c3b/" + "k" * 80
ROWS = [(NOW - timedelta(minutes=4), "escalate", KEY, 2, "slack:ops"), (NOW, "open", "ключ/鍵/🔥", 0, None)]
COLUMNS = ("at", "what", "incident", "level", "target")


class Screen(io.TextIOWrapper):
    """Standard output as a terminal, or as a pipe."""

    def __init__(self, terminal: bool, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        self.flush()
        self.seek(0)
        return self.read()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    """Give standard output a width and an encoding."""

    def made(columns: int = 80, *, terminal: bool = True, encoding: str = "utf-8", term: str = "xterm") -> Screen:
        stream = Screen(terminal, encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", term)
        monkeypatch.delenv("NO_COLOR", raising=False)
        return stream

    return made


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Give this machine another zone."""
    if sys.platform == "win32":
        pytest.skip("Windows has no tzset")

    def put(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    with monkeypatch.context():
        yield put
    monkeypatch.undo()
    time.tzset()


# --- instants


@pytest.mark.parametrize(
    ("name", "instant", "told", "called"),
    [
        ("UTC", NOW + timedelta(minutes=4), "21:34:00 (in 4 min)", "UTC"),
        ("Europe/Berlin", NOW - timedelta(hours=2), "20:30:00 (2 h ago)", "CET"),
        ("Europe/Berlin", NOW + timedelta(hours=2), "2026-03-15 00:30:00 (in 2 h)", "CET"),
        ("Europe/Berlin", NOW + timedelta(days=30), "2026-04-13 23:30:00+02:00 (in 30 d)", "CET"),
        ("Asia/Kathmandu", NOW, "03:15:00 (now)", "UTC+05:45"),
        ("America/New_York", NOW - timedelta(seconds=5), "17:29:55 (5 s ago)", "EDT"),
        ("America/New_York", datetime.min.replace(tzinfo=UTC), "0001-01-01 00:00:00+00:00 (739688 d ago)", "EDT"),
    ],
)
def test_local_times(
    screen: Callable[..., Screen], zone: Callable[[str], None], name: str, instant: datetime, told: str, called: str
) -> None:
    """A terminal shows local time and its distance from the store's now; a date or an offset only if it differs."""
    screen()
    zone(name)
    assert told == Times(NOW).when(instant)
    assert called == Times(NOW).zone


def test_utc(screen: Callable[..., Screen], zone: Callable[[str], None]) -> None:
    """With --utc a terminal shows UTC."""
    screen()
    zone("Asia/Kathmandu")
    assert "21:34:00 UTC (in 4 min)" == Times(NOW, utc=True).sentence(NOW + timedelta(minutes=4))
    assert "03:19:00 UTC+05:45 (in 4 min)" == Times(NOW).sentence(NOW + timedelta(minutes=4))


def test_times_for_machines(screen: Callable[..., Screen], zone: Callable[[str], None]) -> None:
    """Without a terminal an instant is in UTC and whole, whatever the zone of the machine."""
    screen(terminal=False)
    zone("Asia/Kathmandu")
    for told in (Times(NOW).at(NOW), Times(NOW).when(NOW), Times(NOW).sentence(NOW), show(NOW, Times(NOW))):
        assert "2026-03-14 21:30:00Z" == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_799, "47 h"), (172_800, "2 d")],
)
def test_lengths(seconds: int, told: str) -> None:
    """A span has one unit, and is never longer than it was."""
    assert told == length(timedelta(seconds=seconds))
    assert told == length(timedelta(seconds=-seconds))


# --- tables


def _compact(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("columns", [6, 10, 20, 29, 40, 59, 60, 80, 200])
def test_tables_lose_nothing(screen: Callable[..., Screen], columns: int) -> None:
    """On a terminal of any width no line is too long, and every character of each cell is there."""
    stream = screen(columns, term="dumb")
    table("Audit", COLUMNS, ROWS, empty="", times=Times(NOW, utc=True))
    lines = stream.text.splitlines()
    assert max(map(cell_len, lines)) <= columns
    for char in set(KEY):
        assert stream.text.count(char) >= KEY.count(char)
    assert "…" not in stream.text
    blocks = columns < 60
    assert blocks is any(line.startswith("level:") for line in lines)
    if blocks:
        assert _compact(KEY) in _compact(stream.text)


@pytest.mark.parametrize("columns", [40, 80])
def test_every_printable_character(screen: Callable[..., Screen], columns: int) -> None:
    """A key of every printable ASCII character, with what looks like markup, is shown as it is."""
    key = "".join(map(chr, range(0x21, 0x7F))) + "[bold]:fire:[/bold]"
    stream = screen(columns)
    table("Audit", ("incident", "what"), [(key, "open")], empty="")
    shown = re.sub(r"\x1b\[[0-9]*m", "", stream.text).replace("what", "").replace("open", "")
    assert key in _compact(shown)


def test_drawn_table(screen: Callable[..., Screen]) -> None:
    """A table on a terminal: a header that names the zone, and cells that fold."""
    stream = screen(60, term="dumb")
    rows = [(NOW, "page delivered", "k" * 40, None)]
    table("Audit", ("at", "what", "incident", "who"), rows, empty="", times=Times(NOW, utc=True))
    assert [
        "Audit",
        "at (UTC)  what            incident                       who",
        "─" * 60,
        "21:30:00  page delivered  kkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
        "                          kkkkkkkkkkk",
    ] == [line.rstrip() for line in stream.text.splitlines()]


def test_crowded_table(screen: Callable[..., Screen]) -> None:
    """If the columns have too little space even on a wide terminal, the rows are blocks."""
    stream = screen(80, term="dumb")
    table("Crowded", [f"column {i}" for i in range(8)], [["x" * 20] * 8], empty="")
    assert "column 7: " + "x" * 20 in stream.text


def test_table_for_machines(screen: Callable[..., Screen]) -> None:
    """Without a terminal each row is one line with tabs, with whole values in UTC."""
    stream = screen(20, terminal=False)
    table("Audit", COLUMNS, ROWS, empty="", times=Times(NOW))
    first, second, third = stream.text.splitlines()
    assert "at\twhat\tincident\tlevel\ttarget" == first
    assert f"2026-03-14 21:26:00Z\tescalate\t{KEY}\t2\tslack:ops" == second
    assert "2026-03-14 21:30:00Z\topen\tключ/鍵/🔥\t0\t" == third


@pytest.mark.parametrize("terminal", [True, False])
def test_ascii(screen: Callable[..., Screen], terminal: bool) -> None:
    """If the encoding lacks a character, an escape names it; lines are drawn with ASCII."""
    stream = screen(200, terminal=terminal, encoding="ascii", term="dumb")
    table("Audit", COLUMNS, ROWS, empty="", times=Times(NOW, utc=True))
    assert r"\u043a\u043b\u044e\u0447/\u9375/\U0001f525" in stream.text


@pytest.mark.parametrize(
    ("name", "value", "coloured"), [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)]
)
def test_colour(
    screen: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch, name: str, value: str, coloured: bool
) -> None:
    """Only a terminal that can show it gets colour or bold letters, and NO_COLOR prevents it."""
    stream = screen()
    monkeypatch.setenv(name, value)
    table("Audit", COLUMNS, ROWS, empty="", times=Times(NOW))
    assert coloured is ("\x1b" in stream.text)
