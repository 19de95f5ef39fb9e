"""The remedies of a schema that is not ready: commands of ``manage.py`` instead of the library's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from escalation_core import StoreNotReady

from . import conf

MIGRATE = (
    "run: manage.py migrate; if no migration has the operation, add one: AttachEscalation for the first time,"
    " UpdateEscalation after an update of the library"
)


def with_remedy(error: StoreNotReady, migrate: str = MIGRATE) -> StoreNotReady:
    """Return the error with a remedy for a Django project. ``migrate`` is the one of a schema that is not attached."""
    try:
        from ..postgres import drift, errors
    except ImportError:  # without psycopg, the store is an SQLite file
        return error
    check = f"run: manage.py check --database {conf.read().database}"
    remedies = {errors.MIGRATE: migrate, drift.ATTACH: migrate, errors.STATUS: check}
    fault, _, remedy = str(error).rpartition("; ")
    return StoreNotReady(f"{fault}; {remedies[remedy]}") if remedy in remedies else error


@contextmanager
def remedied() -> Iterator[None]:
    """Raise StoreNotReady with a remedy for a Django project."""
    try:
        yield
    except StoreNotReady as error:
        raise with_remedy(error) from error
