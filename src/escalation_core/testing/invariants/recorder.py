"""Record the history of a run within one process, through the public ports of any store."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs

from ...errors import StoreRefused
from ...model import AuditRange, Canary, Delivered, Escalation, NextDue, Outcome, Page, PageRecord
from ...ports import Notifier, Store, Transaction
from ..clock import Clock, system_clock
from .history import (
    Fault,
    FinalPage,
    History,
    HostWrite,
    OverrideSpan,
    PauseSpan,
    RecordedEscalation,
    RecordedNote,
    Request,
    Verb,
)
from .page_log import Attempt, PageLog, Pages
from .run_settings import RunSettings

Result = TypeVar("Result")
_BATCH = 1000
_MOST_NOTES = 100_000


class Recorder:
    """Records the writes and requests of workers and hosts that use one store, for ``check``.

    Give each engine ``recorder.store(name, handle)`` and ``recorder.notifier(name, notifier)``. Enclose each write of
    a host in ``recorder.writing(...)``, and each fault that the test causes in ``recorder.fault(...)``. Each
    transaction reads all pages twice, so keep a run below some thousand pages.

    Args:
        store: a handle on the store under test, which ``history`` reads.
        settings: the settings that the engines share.
        targets: the targets of a critical incident. An incident of another severity pages the first target only.
        clock: the clock of requests, writes and faults. It must agree with the store's within two milliseconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: RunSettings,
        targets: Sequence[str],
        clock: Clock = system_clock,
    ) -> None:
        self.pauses: list[PauseSpan] = []
        self.faults: list[Fault] = []
        self.overrides: list[OverrideSpan] = []
        self._store = store
        self._settings = settings
        self._targets = targets
        self._writes: list[HostWrite] = []
        self._requests: list[Request] = []
        self._clock = clock
        self._log = PageLog(self.now)

    def now(self) -> float:
        """Return the seconds since 1970."""
        return self._clock().timestamp()

    def store(self, worker: str, handle: Store) -> Store:
        """Return a handle on the store that records each change of a page under the worker's name."""
        return _RecordedStore(handle, self._log, worker)

    def notifier(self, worker: str, notifier: Notifier) -> Notifier:
        """Return a notifier that records each request under the worker's name."""
        return _RecordedNotifier(notifier, self._requests, self.now, worker)

    @asynccontextmanager
    async def writing(self, verb: Verb, key: str, **values: Any) -> AsyncIterator[None]:
        """Record the host's write within this context, unless the context raises.

        ``values`` are further fields of ``HostWrite``: ``severity``, ``first_seen``, ``until``, ``new_key``.
        """
        began = self.now()
        yield
        self._writes.append(HostWrite(key=key, verb=verb, began=began, ended=self.now(), **values))

    @contextmanager
    def fault(self, kind: str, *workers: str, **flags: Any) -> Iterator[None]:
        """Record a fault that lasts as long as this context. It may interrupt these workers; without any, all workers.

        ``flags`` are further fields of ``Fault``, for example ``stops=True``.
        """
        start = self.now()
        try:
            yield
        finally:
            of = frozenset(workers) or None
            self.faults.append(Fault(kind=kind, start=start, end=self.now(), workers=of, **flags))

    async def history(self, **known: Any) -> History:
        """Return the history until now. ``known`` adds fields of ``History``, for example ``health``."""

        async def read(tx: Transaction) -> tuple[Pages, list[Escalation], list[RecordedNote] | None]:
            return await _pages(tx), await _escalations(tx), await _notes(tx)

        pages, escalations, notes = await self._store.read(read)
        self._log.see(pages)
        return History(
            **{
                "ended": self.now(),
                "settings": self._settings,
                "targets": self._targets,
                "writes": list(self._writes),
                "pauses": list(self.pauses),
                "overrides": list(self.overrides),
                "escalations": [self._recorded(each) for each in escalations],
                "notes": notes,
                "pages": [_final(page) for page in pages.values()],
                "changes": list(self._log.changes),
                "requests": list(self._requests),
                "faults": list(self.faults),
                **known,
            }
        )

    def _recorded(self, escalation: Escalation) -> RecordedEscalation:
        key, created_at = escalation.incident_key, escalation.created_at.timestamp()
        at = self._log.written.get((key, escalation.episode, escalation.level), created_at)
        return RecordedEscalation(
            key=key,
            episode=escalation.episode,
            level=escalation.level,
            created_at=created_at,
            at=at,
            unique_hash=escalation.unique_hash,
            policy=escalation.policy,
            position=escalation.position,
            outcome=None if escalation.outcome is None else escalation.outcome.value,
        )


class _RecordedStore:
    """A store that logs the changes of pages in each transaction of one worker."""

    def __init__(self, inner: Store, log: PageLog, worker: str) -> None:
        self._inner = inner
        self._log = log
        self._worker = worker

    async def check(self) -> None:
        await self._inner.check()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        attempts: list[Attempt] = []

        async def recorded(tx: Transaction) -> Result:
            began, before = (await tx.now()).timestamp(), await _pages(tx)
            result = await work(tx)
            attempts.append(Attempt(self._worker, began, self._log.clock(), before, await _pages(tx)))
            self._log.attempt(attempts[-1])
            return result

        result = await self._inner.transact(recorded)
        self._log.commit(attempts[-1])
        return result

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        return await self._inner.read(work)

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        return await self._inner.next_due(canary=canary, pages=pages)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _RecordedNotifier:
    """A notifier that logs each request of one worker."""

    def __init__(self, inner: Notifier, requests: list[Request], clock: Callable[[], float], worker: str) -> None:
        self._inner = inner
        self._requests = requests
        self._clock = clock
        self._worker = worker

    @property
    def targets(self) -> Sequence[str]:
        return self._inner.targets

    @property
    def channel(self) -> str:
        return self._inner.channel

    async def send(self, page: Page) -> Outcome:
        at, number = self._clock(), len(self._requests)
        request = Request(dedup_key=page.dedup_key, target=page.target, worker=self._worker, at=at, accepted=False)
        self._requests.append(request)
        outcome = await self._inner.send(page)
        accepted = isinstance(outcome, Delivered)
        self._requests[number] = attrs.evolve(request, accepted=accepted, answered_at=self._clock())
        return outcome

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _pages(tx: Transaction) -> Pages:
    found: dict[int, PageRecord] = {}
    while batch := await tx.outbox.pages(after=max(found, default=0), limit=_BATCH):
        found |= {page.id: page for page in batch}
    return found


async def _escalations(tx: Transaction) -> list[Escalation]:
    found: list[Escalation] = []
    after = 0
    while batch := await tx.ledger.escalations(after=after, limit=_BATCH):
        found += [escalation for _, escalation in batch]
        after = batch[-1][0]
    return found


async def _notes(tx: Transaction) -> list[RecordedNote] | None:
    """Return the engine's own notes, oldest first; None if the store has only the tier for paging."""
    try:
        found = await tx.journal.notes(AuditRange(since=datetime.fromtimestamp(0, UTC)), limit=_MOST_NOTES)
    except StoreRefused:
        return None
    return [
        RecordedNote(
            key=note.incident_key or "",
            episode=note.episode or 0,
            level=note.level or 0,
            action=note.action,
            at=note.at.timestamp(),
            written=note.at.timestamp(),
        )
        for _, note in sorted(found, key=lambda each: each[0])
        if note.action in ("ack_expired", "restart", "exhausted", "unheard")
    ]


def _final(page: PageRecord) -> FinalPage:
    return FinalPage(
        id=page.id,
        key=page.incident_key,
        episode=page.episode,
        level=page.level,
        target=page.target,
        dedup_key=page.dedup_key,
        state=page.state.value,
        reason=page.reason,
        via=page.via,
        schedule_digest=page.schedule_digest,
        created_at=page.created_at.timestamp(),
    )
