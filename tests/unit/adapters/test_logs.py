"""Logging of the command line."""

import io
import json
import logging
from datetime import UTC, datetime

import pytest

from escalation_adapters.logs import set_up_logging
from escalation_core import Engine
from escalation_core.testing import MemoryStore

log = logging.getLogger("test")


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True, as a terminal does."""
        return True


def test_json_has_the_four_keys() -> None:
    """A record becomes one JSON object with at, level, logger and message."""
    stream = io.StringIO()
    set_up_logging(stream=stream)
    before = datetime.now(UTC)
    log.info("hello %s", "world")
    line = json.loads(stream.getvalue())
    at = datetime.fromisoformat(line.pop("at"))
    assert {"level": "INFO", "logger": "test", "message": "hello world"} == line
    assert 1 > abs((at - before).total_seconds())
    assert "UTC" == at.tzname()


def test_tick_stands_beside_them() -> None:
    """The formatter flattens the dictionary on a tick's record, which cannot replace the four keys."""
    stream = io.StringIO()
    set_up_logging(stream=stream)
    log.info("tick", extra={"tick": {"escalations_count": 3, "level": "no"}})
    line = json.loads(stream.getvalue())
    assert (3, "INFO") == (line["escalations_count"], line["level"])


@pytest.mark.asyncio
async def test_engine_ticks_are_told_under_the_replaced_workers_names() -> None:
    """A tick's line has escalations_count, skipped_idempotent and escalation_tick_ms as numbers."""
    stream = io.StringIO()
    set_up_logging(stream=stream)
    await Engine(MemoryStore()).tick()
    line = next(line for line in map(json.loads, stream.getvalue().splitlines()) if "escalation_tick_ms" in line)
    assert 0 == line["escalations_count"]
    assert 0 == line["skipped_idempotent"]
    assert float is type(line["escalation_tick_ms"])


def test_exception_stays_on_one_line() -> None:
    """A traceback, or line feeds in a message, stay within one line of JSON."""
    stream = io.StringIO()
    set_up_logging(stream=stream)
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        log.exception("went\u2028wrong")
    (text,) = stream.getvalue().splitlines()
    line = json.loads(text)
    assert "went\u2028wrong" == line["message"]
    assert "ValueError: one\ntwo" in line["exception"]


def test_terminal_gets_plain_lines() -> None:
    """On a terminal, logging writes plain text lines."""
    stream = Terminal()
    set_up_logging(stream=stream)
    log.warning("disk nearly full")
    assert stream.getvalue().endswith("Z WARNING test: disk nearly full\n")


@pytest.mark.parametrize(("stream", "asked"), [(Terminal(), True), (io.StringIO(), False)])
def test_asked_form_wins(stream: io.StringIO, asked: bool) -> None:
    """An explicit ``json`` argument overrides the choice by the kind of the stream."""
    set_up_logging(json=asked, stream=stream)
    log.info("hello")
    assert asked == stream.getvalue().startswith("{")


def test_second_set_up_replaces_the_first() -> None:
    """After a second set-up, logging writes each record once, at the level of the second set-up."""
    first, second = io.StringIO(), io.StringIO()
    set_up_logging(stream=first)
    set_up_logging(stream=second, level="ERROR")
    log.warning("too quiet")
    log.error("loud")
    assert ("", 1) == (first.getvalue(), len(second.getvalue().splitlines()))


def test_unknown_level_is_refused_and_changes_nothing() -> None:
    """``set_up_logging`` raises ValueError for an unknown level, and leaves the handlers unchanged."""
    before = list(logging.getLogger().handlers)
    with pytest.raises(ValueError, match="LOUD"):
        set_up_logging(level="LOUD", stream=io.StringIO())
    assert before == logging.getLogger().handlers


def test_level_holds_for_every_logger() -> None:
    """A logger with a level of its own, as psycopg's has, prints nothing below the level that was asked for."""
    stream = io.StringIO()
    set_up_logging(level="ERROR", stream=stream)
    own = logging.getLogger("test.own")
    own.setLevel("WARNING")
    own.warning("quiet")
    own.error("loud")
    assert ["loud"] == [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
