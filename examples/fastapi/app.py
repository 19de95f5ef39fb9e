"""A web service that opens alerts and pages about those that are not acknowledged in time."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.worker.runner import run
from escalation_core import Engine, Settings
from models import Alert, Report, Severity, Status
from pages import Webhook

DATABASE_URL = os.environ["DATABASE_URL"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database and the engine, and run the engine's worker beside the requests."""
    database = create_async_engine(make_url(DATABASE_URL).set(drivername="postgresql+psycopg"))
    store = await PostgresStore.connect(DATABASE_URL)
    notifiers = [Webhook(os.environ["WEBHOOK_URL"])]
    async with Engine(store, settings=Settings.from_env(os.environ), notifiers=notifiers) as engine:
        app.state.engine = engine
        app.state.sessions = async_sessionmaker(database)
        stop = asyncio.Event()
        worker = asyncio.create_task(run(engine, stop=stop, signals=False))
        yield
        stop.set()
        await worker
    await database.dispose()


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


app = FastAPI(lifespan=lifespan)
Escalation = Annotated[Engine, Depends(_engine)]
Session = Annotated[AsyncSession, Depends(_session)]


class NewReport(BaseModel):
    """A report that a monitoring system posts."""

    reference: str
    severity: Severity
    title: str
    seen_at: AwareDatetime | None = None


class Shown(BaseModel):
    """An alert, as this service shows it."""

    id: UUID
    status: Status
    acknowledged_by: str | None = None
    level: int = 0


@app.post("/reports", status_code=201)
async def report(new: NewReport, engine: Escalation, session: Session) -> Shown:
    """Open an alert, and record the report: one transaction, so a report that came before opens nothing."""
    key = uuid4()
    try:
        async with session.begin():
            await engine.using(session).open(
                str(key),
                severity=new.severity,
                summary=new.title,
                first_seen=new.seen_at or datetime.now(UTC),
            )
            session.add(Report(reference=new.reference, alert_id=key))
    except IntegrityError:
        raise HTTPException(409, f"the report {new.reference} came before") from None
    return Shown(id=key, status=Status.OPEN)


@app.post("/alerts/{key}/acknowledge")
async def acknowledge(key: UUID, by: str, session: Session) -> Shown:
    """Acknowledge an alert with the ORM alone; triggers tell the engine, and cancel unsent pages."""
    async with session.begin():
        alert = await session.get(Alert, key, with_for_update=True)
        if alert is None or alert.status is not Status.OPEN:
            raise HTTPException(409, "there is no open alert of this key")
        alert.status = Status.ACKNOWLEDGED
        alert.acknowledged_by = by
    return Shown(id=key, status=Status.ACKNOWLEDGED, acknowledged_by=by)


@app.get("/alerts/{key}")
async def show(key: UUID, engine: Escalation, session: Session) -> Shown:
    """Show an alert: its row, and the level that the engine knows of it."""
    alert = await session.get(Alert, key)
    if alert is None:
        raise HTTPException(404)
    history = await engine.history(str(key))
    level = 0 if history.incident is None else history.incident.level
    return Shown(id=key, status=alert.status, acknowledged_by=alert.acknowledged_by, level=level)
