"""The verbs on an incident, for hosts and responders. ``rules/transitions.py`` says which state allows which verb."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from ..checks import check_instant, check_key, check_labels, check_optional_text, check_text
from ..errors import InvalidValue, TransitionRefused
from ..model import By, Incident
from ..ports import JoinsTransactions, Transaction
from ..rules import transitions
from ..rules.transitions import Change, Verb, admit
from .access import StoreAccess, TransactionAccess, canonical_key
from .exhausted import note_exhausted


class IncidentVerbs(TransactionAccess):
    """The verbs on one incident. Each writes the incident, its pages and the audit, or nothing.

    A verb of an engine is one transaction. After ``engine.using(connection)`` it is part of the host's transaction.

    If the row cannot be read, each verb raises ``TransitionRefused`` with the row's fault.
    """

    async def open(
        self,
        incident_key: str,
        *,
        severity: str | None = None,
        summary: str | None = None,
        labels: Mapping[str, str] | None = None,
        first_seen: datetime | None = None,
        by: str | None = None,
    ) -> Incident:
        """Open an incident, or update severity, summary and labels of one that is not resolved. None keeps a value.

        A resolved key begins a new episode. The severity of a new incident defaults to ``warning``. ``first_seen``
        (aware) may lie up to one year in the past and 24 hours in the future, and defaults to now.

        Raises:
            InvalidValue: a value is not valid; nothing was written.
        """
        check_key(incident_key)
        check_optional_text(severity, "severity")
        check_optional_text(summary, "summary")
        who = By(by)
        labels = None if labels is None else check_labels(labels)
        first_seen = None if first_seen is None else check_instant(first_seen, "first_seen")

        async def work(tx: Transaction) -> Incident:
            now, key = await tx.now(), canonical_key(tx, incident_key)

            async def change(standing: Incident | None) -> Change:
                live = standing is not None and standing.resolved_at is None
                return transitions.open_incident(
                    standing,
                    key,
                    severity=severity,
                    summary=summary,
                    labels=labels,
                    first_seen=first_seen,
                    highest_episode=0 if live else await tx.ledger.highest_episode(key),
                    policy=self.settings.policy,
                    now=now,
                )

            standing = await _load(tx, Verb.OPEN, key)
            if standing is None:
                opened = await change(None)
                if await tx.incidents.insert(opened.incident):
                    await tx.journal.note([who.entry(now, Verb.OPEN, incident=opened.incident)])
                    return opened.incident
                # Another transaction has just opened the incident: update it instead.
                standing = await _load(tx, Verb.OPEN, key)
            return await _write(tx, Verb.OPEN, await change(standing), now, who)

        return await self._run(work)

    async def acknowledge(self, incident_key: str, *, reason: str | None = None, by: str | None = None) -> Incident:
        """Acknowledge an incident: it no longer escalates, and pages not yet claimed for sending are cancelled.

        Raises:
            TransitionRefused: the key is unknown, or its incident is resolved.
        """
        return await self._change(
            Verb.ACKNOWLEDGE,
            incident_key,
            By(by, reason),
            lambda incident, now: transitions.acknowledge(incident, by, now=now),
        )

    async def unacknowledge(self, incident_key: str, *, reason: str | None = None, by: str | None = None) -> Incident:
        """Take an acknowledgement back: the episode continues at its level. Cancelled pages stay cancelled.

        Raises:
            TransitionRefused: the key is unknown, or its incident is resolved.
        """
        return await self._change(
            Verb.UNACKNOWLEDGE,
            incident_key,
            By(by, reason),
            lambda incident, now: transitions.unacknowledge(incident, policy=self.settings.policy, now=now),
        )

    async def resolve(self, incident_key: str, *, reason: str | None = None, by: str | None = None) -> Incident:
        """Resolve an incident: it no longer escalates, and its unsent pages are cancelled.

        Raises:
            TransitionRefused: the key is unknown.
        """
        return await self._change(
            Verb.RESOLVE, incident_key, By(by, reason), lambda incident, now: transitions.resolve(incident, now=now)
        )

    async def change_severity(
        self, incident_key: str, severity: str, *, reason: str | None = None, by: str | None = None
    ) -> Incident:
        """Give an incident another severity, and recompute its due instant with the window of that severity.

        Raises:
            TransitionRefused: the key is unknown, or its incident is resolved.
        """
        check_text(severity, "severity")
        return await self._change(
            Verb.CHANGE_SEVERITY,
            incident_key,
            By(by, reason),
            lambda incident, now: transitions.change_severity(incident, severity, policy=self.settings.policy, now=now),
        )

    async def snooze(
        self,
        incident_key: str,
        until: datetime | timedelta | None,
        *,
        reason: str | None = None,
        by: str | None = None,
    ) -> Incident:
        """Snooze an incident: it does not escalate before ``until`` (aware), or for a span. None ends the snooze.

        Pages that are already recorded are still sent.

        Raises:
            TransitionRefused: the key is unknown, or its incident is acknowledged or resolved.
        """
        until = until if until is None or isinstance(until, timedelta) else check_instant(until, "until")
        return await self._change(
            Verb.SNOOZE,
            incident_key,
            By(by, reason),
            lambda incident, now: transitions.snooze(incident, until, policy=self.settings.policy, now=now),
        )

    async def drain(self, incident_key: str, *, reason: str | None = None, by: str | None = None) -> Incident:
        """Lower an incident by one level in a new episode, so that the engine can record and page that level again.

        Raises:
            TransitionRefused: the key is unknown, its incident is not open, or it is at level 0.
        """
        return await self._change(
            Verb.DRAIN,
            incident_key,
            By(by, reason),
            lambda incident, now: transitions.drain(incident, policy=self.settings.policy, now=now),
        )

    async def _change(
        self, verb: Verb, incident_key: str, who: By, decide: Callable[[Incident, datetime], Change]
    ) -> Incident:
        check_key(incident_key)

        async def work(tx: Transaction) -> Incident:
            now, key = await tx.now(), canonical_key(tx, incident_key)
            incident = admit(verb, key, await _load(tx, verb, key))
            return await _write(tx, verb, decide(incident, now), now, who)

        return await self._run(work)


class HostTransactions(StoreAccess):
    """The verbs in transactions that the host began."""

    def using(self, connection: object) -> IncidentVerbs:
        """Return the verbs as part of the transaction that the host began on ``connection``, and ends.

        They write together with the host's own rows: the host commits both, or rolls both back. A verb that raises
        writes nothing, and the host's transaction can go on. The result is for one transaction. ``connection`` is
        psycopg's, or what SQLAlchemy or Django make of it; ``PostgresStore.using`` says which.

        Raises:
            InvalidValue: the engine's store cannot work in a transaction of the host's. A verb raises it if the
                connection leads to another database, autocommits, is read-only or closed, or its transaction failed.
        """
        if not isinstance(self.store, JoinsTransactions):
            raise InvalidValue(
                "store",
                f"{type(self.store).__name__} works in its own transactions only",
                "call the engine's verbs, or give the engine a PostgresStore",
            )
        return IncidentVerbs(self.store.using(connection), self.settings)


async def _load(tx: Transaction, verb: Verb, incident_key: str) -> Incident | None:
    """Return the incident, locked. An unreadable row raises TransitionRefused: the row is wrong, not the caller."""
    try:
        return await tx.incidents.load(incident_key)
    except InvalidValue as fault:
        raise TransitionRefused(incident_key, "unreadable", verb.value, f"correct its row: {fault}") from fault


async def _write(tx: Transaction, verb: Verb, change: Change, now: datetime, who: By) -> Incident:
    """Write the incident, cancel its pages if the change says so, and note the actor. For a no-op write nothing."""
    if change.changed:
        await tx.incidents.save(change.incident)
        await note_exhausted(tx, [change.incident], now)
        if change.cancel is not None:
            await tx.outbox.cancel(change.incident.incident_key, change.cancel, now)
        said = {Verb.CHANGE_SEVERITY: change.incident.severity, Verb.SNOOZE: _until(change.incident)}
        await tx.journal.note([who.entry(now, verb, said.get(verb), incident=change.incident)])
    return change.incident


def _until(incident: Incident) -> str:
    return "ended" if incident.snoozed_until is None else f"until {incident.snoozed_until.isoformat()}"
