"""System checks: of ``ESCALATION`` with every command, and of its database where Django checks databases."""

import asyncio
import sqlite3
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from django.core import checks

from escalation_core import EscalationError, SettingsError

from ..sqlite.file import APPLICATION_ID
from . import access, conf, database
from .not_ready import MIGRATE

if TYPE_CHECKING:
    from ..postgres.drift import Fault
    from ..postgres.table import IncidentsTable

_ID = "escalation_core"
Result = TypeVar("Result")


def register_all() -> None:
    """Register the checks; Django calls this once."""
    checks.register(check_settings)
    checks.register(check_database, checks.Tags.database)


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Report what is wrong with ``ESCALATION``, and a database that the engine cannot use."""
    try:
        configuration = conf.read()
    except SettingsError as error:
        return [
            checks.Error(f"{name} {problem.fault}.", hint=_hint(problem.remedy), id=f"{_ID}.E001")
            for name, problem in error.problems.items()
        ]
    found: list[checks.CheckMessage] = []
    alias = configuration.database
    problem = database.find_problem(alias)
    if problem is not None:
        # Django's own tests use SQLite databases in memory, so these are no errors.
        level, letter = (checks.WARNING, "W") if database.in_memory(alias) else (checks.ERROR, "E")
        text = f"The database {alias!r} {problem.fault}."
        found.append(checks.CheckMessage(level, text, hint=_hint(problem.remedy), id=f"{_ID}.{letter}002"))
    try:
        access.find_maker(configuration)
    except EscalationError as error:
        found.append(checks.Error(str(error), id=f"{_ID}.E003"))
    try:
        load = access.policies_loader(configuration)
        if load is not None:
            load()
    except EscalationError as error:
        # No error, which would also stop a scheduler's tick; a worker that stays refuses the file by itself.
        found.append(checks.Warning(f"The policies file cannot be used: {error}", id=f"{_ID}.W012"))
    if database.vendor(alias) == "sqlite" and (configuration.columns or configuration.status):
        text = "ESCALATION has columns or a status, which the engine does not use on SQLite."
        found.append(checks.Warning(text, hint="There the engine has a table of its own.", id=f"{_ID}.W004"))
    return found


def check_database(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Report pending migrations of the library, a schema that is not attached, and drift, if its alias is among these.

    These are warnings: ``migrate``, which repairs them, runs this check first.
    """
    try:
        configuration = conf.read()
    except SettingsError:
        return []
    alias = configuration.database
    if alias not in (databases or ()) or database.find_problem(alias) is not None:
        return []
    try:
        faults = _sqlite_faults(alias) if database.vendor(alias) == "sqlite" else _postgres_faults(configuration)
        return [checks.Warning(fault, hint=hint, id=f"{_ID}.{number}") for number, fault, hint in faults]
    except (EscalationError, sqlite3.Error) as error:
        return [checks.Warning(f"The database {alias!r} cannot be checked: {error}", id=f"{_ID}.W010")]


def _postgres_faults(configuration: conf.Configuration) -> Iterator[tuple[str, str, str | None]]:
    from ..postgres import migrate

    url, schema = database.url(configuration.database), configuration.schema

    async def look() -> "tuple[Sequence[migrate.Status], IncidentsTable | None, Sequence[Fault]]":
        return await migrate.status(url, schema=schema), *await migrate.read_attachment(url, schema=schema)

    steps, table, faults = _run(look())
    pending = [step.name for step in steps if step.applied_at is None]
    if table is None:
        yield (
            "W005",
            f"The schema {schema!r} of the database {configuration.database!r} is not attached.",
            _hint(MIGRATE),
        )
    elif pending:
        yield "W006", f"Migrations of escalation-core are pending: {', '.join(pending)}.", _hint(MIGRATE)
    for step in steps:
        if step.changed:
            hint = "Install the release that applied it, or a later one."
            yield "W007", f"The migration {step.name} of escalation-core is not the file that was applied.", hint
    if table is not None:
        for fault in faults:
            yield "W008", f"{_sentence(fault.text)}.", _hint(fault.remedy)
        for text in _differences(configuration, table):
            yield "W011", text, "Write in ESCALATION what the migration says: the admin reads the table by it."


def _differences(configuration: conf.Configuration, table: "IncidentsTable") -> Iterator[str]:
    """Yield what ESCALATION says of the table otherwise than the attachment."""
    from ..postgres.mapping import split_columns

    name = f"{table.schema}.{table.name}"
    if table.name != configuration.table:
        yield f"The engine is attached to the table {name}, and ESCALATION names {configuration.table!r}."
    written, reads = split_columns(configuration.columns)
    known = _named(written, reads, None if configuration.status is None else configuration.status["column"])
    status = None if table.status is None else table.status.column
    for meaning, column in _named(table.columns, table.reads, status).items():
        if known.get(meaning) != column:
            yield f"The engine is attached with {column!r} as {meaning}, and ESCALATION does not say so."


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a thread of its own: the caller's may have an event loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _named(written: Mapping[str, str], reads: Mapping[str, str], status: str | None) -> dict[str, str]:
    """Return the host's columns by what ESCALATION calls them."""
    found = {**written, **{f"{name}:read": column for name, column in reads.items()}}
    return found if status is None else {**found, "status": status}


def _sqlite_faults(alias: str) -> Iterator[tuple[str, str, str | None]]:
    path = database.path(alias)
    if path is None or not path.exists():
        return  # the library creates the file
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        [(application,)] = connection.execute("PRAGMA application_id")
        [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_schema")
    if (tables or application) and application != APPLICATION_ID:
        hint = "Name another file, and do not run migrate on its alias."
        yield "W009", f"The file {path} has tables of another program.", hint


def _hint(remedy: str) -> str:
    return f"{_sentence(remedy)}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
