"""Logs of events from any export."""

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.replay.log import COLUMNS, EVENTS, FIRST, LAST, Event, UnreadableLog, read_events

from .material import damaged, near

HEADER = ",".join(COLUMNS)
CELLS = st.tuples(
    near("2025-01-31T12:00:00Z", "1970-01-02T00:00:00+00:00", "9999-12-31T23:59:59-23:59", "2025-W05-5T12Z"),
    near("db-7/disk", '"a ""b"", c"', "é" * 256),
    near(*EVENTS),
    near("critical", "", "Warning"),
)
ROWS = CELLS.map(",".join)
LOGS = st.lists(ROWS, max_size=6).map(lambda rows: "\n".join([HEADER, *rows]).encode(errors="surrogatepass"))
PREFIXES = st.sampled_from([b"", b"\xef\xbb\xbf"])


def read(content: bytes) -> tuple[list[Event], list[int]]:
    """Return the events of a log, and the lines with faults."""
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(content)
        file.flush()
        events, faults = read_events(Path(file.name))
    assert all(fault.reason for fault in faults)
    return events, [fault.line for fault in faults]


@given(PREFIXES, damaged(LOGS, st.binary(max_size=6)) | st.binary(max_size=200))
def test_log(prefix: bytes, content: bytes) -> None:
    """Each line of a log is one event or one fault, or the whole log is refused; a rewritten log reads the same."""
    try:
        events, faults = read(prefix + content)
    except UnreadableLog as refusal:
        assert "line 1" in str(refusal)
        return
    lines = content.decode(errors="surrogateescape").split("\n")
    filled = [number for number, line in enumerate(lines, 1) if number > 1 and line.strip()]
    assert filled == sorted([*(event.line for event in events), *faults])
    assert events == sorted(events, key=lambda event: (event.at, event.line))
    assert all(FIRST <= event.at <= LAST and event.event in EVENTS for event in events)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((event.at.isoformat(), event.incident_key, event.event, event.severity) for event in events)
    again, left_out = read(written.getvalue().encode())
    assert [] == left_out
    assert [(e.at, e.incident_key, e.event, e.severity) for e in events] == [
        (e.at, e.incident_key, e.event, e.severity) for e in again
    ]
