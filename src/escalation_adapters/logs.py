"""Logging of the command line: one JSON object per line for machines, plain lines for people."""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from json import dumps
from typing import TextIO


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object, on one line: at, level, logger, message; ``exception`` if it has one.

    The fields of a tick (the record's ``tick``) stand beside them, under the names of its log line (ADR 0039).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as ASCII JSON, so that no stream's encoding and no log shipper's line break changes it."""
        tick = getattr(record, "tick", None)
        fields: dict[str, object] = {
            **(tick if isinstance(tick, Mapping) else {}),
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return dumps(fields, default=str)


class PlainFormatter(logging.Formatter):
    """Formats a record as a line for people, in UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002 - logging's own signature
        """Return the record's instant."""
        return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


class _Handler(logging.StreamHandler[TextIO]):
    """Our handler's class: a second set-up replaces our handler and leaves the host's handlers alone."""


def set_up_logging(json: bool | None = None, level: str | int = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger's records from ``level`` on to ``stream`` (standard error by default).

    ``json`` chooses the format; None means JSON unless the stream is a terminal. A second call replaces the first. This
    is for programs: a service that embeds the engine sets up its own logging.

    Raises:
        ValueError: there is no such level.
    """
    target = sys.stderr if stream is None else stream
    as_json = not target.isatty() if json is None else json
    handler = _Handler(target)
    handler.setLevel(level)  # a logger of a library, for example psycopg's, has a level of its own
    handler.setFormatter(JsonFormatter() if as_json else PlainFormatter())
    root = logging.getLogger()
    root.setLevel(level)
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
