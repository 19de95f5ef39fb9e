"""The engine for a Django project: verbs in Django's transaction, and an engine of the process's own."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import attrs
from django.db import connections
from django.utils.module_loading import import_string

from escalation_core import Engine, EscalationError, InvalidValue, Notifier, Policies

from . import conf, database
from .not_ready import remedied

if TYPE_CHECKING:
    from ..blocking_verbs import BlockingVerbs
    from ..worker.blocking import BlockingEngine
    from ..worker.reload import Load

log = logging.getLogger("escalation_adapters.django")
_FIELD = "ESCALATION['notifiers']"
_REMEDY = "name a function without arguments that returns a list of notifiers"


def verbs() -> "BlockingVerbs":
    """Return the verbs on an incident, for use in the transaction that Django began on ``ESCALATION``'s database.

    What a verb writes is committed or rolled back together with the rows of the project. ::

        with transaction.atomic():
            report.save()
            verbs().acknowledge(str(report.incident_id), by=request.user.get_username())

    Raises:
        InvalidValue: there is no transaction, or it has failed.
        NotSupported, SettingsError: the database or ``ESCALATION`` is wrong.
        StoreNotReady: the schema is not attached.
    """
    configuration = conf.read()
    alias = configuration.database
    database.check_supported(alias)
    if database.vendor(alias) == "sqlite":
        fault = "is an SQLite file of the engine's own, which takes no part in a transaction of Django's"
        remedy = "write: with escalation_adapters.django.engine() as escalation: escalation.acknowledge(...)"
        raise InvalidValue("database", fault, remedy)
    connection = connections[alias]
    if not connection.in_atomic_block:
        remedy = f"write: with transaction.atomic(using={alias!r}): ..."
        raise InvalidValue("connection", f"{alias!r} is not in a transaction", remedy)
    if connection.needs_rollback:
        fault = f"{alias!r} is in an atomic block that has failed"
        raise InvalidValue("connection", fault, "leave the block, and begin another one")
    from .transaction import make_verbs

    return make_verbs(connection, configuration.settings, configuration.schema, _policies(configuration))


_read: tuple[conf.Configuration, Policies | None] | None = None


def _policies(configuration: conf.Configuration) -> Policies | None:
    """Return the policies for verbs. The file is read once in a process.

    With a faulty file verbs work without it, because an incident must be answered; workers assign policies then.
    """
    global _read  # noqa: PLW0603 - each request asks, and reading takes long
    load = policies_loader(configuration)
    if load is None:
        return configuration.policies
    if _read is None or _read[0] is not configuration:
        try:
            _read = configuration, load()
        except EscalationError as error:
            log.error("the policies file could not be loaded, and verbs work without it: %s", error)  # noqa: TRY400
            _read = configuration, None
    return _read[1]


def policies_loader(configuration: conf.Configuration) -> "Load | None":
    """Return the function that reads the policies file of ``ESCALATION``; None without one."""
    from ..worker import app

    return app.policies_loader(configuration.settings)


def engine(*, work: bool = False) -> "BlockingEngine":
    """Return an engine whose calls block, each with a transaction of its own; open it with a ``with`` statement.

    ``work=True`` also ticks and delivers. Each engine has a thread and connections of its own.

    Raises:
        NotSupported, SettingsError: the database or ``ESCALATION`` is wrong.
        MissingExtra: a package is not installed.
    """
    from ..worker.blocking import BlockingEngine

    configuration = conf.read()
    database.check_supported(configuration.database)
    make = partial(open_engine, long_running=work)
    return BlockingEngine(make, work=work, policies=policies_loader(configuration))


async def open_engine(*, long_running: bool = False) -> Engine:
    """Open the engine that ``ESCALATION`` describes, on the database of its alias."""
    from ..worker import app

    configuration = conf.read()
    with remedied():
        return await app.open_engine(
            attrs.evolve(configuration.settings, database_url=database.url(configuration.database)),
            schema=configuration.schema,
            pooler="transaction" if database.pooled(configuration.database) else None,
            long_running=long_running,
            notifiers=make_notifiers(configuration),
            policies=configuration.policies,
        )


def find_maker(configuration: conf.Configuration) -> Callable[[], object] | None:
    """Return the project's function that makes its notifiers, None if ``ESCALATION`` names none.

    Raises:
        InvalidValue: the path cannot be imported, or does not lead to a function.
    """
    path = configuration.notifiers
    if path is None:
        return None
    try:
        found: object = import_string(path)
    except ImportError as error:
        raise InvalidValue(_FIELD, f"{path} cannot be imported ({error})", _REMEDY) from error
    if not callable(found):
        raise InvalidValue(_FIELD, f"{path} is {type(found).__name__}", _REMEDY)
    return found


def make_notifiers(configuration: conf.Configuration) -> list[Notifier]:
    """Return the project's own notifiers.

    Raises:
        InvalidValue: there is no such function, or it does not return notifiers.
    """
    make = find_maker(configuration)
    made = () if make is None else make()
    if not isinstance(made, Iterable):
        raise InvalidValue(_FIELD, f"{configuration.notifiers} returns {type(made).__name__}", _REMEDY)
    return list(made)
