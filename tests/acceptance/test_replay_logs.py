"""A replay names rows and files that it cannot read, and goes on with the other rows."""

from pathlib import Path

import pytest

from escalation_adapters.replay import UnreadableLog, read_events

from .console import Console, one_line
from .reference import instant
from .replaying import GOOD, HEADER, at, faults, log_of, write


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
    """The replay names an invalid row with its line and its fault, and plays the other rows."""
    log = write(tmp_path, f"{HEADER}\n\n".encode() + line + b"\n" + GOOD.encode())
    said = console("replay", log, "--store", "memory", "--json")
    [(number, told)] = faults(said)
    assert 3 == number
    assert told.startswith(reason)
    assert (2, 1) == (said.json["events"], said.json["escalations"])


@pytest.mark.parametrize("key", ["k" * 512, "é" * 256, "🔥" * 128])
def test_longest_key(console: Console, tmp_path: Path, key: str) -> None:
    """The replay takes a key of 512 bytes."""
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
    """The replay reads a byte order mark, CRLF, blank lines, further columns and another order of columns."""
    said = console("replay", write(tmp_path, text), "--store", "memory", "--json")
    assert [] == faults(said)
    assert (2, 1) == (said.json["events"], said.json["escalations"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "line 1: column 'at' is missing; the columns are at,incident_key,event,severity"),
        (b"at,incident_key,event\n", "line 1: column 'severity' is missing"),
        (b"at,incident_key,event,severity,at\n", "line 1: column 'at' occurs twice"),
        (f"{HEADER}\n{GOOD}".encode("utf-16"), "line 1: row: is not UTF-8; save the log as UTF-8"),
        (f"{HEADER}\n{GOOD}".encode("utf-16-le"), "line 1: row: holds a NUL"),
        (b'"at,incident_key,event,severity\n', "line 1: row: is not valid CSV"),
        (b"\x89PNG\r\n\x1a\n", "line 1: row: is not UTF-8"),
    ],
)
def test_no_log(console: Console, tmp_path: Path, text: bytes, told: str) -> None:
    """The replay refuses a file that is not a valid log in one line, and writes nothing."""
    log, out = write(tmp_path, text), tmp_path / "out.csv"
    line = one_line(console("replay", log, "--store", "memory", "--out", out))
    assert line.startswith(f"{log}, {told}")
    assert not out.exists()


def test_no_file(console: Console, tmp_path: Path) -> None:
    """The replay refuses a log that it cannot open in one line."""
    missing = tmp_path / "none.csv"
    assert f"{missing} cannot be read: No such file or directory" == one_line(
        console("replay", missing, "--store", "memory")
    )
    assert f"{tmp_path} cannot be read: Is a directory" == one_line(console("replay", tmp_path, "--store", "memory"))
    with pytest.raises(UnreadableLog):
        read_events(missing)


def test_only_a_header(console: Console, tmp_path: Path) -> None:
    """The replay plays a log without events like any other log, and records nothing."""
    log, out = write(tmp_path, HEADER), tmp_path / "out.csv"
    said = console("replay", log, "--store", "memory", "--out", out, "--json")
    assert {"events": 0, "incidents": 0, "escalations": 0, "first": None, "last": None}.items() <= said.json.items()
    assert b"at,incident_key,episode,level\r\n" == out.read_bytes()


def test_refused_events(console: Console, tmp_path: Path) -> None:
    """The replay names events that the incident's state does not allow with line and reason; they change nothing."""
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


@pytest.mark.parametrize("at", ["1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_instants_that_no_store_escalates_at(at: str, tmp_path: Path) -> None:
    """An instant outside the years that stores keep makes a row unusable, for every store."""
    events, faults = read_events(write(tmp_path, f"{HEADER}\n{at},k,opened,\n"))
    assert ([], True) == (events, "lies outside the years 1970 to 9998" in faults[0].reason)
