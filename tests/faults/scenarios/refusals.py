"""Constraints and triggers of a host that refuse single rows, as SQL that adds one and SQL that drops it.

Some refuse only an escalation of the row, so the engine can defer the row. Others refuse every write to the row.
"""

from collections.abc import Mapping
from typing import Literal

import attrs

REFUSED = "refused"
"""The prefix of the keys of the refused rows."""
Refuses = Literal["escalations", "every write"]
FUNCTION = """
CREATE FUNCTION faults.refuse() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    RAISE 'the host refuses %', NEW.incident_key USING ERRCODE = 'check_violation';
END $body$;
"""
RISES = "NEW.escalation_level > OLD.escalation_level"


@attrs.frozen
class Refusal:
    """SQL that adds a constraint or trigger to the host's table, and SQL that drops it."""

    refuses: Refuses
    add: str
    drop: str


def _check(condition: str) -> tuple[str, str]:
    """Return SQL for a constraint that existing rows break. The rows stay, and the constraint refuses new writes."""
    return (
        f"ALTER TABLE incidents ADD CONSTRAINT refuse CHECK (incident_key NOT LIKE '{REFUSED}%'{condition}) NOT VALID",
        "ALTER TABLE incidents DROP CONSTRAINT refuse",
    )


def _trigger(kind: str, condition: str) -> tuple[str, str]:
    """Return SQL for a trigger that raises for the refused rows."""
    return (
        f"{FUNCTION} CREATE {kind} ON incidents {_when(condition)} EXECUTE FUNCTION faults.refuse()",
        "DROP FUNCTION faults.refuse() CASCADE",
    )


def _when(condition: str) -> str:
    deferred = "DEFERRABLE INITIALLY DEFERRED" if condition.startswith("deferred") else ""
    return f"{deferred} FOR EACH ROW WHEN (NEW.incident_key LIKE '{REFUSED}%'{condition.removeprefix('deferred')})"


REFUSALS: Mapping[str, Refusal] = {
    "refused by a check": Refusal("escalations", *_check(" OR escalation_level = 0")),
    "refused by a trigger": Refusal("escalations", *_trigger("TRIGGER refuse BEFORE UPDATE", f" AND {RISES}")),
    "refused by a deferred trigger": Refusal(
        "escalations", *_trigger("CONSTRAINT TRIGGER refuse AFTER UPDATE", f"deferred AND {RISES}")
    ),
    "refused by a unique key": Refusal(
        # A row that escalates would get the same level as the host's own row.
        "escalations",
        "INSERT INTO incidents (incident_key, escalation_level, first_seen, acknowledged_at)"
        f" VALUES ('{REFUSED} by this', 1, now(), now());"
        f" CREATE UNIQUE INDEX refuse ON incidents (escalation_level) WHERE incident_key LIKE '{REFUSED}%'"
        " AND escalation_level > 0",
        "DROP INDEX refuse",
    ),
    "every write refused by a check": Refusal("every write", *_check("")),
    "every write refused by a trigger": Refusal("every write", *_trigger("TRIGGER refuse BEFORE UPDATE", "")),
    "every write refused by a deferred trigger": Refusal(
        "every write", *_trigger("CONSTRAINT TRIGGER refuse AFTER UPDATE", "deferred")
    ),
}
