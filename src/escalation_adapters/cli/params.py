"""Options and arguments of the commands: spans, instants, labels, and the options that many commands share."""

import getpass
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from escalation_core import InvalidValue
from escalation_core.checks import read_span
from escalation_core.rules.maintenance import check_zone

from ..wire import MAX_SPAN, read_instant

if TYPE_CHECKING:
    from ..postgres.existing import Existing

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Give a command ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def actor_option(command: Command) -> Command:
    """Give a command ``--by``."""
    option = click.option(
        "--by", metavar="WHO", default=_login, help="The actor's name for the audit. Default: your login name."
    )
    return option(command)


def _login() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None


def reason_option(command: Command) -> Command:
    """Give a command ``--reason``."""
    return click.option("--reason", metavar="TEXT", help="The reason, for the audit.")(command)


def utc_option(command: Command) -> Command:
    """Give a command ``--utc``."""
    return click.option("--utc", is_flag=True, help="On a terminal: instants in UTC, not in local time.")(command)


class Span(click.ParamType[timedelta]):
    """A span, for example 30s, 15m, 24h or 7d."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the span."""
        if isinstance(value, timedelta):
            return value
        span = read_span(value)
        if span is None:
            self.fail(f"{value!r} is not a valid span; write for example 30s, 15m, 24h or 7d", param, ctx)
        if span > MAX_SPAN:
            self.fail(f"{value!r} is longer than {MAX_SPAN.days} days", param, ctx)
        return span


class Instant(click.ParamType[datetime | timedelta]):
    """An instant in ISO 8601 with a zone, or a span from the store's now, for example 2h."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        """Return the instant, aware, or the span."""
        if isinstance(value, datetime | timedelta):
            return value
        if read_span(value) is not None:
            return SPAN.convert(value, param, ctx)
        instant = read_instant(value)
        if instant is None and read_instant(f"{value}Z") is not None:
            self.fail(f"{value!r} has no time zone; add Z or +01:00", param, ctx)
        if instant is None:
            remedy = "write for example 2025-01-31T12:00:00Z, or a span such as 2h"
            self.fail(f"{value!r} is not a valid instant with a time zone; {remedy}", param, ctx)
        return instant


class Zone(click.ParamType[ZoneInfo]):
    """A time zone by its IANA name."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        """Return the zone."""
        if isinstance(value, ZoneInfo):
            return value
        try:
            return check_zone(value)
        except InvalidValue as error:
            self.fail(f"{error.fault}; {error.remedy}", param, ctx)


SPAN = Span()
INSTANT = Instant()
ZONE = Zone()


class ExistingChoice(click.ParamType["Existing"]):
    """The choice of ``--existing``: page, skip or since=INSTANT."""

    name = "page|skip|since=INSTANT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Existing":
        """Return the choice."""
        if isinstance(value, datetime) or value in ("page", "skip"):
            choice: Existing = value
            return choice
        if not value.startswith("since="):
            self.fail("write page, skip or since=INSTANT", param, ctx)
        since = INSTANT.convert(value.removeprefix("since="), param, ctx)
        if not isinstance(since, datetime):
            self.fail("since is a span from now; write an instant, for example since=2025-01-31T12:00:00Z", param, ctx)
        return since


def parse_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Return labels from NAME=VALUE texts."""
    labels: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidValue("label", f"{pair!r} is not a valid label", "write NAME=VALUE")
        labels[name] = value
    return labels
