"""A host's ORM writes a status column (text, enum or integer) and no instants. The engine maps the status."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from sqlalchemy import Enum, Integer, Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from escalation_adapters.postgres import CannotAttach, PostgresStore, StatusMapping, migrate
from escalation_core import Engine, InvalidValue
from escalation_core.testing import RecordingNotifier

from .host_tables import execute

WORDS = ("triggered", "acked", "closed", "canceled", "odd")
KINDS: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "text": (Text(), WORDS),
    "enum": (Enum(*WORDS, name="alert_status"), WORDS),
    "integer": (Integer(), (0, 1, 2, 3, 9)),
}
"""The type of the column, and the host's values for open, acknowledged, resolved (two), and one that is not mapped."""


@attrs.define
class Host:
    """A host's service that writes its table through an ORM."""

    orm: Any
    model: Any
    values: tuple[Any, ...]
    dsn: str

    @contextmanager
    def session(self) -> Iterator[Session]:
        with Session(self.orm) as session, session.begin():
            yield session

    def add(self, key: str, status: Any = None) -> None:
        with self.session() as session:
            at = datetime.now(UTC) - timedelta(hours=1)
            given = {} if status is None else {"status": status}
            session.add(self.model(key=key, severity="critical", created_at=at, **given))

    def set(self, key: str, **values: Any) -> None:
        with self.session() as session:
            row = session.get(self.model, key)
            for name, value in values.items():
                setattr(row, name, value)

    def status(self, key: str) -> Any:
        with self.session() as session:
            return session.scalar(select(self.model.status).where(self.model.key == key))

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[tuple[Engine, RecordingNotifier]]:
        notifier = RecordingNotifier()
        async with Engine(await PostgresStore.connect(self.dsn), notifiers=[notifier]) as engine:
            yield engine, notifier


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(pg_dsn: str, kind: str) -> Iterator[Host]:
    column, values = KINDS[kind]

    class Base(DeclarativeBase):
        pass

    class Alert(Base):
        __tablename__ = "alerts"
        key: Mapped[str] = mapped_column(Text, primary_key=True)
        severity: Mapped[str | None]
        status: Mapped[Any] = mapped_column(column, default=values[0])
        created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))

    parameters = dict(part.split("=") for part in pg_dsn.split())
    url = f"postgresql+psycopg://{parameters['user']}@{parameters['host']}:{parameters['port']}/{parameters['dbname']}"
    orm = create_engine(url)
    Base.metadata.create_all(orm)
    execute(pg_dsn, "ALTER TABLE alerts ALTER COLUMN created_at TYPE timestamptz")
    # The engine never writes a column that is mapped read-only, so a row that it inserts needs the default.
    execute(pg_dsn, "ALTER TABLE alerts ALTER COLUMN created_at SET DEFAULT now()")
    try:
        yield Host(orm, Alert, values, pg_dsn)
    finally:
        orm.dispose()


async def attach(host: Host, **how: Any) -> None:
    texts = [str(value) for value in host.values]
    status = StatusMapping(column="status", open=texts[0], acknowledged=texts[1], resolved=texts[2:4])
    columns = {"incident_key": "key", "first_seen": "created_at:read"}
    await migrate.attach(host.dsn, table="alerts", columns=columns, status=status, **{"existing": "page", **how})


async def test_rows_of_before_count_by_their_status(host: Host) -> None:
    """After attaching, the engine pages only the rows whose status is open or not mapped. No row has an instant."""
    for number, value in enumerate(host.values):
        host.add(f"k{number}", value)
    await attach(host)
    async with host.engine() as (engine, notifier):
        assert 2 == (await engine.tick()).escalated
        states = [(await engine.history(f"k{number}")).incident for number in range(5)]
    assert {"k0", "k4"} == {page.incident.incident_key for page in notifier.pages}
    assert ["open", "acknowledged", "resolved", "resolved", "open"] == [one.state for one in states if one is not None]


async def test_host_writes_the_status_alone(host: Host) -> None:
    """The host acknowledges, unacknowledges, resolves and reopens through the ORM. Incident and pages follow."""
    await attach(host)
    opened, acknowledged, resolved, *_ = host.values
    async with host.engine() as (engine, notifier):
        host.add("k")
        await engine.tick(deliver=False)
        host.set("k", status=acknowledged)
        assert 0 == (await engine.tick()).escalated
        assert [] == notifier.pages
        history = await engine.history("k")
        assert history.incident is not None
        assert history.incident.acknowledged_at is not None
        assert ["cancelled"] == [page.state.value for page in history.pages]
        host.set("k", status=opened)
        incident = (await engine.history("k")).incident
        assert incident is not None
        assert "open" == incident.state
        host.set("k", status=resolved)
        host.set("k", status=opened)
        incident = (await engine.history("k")).incident
        assert incident is not None
        assert ("open", 2) == (incident.state, incident.episode)


async def test_verbs_write_the_first_word(host: Host) -> None:
    """Each verb writes the first word of its list. A tick leaves another word of the same list as it is."""
    await attach(host)
    opened, acknowledged, resolved, canceled, _ = host.values
    host.add("k")
    async with host.engine() as (engine, _):
        await engine.tick()
        await engine.acknowledge("k", by="host")
        assert acknowledged == host.status("k")
        await engine.unacknowledge("k", by="host")
        assert opened == host.status("k")
        await engine.resolve("k", by="host")
        assert resolved == host.status("k")
        host.set("k", status=canceled)
        assert (await engine.tick()).escalated == 0
        assert canceled == host.status("k")
        await engine.open("k", severity="critical")
        assert opened == host.status("k")
        await engine.open("new", severity="critical")
        assert opened == host.status("new")


async def test_word_that_is_not_mapped_is_open_and_reported(host: Host) -> None:
    """A row with a word that is not mapped is paged. Health and ``migrate.check`` name the word until a list has it."""
    await attach(host)
    odd = host.values[4]
    host.add("k", odd)
    async with host.engine() as (engine, _):
        assert 1 == (await engine.tick()).escalated
        await engine.change_severity("k", "warning", by="host")
        assert odd == host.status("k")
        [warning] = [text for text in (await engine.health()).warnings if "words in no list" in text]
        assert f"{str(odd)!r}" in warning
        assert [warning] == list(await migrate.check(host.dsn))
        host.set("k", status=host.values[0])
        await migrate.up(host.dsn)
        assert [] == list(await migrate.check(host.dsn))
        host.set("k", status=odd)
        assert [warning] == list(await migrate.check(host.dsn))
        texts = [str(value) for value in host.values]
        status = StatusMapping(column="status", open=[texts[0], texts[4]], acknowledged=texts[1], resolved=texts[2:4])
        await migrate.attach(host.dsn, status=status, existing="page")
        assert [] == list(await migrate.check(host.dsn))
        assert [] == [text for text in (await engine.health()).warnings if "words in no list" in text]


async def test_word_that_the_column_refuses(host: Host, kind: str) -> None:
    """Attaching refuses a status word that the column's enum or integer type does not have."""
    status = StatusMapping(column="status", open="nope", resolved="closed")
    columns = {"incident_key": "key", "first_seen": "created_at:read"}
    if kind == "text":
        await migrate.attach(host.dsn, table="alerts", columns=columns, status=status)
        return
    with pytest.raises(CannotAttach, match="the status word 'nope' is not a valid"):
        await migrate.attach(host.dsn, table="alerts", columns=columns, status=status)


async def test_status_without_a_word_for_acknowledged(host: Host) -> None:
    """Without a word for acknowledged, ``acknowledge`` sets only the engine's instant, and the status stays open."""
    texts = [str(value) for value in host.values]
    status = StatusMapping(column="status", open=texts[0], resolved=texts[2])
    columns = {"incident_key": "key", "first_seen": "created_at:read"}
    await migrate.attach(host.dsn, table="alerts", columns=columns, status=status)
    host.add("k")
    async with host.engine() as (engine, notifier):
        assert 1 == (await engine.tick()).escalated
        await engine.acknowledge("k", by="host")
        assert host.values[0] == host.status("k")
        host.set("k", severity="warning")
        incident = (await engine.history("k")).incident
        assert incident is not None
        assert "acknowledged" == incident.state
        host.set("k", status=host.values[2])
        incident = (await engine.history("k")).incident
        assert incident is not None
        assert "resolved" == incident.state
    assert 1 == len(notifier.pages)


@pytest.mark.parametrize(
    ("lists", "fault"),
    [
        ({"open": [], "resolved": ["closed"]}, "has no word"),
        ({"open": ["open"], "resolved": []}, "has no word"),
        ({"open": ["open"], "resolved": ["open"]}, "stands twice"),
        ({"open": ["o'pen"], "resolved": ["closed"]}, "is not a text without"),
    ],
)
def test_lists_are_checked(lists: dict[str, list[str]], fault: str) -> None:
    """StatusMapping refuses a list without a word, a word in two lists, and a word with a quote."""
    with pytest.raises(InvalidValue, match=fault):
        StatusMapping(column="status", **lists)
