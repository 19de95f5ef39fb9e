"""All errors of the library, in one tree.

::

    EscalationError                 the base class: catch it to catch every error of the library
    ├── InvalidValue                a value from outside is not valid (also a ValueError)
    ├── SettingsError               settings are wrong: reports all problems at once
    ├── PoliciesError               a policies file is wrong: reports all problems at once
    ├── SchedulesError              a source could not load some schedules: has those that it could load
    ├── TransitionRefused           the incident's state does not allow this verb
    └── StoreError                  the database could not do what the engine asked
        ├── StoreUnavailable        temporary: the database is down or out of reach; try again
        ├── StoreNotReady           permanent: the schema is missing or of another version; the message has the command
        └── StoreRefused            permanent: the database refuses this statement (a constraint, a missing right)

No message contains a secret: neither the password of a DSN nor the URL of a webhook.
"""

from collections.abc import Mapping
from typing import Any, Self

MAX_QUOTED_CHARS = 300
"""How many characters of a foreign text an error or a log line quotes at most."""

MAX_PROBLEM_LINES = 50
"""How many problems the message of a PoliciesError lists at most."""


def shortened(text: str, most: int = MAX_QUOTED_CHARS) -> str:
    """Return a text of at most ``most`` characters. In a longer text an ellipsis replaces a part of the middle."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


class EscalationError(Exception):
    """Base class of the library's errors: the engine could not do what its caller asked."""


class InvalidValue(EscalationError, ValueError):
    """A value from outside is not valid. The engine raises this before it writes anything.

    ``field`` names the argument or the column, ``fault`` says what is wrong, ``remedy`` says what to give instead.
    ``field`` and ``fault`` may quote a host's text, so both are shortened.
    """

    def __init__(self, field: str, fault: str, remedy: str) -> None:
        field, fault = shortened(field), shortened(fault)
        super().__init__(f"{field}: {fault}; {remedy}")
        self.field = field
        self.fault = fault
        self.remedy = remedy


class Problem(str):
    """One fault of a setting or of a place in a policies file, and its remedy, as one sentence.

    Each part is also an attribute.
    """

    __slots__ = ("fault", "remedy")
    fault: str
    remedy: str

    def __new__(cls, fault: str, remedy: str) -> Self:
        """Join the two parts to one sentence. The fault is shortened, because it may quote a long value."""
        fault = shortened(fault)
        problem = super().__new__(cls, f"{fault}; {remedy}")
        problem.fault = fault
        problem.remedy = remedy
        return problem


class SettingsError(EscalationError, ValueError):
    """Settings are wrong. ``problems`` maps the name of each wrong variable to its fault and remedy."""

    def __init__(self, problems: Mapping[str, Problem]) -> None:
        lines = "".join(f"\n  {name}: {problem}" for name, problem in problems.items())
        count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        super().__init__(f"{count} wrong:{lines}")
        self.problems = dict(problems)


class PoliciesError(EscalationError, ValueError):
    """Policies are wrong. ``problems`` maps each path, for example ``policies.ops.levels[1].after``, to its problem.

    Lists count from 0. A problem of a whole file has the file's name as its path. The message has at most 50 lines.
    """

    def __init__(self, problems: Mapping[str, Problem]) -> None:
        lines = [f"\n  {path}: {problem}" for path, problem in problems.items()]
        more = len(lines) - MAX_PROBLEM_LINES
        rest = f"\n  and {more} more" if more > 0 else ""
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        super().__init__(f"the policies have {count}:{''.join(lines[:MAX_PROBLEM_LINES])}{rest}")
        self.problems = dict(problems)


class TransitionRefused(EscalationError):
    """The incident's state does not allow this verb. Nothing was written."""

    def __init__(self, incident_key: str, state: str, verb: str, remedy: str) -> None:
        super().__init__(f"cannot {verb} incident {incident_key!r}: it is {state}; {remedy}")
        self.incident_key = incident_key
        self.state = state
        self.verb = verb


class SchedulesError(EscalationError):
    """A source could not load some of its schedules. ``problems`` maps the name of each to its fault and remedy.

    ``loaded`` has the schedules of the others, by name, which are used. No problem contains a secret, for example the
    URL of a private calendar.
    """

    def __init__(self, problems: Mapping[str, Problem], loaded: Mapping[str, Any]) -> None:
        lines = "".join(f"\n  {name}: {problem}" for name, problem in problems.items())
        super().__init__(f"{len(problems)} schedules cannot be loaded:{lines}")
        self.problems = dict(problems)
        self.loaded = dict(loaded)


class StoreError(EscalationError):
    """The database could not do what the engine asked."""


class StoreUnavailable(StoreError):
    """The database is down or out of reach. Temporary: the same call may succeed later."""

    by_host: bool = False
    """Whether a trigger of the host raised it. Then the database can be reached, and a single row may be the cause."""


class StoreNotReady(StoreError):
    """The database's schema is missing or of another version. The message names the command to run."""


class StoreRefused(StoreError):
    """The database refuses the statement, because of a host's constraint or a missing right. A retry fails again."""


def error_place(error: BaseException) -> str:
    """Return an error's class and the line that raised it. Leave its text out: it may contain a secret."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f", {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    return type(error).__name__ + where
