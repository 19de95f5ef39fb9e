"""Drift: what changed in the host's table since it was attached, and the command that helps."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .attach import FUNCTIONS, INDEXES, TRIGGERS, trigger_sources
from .table import IncidentsTable, not_null

UP = "run: escalation migrate up"
ATTACH = "run: escalation migrate attach"


@attrs.frozen(kw_only=True)
class Found:
    """The catalogue's entries of the table and its triggers, as the statement ``installation`` selects them."""

    triggers: bool
    """Whether the installation has triggers."""
    columns: Mapping[str, str]
    """The type of each column, by its name; empty if the table is gone."""
    has_key: bool
    """Whether the key column is NOT NULL."""
    enabled: Sequence[str]
    disabled: Sequence[str]
    sources: Mapping[str, str]
    """The MD5 of each function's source, by its name."""
    indexes: Sequence[str]
    """The valid indexes."""
    words: Sequence[str]
    """Words of the status that no list of the mapping has."""
    enum: Sequence[str]
    """The words of the status column's type; empty if it is not an enum."""

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Found":
        """Return what a row of the statement says."""
        triggers, names, kinds, has_key, enabled, disabled, functions, sources, indexes, words, enum = row
        return cls(
            triggers=bool(triggers),
            columns=dict(zip(names, kinds, strict=True)),
            has_key=bool(has_key),
            enabled=enabled,
            disabled=disabled,
            sources=dict(zip(functions, sources, strict=True)),
            indexes=indexes,
            words=words,
            enum=enum,
        )


@attrs.frozen
class Fault:
    """A fault, with its remedy. ``migrate up`` repairs a fault that is ``mendable``."""

    text: str
    remedy: str
    mendable: bool = False

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


def find_faults(table: IncidentsTable, found: Found, *, keyless: int = 0) -> Sequence[Fault]:
    """Return the faults of the host's table. ``keyless``: how many rows without a key wait to be planned."""
    name, key = f"{table.schema}.{table.name}", table.columns["incident_key"]
    if not found.columns:
        return [Fault(f"the table {name} is gone", "restore it, or run: escalation migrate detach")]
    faults = [*_columns(table, found, name)]
    if found.triggers:
        faults += _triggers(table, found, name)
    faults += [
        Fault(f"index {index} of {name} is missing or invalid: claims read the whole table", UP, mendable=True)
        for index in INDEXES
        if index not in found.indexes
    ]
    if key in found.columns and not found.has_key:
        text = f"column {key!r} of {name} may be NULL: the engine cannot page about a row without a key"
        faults.append(Fault(text, not_null(table)))
    if keyless:
        text = f"{keyless} rows of {name} have no {key}: the engine cannot page about them"
        faults.append(Fault(text, "give each row one"))
    if (missing := missing_words(table, found.enum)) is not None:
        faults.append(missing)
    if table.status is not None and found.words:
        words = ", ".join(repr(word) for word in found.words)
        faults.append(
            Fault(
                f"column {table.status.column!r} of {name} has words in no list: {words}; their rows count as open",
                f"add the words to a list: escalation migrate attach --status {table.status.column} --open ..., or"
                f" correct the rows and {UP}",
            )
        )
    return faults


def missing_words(table: IncidentsTable, enum: Sequence[str]) -> Fault | None:
    """Return the fault of a status mapping that names words which the column's enum no longer has."""
    if table.status is None or not enum:
        return None
    missing = ", ".join(repr(word) for word in table.status.words if word not in enum)
    if not missing:
        return None
    column = table.status.column
    return Fault(
        f"column {column!r} of {table.schema}.{table.name} no longer has the mapped words {missing}: its enum has"
        f" {', '.join(map(repr, enum))}",
        f"name the words again: escalation migrate attach --status {column} --open ...",
    )


def _columns(table: IncidentsTable, found: Found, name: str) -> list[Fault]:
    meaning = {column: (engine, "") for engine, column in table.columns.items()}
    meaning |= {column: (engine, ":read") for engine, column in table.reads.items()}
    faults = []
    for column in table.host_columns:
        engine, suffix = meaning.get(column, ("", ""))
        now, before = found.columns.get(column), table.kinds.get(column)
        if now is None and column not in table.kinds:
            faults.append(Fault(f"{name} has no column {column!r} yet, which this version needs", UP, mendable=True))
        elif now is None:
            option = f"--column {engine}=NEW{suffix}" if engine else "--status NEW --open ..."
            faults.append(
                Fault(
                    f"column {column!r} of {name} is gone: host writes are found late",
                    f"if it was renamed, {ATTACH} {option}",
                )
            )
        elif before is not None and now != before:
            faults.append(Fault(f"column {column!r} of {name} was {before} and is {now} now", ATTACH))
    return faults


def _triggers(table: IncidentsTable, found: Found, name: str) -> list[Fault]:
    faults = []
    for trigger in TRIGGERS:
        if trigger not in found.enabled:
            fault = "is disabled" if trigger in found.disabled else "is missing"
            faults.append(
                Fault(f"trigger {trigger} on {name} {fault}: the engine finds host writes late", UP, mendable=True)
            )
    expected = trigger_sources(table)
    changed = [function for function in FUNCTIONS if found.sources.get(function) != expected[function]]
    if changed and not faults:
        text = f"function {changed[0]} of {name} is missing, or not the one of this version"
        faults.append(Fault(text, UP, mendable=True))
    return faults
