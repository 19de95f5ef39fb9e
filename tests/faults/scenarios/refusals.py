"""What hosts add to their table that refuses single rows: each in SQL, with what takes it away again.

``escalating`` refuses a row only when it is to rise, so that it can be deferred; ``anything`` refuses that as well.
"""

from collections.abc import Mapping
from typing import Literal

import attrs

REFUSED = "refused"
"""What the keys of rows that are refused begin with."""
How = Literal["escalating", "anything"]
FUNCTION = """
CREATE FUNCTION faults.refuse() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    RAISE 'the host refuses %', NEW.incident_key USING ERRCODE = 'check_violation';
END $body$;
"""
RISES = "NEW.escalation_level > OLD.escalation_level"


@attrs.frozen
class Refusal:
    """Something that a host adds, and how it is taken away."""

    how: How
    added: str
    dropped: str


def _check(condition: str) -> tuple[str, str]:
    """A constraint beside an old row that breaks it: what is there stays, and every write to it is refused."""
    return (
        f"ALTER TABLE incidents ADD CONSTRAINT refuse CHECK (incident_key NOT LIKE '{REFUSED}%'{condition}) NOT VALID",
        "ALTER TABLE incidents DROP CONSTRAINT refuse",
    )


def _trigger(kind: str, condition: str) -> tuple[str, str]:
    """A trigger that raises for one key."""
    return (
        f"{FUNCTION} CREATE {kind} ON incidents {_when(condition)} EXECUTE FUNCTION faults.refuse()",
        "DROP FUNCTION faults.refuse() CASCADE",
    )


def _when(condition: str) -> str:
    deferred = "DEFERRABLE INITIALLY DEFERRED" if condition.startswith("deferred") else ""
    return f"{deferred} FOR EACH ROW WHEN (NEW.incident_key LIKE '{REFUSED}%'{condition.removeprefix('deferred')})"


REFUSALS: Mapping[str, Refusal] = {
    "a check": Refusal("escalating", *_check(" OR escalation_level = 0")),
    "a trigger": Refusal("escalating", *_trigger("TRIGGER refuse BEFORE UPDATE", f" AND {RISES}")),
    "a deferred trigger": Refusal(
        "escalating", *_trigger("CONSTRAINT TRIGGER refuse AFTER UPDATE", f"deferred AND {RISES}")
    ),
    "a unique key": Refusal(
        # Whoever rises takes the place that the host's own row has.
        "escalating",
        "INSERT INTO incidents (incident_key, escalation_level, first_seen, acknowledged_at)"
        f" VALUES ('{REFUSED} by this', 1, now(), now());"
        f" CREATE UNIQUE INDEX refuse ON incidents (escalation_level) WHERE incident_key LIKE '{REFUSED}%'"
        " AND escalation_level > 0",
        "DROP INDEX refuse",
    ),
    "a check, whatever is written": Refusal("anything", *_check("")),
    "a trigger, whatever is written": Refusal("anything", *_trigger("TRIGGER refuse BEFORE UPDATE", "")),
    "a deferred trigger, whatever is written": Refusal(
        "anything", *_trigger("CONSTRAINT TRIGGER refuse AFTER UPDATE", "deferred")
    ),
}
