"""The verbs on an incident, for hosts and responders. ``rules/transitions.py`` says which state allows which verb."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from ..checks import check_instant, check_key, check_labels, check_optional_text, check_text
from ..errors import InvalidValue, TransitionRefused
from ..model import By, Incident
from ..ports import JoinsTransactions, Transaction, notices_of
from ..rules import transitions
from ..rules.notices import make_change
from ..rules.planner import Planner, pin_of
from ..rules.policies import check_policy_name
from ..rules.transitions import Change, Verb, admit
from .access import StoreAccess, TransactionAccess, canonical_key
from .exhausted import note_exhausted
from .versions import log_note

log = logging.getLogger("escalation_core")


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
        policy: str | None = None,
        by: str | None = None,
    ) -> Incident:
        """Open an incident, or update what is given of one that is not resolved. None keeps a value.

        A resolved key begins a new episode. The severity of a new incident defaults to ``warning``. ``first_seen``
        (aware) may lie up to one year in the past and 24 hours in the future, and defaults to now; it is not updated.
        ``policy`` is a name of the policies file, or ``builtin``. Without it the file's assignments decide.

        Raises:
            InvalidValue: a value is not valid; nothing was written.
        """
        check_key(incident_key)
        check_optional_text(severity, "severity")
        check_optional_text(summary, "summary")
        who = By(by)
        labels = None if labels is None else check_labels(labels)
        first_seen = None if first_seen is None else check_instant(first_seen, "first_seen")
        if policy is not None:
            check_policy_name(check_text(policy, "policy"), self._versions.policies)

        async def work(tx: Transaction) -> tuple[Change, datetime]:
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
                    policy=policy,
                    planner=await self._versions.planner(tx, [standing], changing=True),
                    now=now,
                )

            standing = await _load(tx, Verb.OPEN, key)
            if standing is None:
                opened = await change(None)
                if await tx.incidents.insert(opened.incident):
                    await self._versions.keep(tx, [opened.incident])
                    await tx.journal.note([who.entry(now, Verb.OPEN, incident=opened.incident), *opened.entries(now)])
                    return opened, now
                # Another transaction has just opened the incident: update it instead.
                standing = await _load(tx, Verb.OPEN, key)
            return await self._write(tx, Verb.OPEN, await change(standing), now, who), now

        opened, now = await self._run(work)
        self._tell(Verb.OPEN, opened)
        if opened.incident.next_due_at is not None and opened.incident.next_due_at <= now:
            self._due_at_once()
        return opened.incident

    def _due_at_once(self) -> None:
        """Do nothing: without an engine the workers are elsewhere, and look each tick interval."""

    async def acknowledge(self, incident_key: str, *, reason: str | None = None, by: str | None = None) -> Incident:
        """Acknowledge an incident: it no longer escalates, and pages not yet claimed for sending are cancelled.

        Raises:
            TransitionRefused: the key is unknown, or its incident is resolved.
        """
        return await self._change(
            Verb.ACKNOWLEDGE,
            incident_key,
            By(by, reason),
            lambda incident, planner, now: transitions.acknowledge(incident, by, planner=planner, now=now),
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
            lambda incident, planner, now: transitions.unacknowledge(incident, planner=planner, now=now),
        )

    async def resolve(self, incident_key: str, *, reason: str | None = None, by: str | None = None) -> Incident:
        """Resolve an incident: it no longer escalates, and its unsent pages are cancelled.

        Raises:
            TransitionRefused: the key is unknown.
        """
        return await self._change(
            Verb.RESOLVE,
            incident_key,
            By(by, reason),
            lambda incident, planner, now: transitions.resolve(incident, now=now),
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
            lambda incident, planner, now: transitions.change_severity(incident, severity, planner=planner, now=now),
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
            lambda incident, planner, now: transitions.snooze(incident, until, planner=planner, now=now),
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
            lambda incident, planner, now: transitions.drain(incident, planner=planner, now=now),
        )

    async def rebind(
        self, incident_key: str, *, restart: bool = False, reason: str | None = None, by: str | None = None
    ) -> Incident:
        """Give an incident the present version of its policy, from this engine's policies file.

        It keeps its position. The walk begins again with ``restart``, and if its position lies beyond the end of the
        new version. A walk that is over stays so, unless the new version is longer.

        Raises:
            TransitionRefused: the key is unknown, its incident is resolved, or it has no policy of a file.
            InvalidValue: this engine has no policy of that name.
        """
        return await self._change(
            Verb.REBIND,
            incident_key,
            By(by, reason),
            lambda incident, planner, now: transitions.rebind(incident, planner=planner, now=now, begin_again=restart),
        )

    async def _change(
        self, verb: Verb, incident_key: str, who: By, decide: Callable[[Incident, Planner, datetime], Change]
    ) -> Incident:
        check_key(incident_key)

        async def work(tx: Transaction) -> Change:
            now, key = await tx.now(), canonical_key(tx, incident_key)
            incident = admit(verb, key, await _load(tx, verb, key))
            planner = await self._versions.planner(tx, [incident], changing=True)
            return await self._write(tx, verb, decide(incident, planner, now), now, who)

        change = await self._run(work)
        self._tell(verb, change)
        return change.incident

    def _tell(self, verb: Verb, change: Change) -> None:
        """Log what the planning of a verb did besides the verb, and count it for metrics."""
        if not change.changed:
            return
        incident = change.incident
        for note, said in change.notes:
            log_note(incident.incident_key, note, said)
        if verb is Verb.REBIND:
            log.info("incident %r: rebound to %s", incident.incident_key, _version(incident))
        self._count_events([*(note.value for note, _ in change.notes), *([verb.value] if verb is Verb.REBIND else [])])

    def _count_events(self, events: Sequence[str]) -> None:
        """Do nothing: without an engine there are no metrics."""

    async def _write(self, tx: Transaction, verb: Verb, change: Change, now: datetime, who: By) -> Change:
        """Write the incident, cancel its pages if the change says so, and note the actor. For a no-op write nothing."""
        if change.changed:
            incident = change.incident
            await self._versions.keep(tx, [incident])
            await tx.incidents.save(incident)
            await note_exhausted(tx, [incident], now)
            if change.cancel is not None:
                await tx.outbox.cancel(incident.incident_key, change.cancel, now)
            notices = notices_of(tx)
            if notices is not None and change.before is not None:
                happened = make_change(change.before, incident, now, by=who.actor)
                await notices.note([] if happened is None else [happened])
            said = {
                Verb.CHANGE_SEVERITY: incident.severity,
                Verb.SNOOZE: _until(incident),
                Verb.REBIND: _version(incident),
            }
            await tx.journal.note([who.entry(now, verb, said.get(verb), incident=incident), *change.entries(now)])
        return change


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
        return IncidentVerbs(self.store.using(connection), self.settings, self._versions.policies)


async def _load(tx: Transaction, verb: Verb, incident_key: str) -> Incident | None:
    """Return the incident, locked. An unreadable row raises TransitionRefused: the row is wrong, not the caller."""
    try:
        return await tx.incidents.load(incident_key)
    except InvalidValue as fault:
        raise TransitionRefused(incident_key, "unreadable", verb.value, f"correct its row: {fault}") from fault


def _until(incident: Incident) -> str:
    return "ended" if incident.snoozed_until is None else f"until {incident.snoozed_until.isoformat()}"


def _version(incident: Incident) -> str | None:
    pin = pin_of(incident)
    return None if pin is None else f"{pin.policy} {pin.digest[:12]}"
