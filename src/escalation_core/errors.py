"""Every error of the library, in one tree.

::

    EscalationError                 the root: catch this one to catch them all
    ├── InvalidValue                a value from outside is refused (also a ValueError)
    ├── SettingsError               settings are wrong: all problems at once
    ├── TransitionRefused           this verb is not possible in the incident's state
    └── StoreError                  the database could not do what was asked
        ├── StoreUnavailable        temporary: it is down or out of reach; try again
        ├── StoreNotReady           permanent: not migrated, or another version; the message names the command
        └── StoreRefused            permanent: it refuses this statement (a constraint, a missing right)

No message ever holds a secret: neither a password of a DSN nor a webhook's URL.
"""

from collections.abc import Mapping
from typing import Self

MAX_QUOTED_CHARS = 300
"""Characters of a foreign text that an error or a log line quotes."""


def shortened(text: str, most: int = MAX_QUOTED_CHARS) -> str:
    """Return text of at most ``most`` characters: one that is longer is cut in the middle, where an ellipsis stands."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


class EscalationError(Exception):
    """Something that the engine was asked for could not be done."""


class InvalidValue(EscalationError, ValueError):
    """A value from outside is refused, before anything is written.

    ``field`` is the argument's or column's name, ``fault`` what is wrong with it, ``remedy`` what to give instead.
    Both of the former may quote a host's text, and are shortened.
    """

    def __init__(self, field: str, fault: str, remedy: str) -> None:
        field, fault = shortened(field), shortened(fault)
        super().__init__(f"{field}: {fault}; {remedy}")
        self.field = field
        self.fault = fault
        self.remedy = remedy


class Problem(str):
    """One fault of one setting and its remedy: a sentence that knows its two parts."""

    __slots__ = ("fault", "remedy")
    fault: str
    remedy: str

    def __new__(cls, fault: str, remedy: str) -> Self:
        """Join the parts to one sentence; the fault may quote a long value, and is shortened."""
        fault = shortened(fault)
        problem = super().__new__(cls, f"{fault}; {remedy}")
        problem.fault = fault
        problem.remedy = remedy
        return problem


class SettingsError(EscalationError, ValueError):
    """Settings are wrong. ``problems`` maps each variable's name to its fault and remedy, all of them at once."""

    def __init__(self, problems: Mapping[str, Problem]) -> None:
        lines = "".join(f"\n  {name}: {problem}" for name, problem in problems.items())
        count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        super().__init__(f"{count} wrong:{lines}")
        self.problems = dict(problems)


class TransitionRefused(EscalationError):
    """A verb is not possible in the state the incident is in; nothing was written."""

    def __init__(self, incident_key: str, state: str, verb: str, remedy: str) -> None:
        super().__init__(f"cannot {verb} incident {incident_key!r}: it is {state}; {remedy}")
        self.incident_key = incident_key
        self.state = state
        self.verb = verb


class StoreError(EscalationError):
    """The database could not do what was asked."""


class StoreUnavailable(StoreError):
    """The database is down or out of reach. Temporary: the same call may succeed later."""

    by_host: bool = False
    """A trigger of the host raised it: the database is there, and the fault may be one row's."""


class StoreNotReady(StoreError):
    """The database's schema is missing or of another version. The message names the command that helps."""


class StoreRefused(StoreError):
    """The database refuses the statement: a host's constraint, a missing right. The same call fails again."""


def error_place(error: BaseException) -> str:
    """Return an error's kind and where it was raised, and no more: the text of a foreign one may hold a secret."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f", {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    return type(error).__name__ + where
