"""The policies of an engine: its policies file, and the versions that the store keeps."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import attrs

from ..errors import InvalidValue, PoliciesError
from ..model import By, Candidate, Incident, KeptVersion, Pin, ShiftOverride
from ..ports import Schedule, Transaction, Walks, notices_of, walks_of
from ..rules.builtin import BuiltinPolicy
from ..rules.notices import make_change
from ..rules.on_call import OnCall
from ..rules.plan import Decision
from ..rules.planner import Planner, Version
from ..rules.policies import Policies
from ..rules.policies_file import read_version
from ..rules.policy import Policy
from ..rules.settled import Note, Settled
from .schedules import ScheduleLoader

log = logging.getLogger("escalation_core")

_ANY_NAME = "version"
"""The name under which a kept text is read; a planner names the policy by the pin, which may have any name."""


@attrs.define
class Versions:
    """Makes the planner of each transaction. Kept versions are read once, because a version's text never changes."""

    builtin: BuiltinPolicy
    policies: Policies | None = None
    """The engine's policies file; None without one."""
    file_named: bool = False
    """Whether the settings name a policies file. Without its content this engine assigns no policy."""
    schedule_loader: ScheduleLoader = attrs.field(factory=ScheduleLoader)
    """The schedules that sources load."""
    of_host: bool = False
    """Whether the transactions are a host's. It may roll back to a savepoint, and undo what an earlier verb kept."""
    _kept: dict[str, Version] = attrs.field(factory=dict)
    _used: dict[str, Policy] = attrs.field(factory=dict)
    """The policies of each file that planned, by digest: a file may be replaced between a planning and its write."""
    _met: bool = False
    """Whether a row had a pin, or a policy that its host names."""

    @property
    def concerned(self) -> bool:
        """Whether policies concern this engine: it has or should have a file, or it has met a row with a policy."""
        return self._met or self.file_named or self.policies is not None

    def fingerprint(self) -> str:
        """Return what decides about incidents as one text: the settings' values, and the policies file's digest."""
        own = self.builtin.fingerprint()
        return own if self.policies is None else f"{own};{self.policies.digest}"

    async def planner(
        self, tx: Transaction, incidents: Iterable[Incident | None], *, changing: bool = False
    ) -> Planner:
        """Return the planner for these incidents, with what the store knows about their policies.

        ``changing``: the caller changes an incident before it plans it, so any of them may get another policy.
        """
        read = [one for one in incidents if one is not None]
        if self.of_host:
            self._kept = {}
        texts = {one.policy_pin for one in read}
        pins = [pin for text in texts if (pin := Pin.parse(text)) is not None]
        planner = Planner(
            builtin=self.builtin,
            policies=self.policies,
            file_missing=self.file_named and self.policies is None,
        )
        self._met = self._met or bool(pins) or any(one.policy for one in read)
        walks = walks_of(tx)
        if walks is None or (not pins and self.policies is None):
            return planner
        own = () if self.policies is None else self.policies.policies.values()
        self._used |= {one.digest: one for one in own if one.digest not in self._used}
        # The engine's own versions are looked for as well: the store knows since when it has kept them.
        wanted = {pin.digest: pin.policy for pin in pins if pin.digest} | {one.digest: one.name for one in own}
        # The planner has a mapping of its own: a heartbeat may forget versions while this transaction waits.
        known = {digest: self._kept[digest] for digest in wanted if digest in self._kept}
        missing = [digest for digest in wanted if digest not in known]
        found = await walks.versions(missing) if missing else {}
        new = {digest: _read(wanted[digest], digest, kept) for digest, kept in found.items()}
        self._kept |= new
        planner = attrs.evolve(planner, versions=known | new)
        moving = [
            (one.incident_key, one.episode)
            for one in read
            if planner.needs_positions(one) or (changing and one.level > 0)
        ]
        if not moving:
            return planner
        return attrs.evolve(planner, positions=await walks.positions(moving))

    def schedules(self) -> Mapping[str, Schedule]:
        """Return all schedules by name. Those of the policies file count before those of sources."""
        own = {} if self.policies is None else self.policies.schedules
        return {**self.schedule_loader.snapshot(), **own}

    def on_call(self, overrides: Sequence[ShiftOverride], now: datetime) -> OnCall:
        """Return who is on call, with these overrides. ``now`` is the store's instant."""
        people = {} if self.policies is None else self.policies.people
        stepped = [one.after_step(now) for one in overrides]
        return OnCall(schedules=self.schedules(), people=people, overrides=stepped)

    async def with_on_call(self, tx: Transaction, planner: Planner, now: datetime) -> Planner:
        """Return the planner with who is on call, if any of its policies names a schedule."""
        known = [version.policy for version in planner.versions.values() if version.policy is not None]
        own = () if self.policies is None else self.policies.policies.values()
        if not any(policy.schedules for policy in (*known, *own)):
            return planner
        return attrs.evolve(planner, on_call=self.on_call(await need_walks(tx).overrides(now), now))

    async def write(
        self, tx: Transaction, claimed: Sequence[Candidate], decisions: Sequence[Decision], now: datetime
    ) -> None:
        """Write the planned incidents, the versions that they are newly pinned to, and what else happened to them."""
        pairs = zip(claimed, decisions, strict=True)
        await self.advance(tx, [(row.incident, one.incident) for row, one in pairs if row.incident and one.incident])
        settled = [one.settled for one in decisions if one.settled is not None and one.settled.notes]
        await write_notes(tx, settled, now)
        expired = [
            row.incident
            for row, one in zip(claimed, decisions, strict=True)
            if row.incident is not None and one.settled is not None and one.settled.ack_expired
        ]
        notices = notices_of(tx)
        if expired and notices is not None:
            changes = [make_change(one, one, now, by=None, expired=True) for one in expired]
            await notices.note([change for change in changes if change is not None])

    async def advance(self, tx: Transaction, planned: Sequence[tuple[Incident, Incident]]) -> None:
        """Write planned incidents, each given as it was and as it is, and keep the versions of new pins."""
        stay: list[Incident] = []
        move: list[Incident] = []
        for before, after in planned:
            # A planning gives a row a walk only together with a pin.
            (stay if after.policy_pin is None or _same_walk(before, after) else move).append(after)
        await tx.incidents.advance(stay)
        await self.keep(tx, (after for _, after in planned))
        if move:
            await need_walks(tx).move(move)

    async def keep(self, tx: Transaction, incidents: Iterable[Incident]) -> None:
        """Keep the versions that these unresolved incidents are pinned to, if the store may not keep them yet."""
        if not self._used:
            return
        pins = map(Pin.parse, {one.policy_pin for one in incidents if one.resolved_at is None})
        new = {pin.digest for pin in pins if pin is not None and pin.digest not in self._kept}
        texts = {digest: self._used[digest].text() for digest in new if digest in self._used}
        if texts:
            await need_walks(tx).keep(texts)

    async def forget_lost(self, tx: Transaction) -> None:
        """Forget the versions that the store has lost, for example in a restore, so that a next write keeps them."""
        walks = walks_of(tx)
        own = () if self.policies is None else self.policies.policies.values()
        asked = {*self._kept, *(policy.digest for policy in own)}
        if walks is not None and asked:
            for digest in asked.difference(await walks.versions(list(asked))):
                self._kept.pop(digest, None)


def _read(name: str, digest: str, kept: KeptVersion) -> Version:
    """Return a kept version of the policy that a pin or the file calls ``name``."""
    try:
        return Version(read_version(_ANY_NAME, kept.text), kept.kept_at)
    except PoliciesError as fault:
        # It is not lost: another engine may read it, for example one with newer time zones.
        log.warning("version %s of policy %r cannot be read here: %s", digest[:12], name, fault)
        return Version(None, kept.kept_at)


def need_walks(tx: Transaction) -> Walks:
    """Return the transaction's port for policies.

    Raises:
        InvalidValue: the store does not have it.
    """
    walks = walks_of(tx)
    if walks is None:
        raise InvalidValue("store", "does not keep policies", "use a store with the port Walks, or leave policies out")
    return walks


def log_note(incident_key: str, note: Note, said: str | None) -> None:
    """Log what a planning did besides an escalation."""
    level = logging.INFO if note in (Note.ACK_EXPIRED, Note.RESTART) else logging.WARNING
    log.log(level, "incident %r: %s: %s", incident_key, note.value, said)


async def write_notes(tx: Transaction, happened: Sequence[Settled], now: datetime) -> None:
    """Cancel the unsent pages of what ended or began again, and note in the audit what happened."""
    for one in happened:
        if one.cancel is not None:
            await tx.outbox.cancel(one.incident.incident_key, one.cancel, now)
    notes = [By(reason=said).entry(now, note, incident=one.incident) for one in happened for note, said in one.notes]
    if notes:
        await tx.journal.note(notes)


def _same_walk(before: Incident, after: Incident) -> bool:
    # Objects are compared before values, because a planning leaves the objects of most rows as they are.
    return (
        before.policy_pin is after.policy_pin
        and before.episode == after.episode
        and before.policy_level == after.policy_level
        and before.policy_since is after.policy_since
        and before.acknowledged_at is after.acknowledged_at
    )
