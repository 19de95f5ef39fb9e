"""The table of settings has a row for each field."""

import attrs

from escalation_core import Settings

from .helpers import VARIABLES


def test_table_has_every_field() -> None:
    """Each field that a variable may set has a row in the table, in the same order."""
    fields = [field.name for field in attrs.fields(Settings) if field.init]
    assert fields == [*VARIABLES, "retry", "own_targets", "warnings"]
