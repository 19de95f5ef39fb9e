"""The commands ``list`` and ``next``: what is open, what comes next, and whom it pages."""

import json
import subprocess
import sys

import pytest

from escalation_adapters.embedded import EmbeddedPostgres

from ..postgres import own_server
from .console import PROGRAM, Console, ago, environment, told, url_of

ROUTES = '[{"labels": {"team": "billing"}, "targets": ["slack:billing"]}]'
TARGETS = dict.fromkeys(("slack:ops", "slack:billing"), "https://slack.example.test/x")
SETTINGS = {"ESC_TARGETS": json.dumps(TARGETS), "ESC_ROUTES": ROUTES, "ESC_DEFAULT_TARGET": "slack:ops"}


def opened(console: Console) -> None:
    """Open incidents at several levels: two that are due, one snoozed, one acknowledged, one exhausted."""
    told(console("open", "db-7/disk", "--severity", "critical", "--first-seen", ago(3), "--label", "team=storage"))
    told(console("open", "billing", "--severity", "critical", "--first-seen", ago(2), "--label", "team=billing"))
    told(console("open", "taken"))
    told(console("ack", "taken"))
    told(console("open", "asleep", "--severity", "critical"))
    told(console("snooze", "asleep", "--until", "2h"))
    told(console("open", "worn out", "--severity", "high", "--first-seen", ago(60)))
    told(console("tick", "--record-only", MAX_ESC_LEVEL="1", ESC_ACK_MIN='{"high": 1}'))


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_list_has_open_incidents_and_what_comes(on_sqlite: Console) -> None:
    """``list`` has every open incident, in the order of escalation, with its next escalation and whom was paged."""
    assert "no incident is open\n" == told(on_sqlite("list"))
    opened(on_sqlite)
    header, *lines = rows(told(on_sqlite("list", MAX_ESC_LEVEL="1")))
    assert ["incident", "severity", "level", "age", "next", "told", "policy", "round", "level of round"] == header
    assert ["db-7/disk", "billing", "asleep", "worn out"] == [line[0] for line in lines]
    assert "3 min" == lines[0][3]
    assert lines[2][4].endswith("Z, snoozed")
    assert "exhausted: the maximum level is 1" == lines[3][4]
    assert "log (pending)" == lines[3][5]
    found = on_sqlite("list", "--json", MAX_ESC_LEVEL="1").json
    assert ["db-7/disk", "billing", "asleep", "worn out"] == [one["incident_key"] for one in found["incidents"]]
    assert {"team": "storage"} == found["incidents"][0]["incident"]["labels"]


def test_next_names_whom_it_will_page(on_sqlite: Console) -> None:
    """``next`` has what escalates within the span, the level it rises to, and the targets by the routes in force."""
    opened(on_sqlite)
    lines = rows(told(on_sqlite("next", **SETTINGS)))[1:]
    assert [("db-7/disk", "1", "slack:ops"), ("billing", "1", "slack:billing")] == [
        (line[1], line[3], line[4]) for line in lines if line[1] != "worn out"
    ][:2]
    assert "asleep" not in {line[1] for line in lines}
    wide = rows(told(on_sqlite("next", "--within", "3h", **SETTINGS)))[1:]
    assert "asleep" in {line[1] for line in wide}
    assert "no open incident escalates within 1 s\n" == told(on_sqlite("next", "--within", "1s", MAX_ESC_LEVEL="1"))
    no_default = {name: value for name, value in SETTINGS.items() if name != "ESC_DEFAULT_TARGET"}
    [line, *_] = rows(on_sqlite("next", **no_default).out)[1:]
    assert "NONE: unroutable: no route matches and there is no default target" == line[4]


def test_conditions_and_parts(on_sqlite: Console) -> None:
    """Conditions shorten the list, and a cursor leads to the next part."""
    opened(on_sqlite)
    assert ["billing"] == [line[0] for line in rows(told(on_sqlite("list", "--label", "team=billing")))[1:]]
    assert ["worn out"] == [line[0] for line in rows(told(on_sqlite("list", "--severity", "HIGH")))[1:]]
    assert ["worn out"] == [line[0] for line in rows(told(on_sqlite("list", "--min-level", "1")))[1:]]
    for conditions in (["--severity", "info"], ["--label", "a=b"], ["--min-level", "9"]):
        assert "no open incident matches, or none follows\n" == told(on_sqlite("list", *conditions))
    first = on_sqlite("list", "--limit", "1")
    assert 0 == first.code
    hint = first.complaints[-1]
    assert hint.startswith("there are more: give the same options, and --after ")
    second = on_sqlite("list", "--limit", "1", "--after", hint.split()[-1])
    assert [["db-7/disk"], ["billing"]] == [[line[0] for line in rows(part.out)[1:]] for part in (first, second)]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list", "--watch"], 1, "watch: needs a terminal"),
        (["list", "--after", "nonsense"], 1, "after: is not a valid cursor"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--label", "team"], 1, "label: 'team' is not a valid label"),
        (["next", "--within", "soon"], 2, "'soon' is not a valid span"),
    ],
)
def test_bad_input(on_sqlite: Console, arguments: list[str], code: int, said: str) -> None:
    """A wrong option ends the command with one line that names it."""
    told(on_sqlite("open", "k"))
    found = on_sqlite(*arguments)
    assert code == found.code
    assert said in found.err


def test_a_closed_pipe_ends_the_list(on_sqlite: Console) -> None:
    """A reader that takes only the first line ends the command without a traceback."""
    for number in range(40):
        told(on_sqlite("open", f"{number} " + "k" * 400))
    process = subprocess.Popen(
        [*PROGRAM, "list"], env=environment(on_sqlite.env), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"incident\t")
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err


QUICK = "from escalation_adapters.cli import look; from escalation_adapters.postgres import pool; "
QUICK += "look.WATCH_SECONDS = 0.2; pool.CONNECT_TIMEOUT = 1.0"


@own_server
@pytest.mark.direct("it stops the server itself")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_watched_list_outlasts_the_database(console: Console) -> None:
    """While PostgreSQL is down the last list stays on the screen, with the fault below it; then the list is read again.

    No more lines are shown than the terminal has. Ctrl-C ends the command with exit code 0.
    """
    from ..terminal import interrupt, run

    with EmbeddedPostgres.start() as server:
        console.env["ESC_DATABASE_URL"] = url_of(server.dsn())
        assert 0 == console("migrate", "up", "--create").code
        for number in range(20):
            told(console("open", f"k{number:02}"))
        program = [*PROGRAM[:-1], f"{QUICK}; {PROGRAM[-1]}", "list", "--watch"]

        def restart(_: object) -> None:
            server.restart()
            told(console("open", "a new one", "--first-seen", ago(60)))

        steps = [("Ctrl-C ends", lambda _: server.crash()), ("NOT UP TO DATE", restart), ("a new one", interrupt)]
        shown = run(program, environment(console.env) | {"TERM": "xterm"}, height=12, steps=steps)
    assert 0 == shown.code, shown
    screens = shown.text.split("\x1b[2J")[1:]
    assert [] == [screen for screen in screens if screen.count("\n") > 12]
    [old] = [screen for screen in screens if "NOT UP TO DATE" in screen][:1]
    assert "k00" in old
    assert "more lines" in old
