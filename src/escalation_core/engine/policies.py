"""The policies of an engine at run time: which file it uses, how that is changed, and what health says about it."""

import logging
from collections.abc import Sequence
from datetime import datetime

from ..checks import check_count, check_text
from ..errors import InvalidValue
from ..model import By, Incident
from ..ports import Transaction
from ..rules.policies import Policies
from ..rules.routing import Pager
from .access import StoreAccess
from .open_incidents import MAX_INCIDENTS
from .rebind_forecast import RebindForecast, versioned
from .versions import need_walks

log = logging.getLogger("escalation_core")


class PolicyVerbs(StoreAccess):
    """The verbs about policies as a whole. ``open(policy=)`` and ``rebind`` concern one incident."""

    _pager: Pager
    _policies_fault: str | None = None

    async def check(self) -> None:
        """Check that the store is ready, and that it keeps policies if this engine has a policies file."""
        if not self._ready:
            await super().check()
            if self.policies is not None:
                await self.store.read(_check_walks)

    @property
    def policies(self) -> Policies | None:
        """The policies file in force; None without one."""
        return self._versions.policies

    def use_policies(self, policies: Policies) -> None:
        """Use another policies file from the next tick on. Incidents stay with the version that they are pinned to.

        The next heartbeat requests a recalculation, which gives a policy to incidents that have none yet.

        Raises:
            PoliciesError: the file does not fit the settings, or names a target that no notifier serves; the one before
                stays in force.
        """
        if not isinstance(policies, Policies):
            raise InvalidValue("policies", f"is {type(policies).__name__}", "give Policies.from_mapping(...)")
        policies.check(
            max_level=self.settings.max_level,
            tick_interval=self.settings.tick_interval,
            # An engine without notifiers only opens and answers incidents; workers page.
            targets=self._pager.served or None,
            # What a host's own sources have is known only once they are loaded. Calendars are in the file.
            schedules=None if self._versions.schedule_loader.sources else frozenset(),
        )
        self._versions.schedule_loader.use_calendars(policies.calendars)
        self._versions.policies = policies
        self._policies_fault = None

    def refuse_policies(self, fault: str) -> None:
        """Say in health and in the log that a policies file could not be loaded. The one before stays in force.

        An engine that has none yet assigns no policy, and leaves that to an engine that has a file.
        """
        instead = "the one before stays in force" if self.policies is not None else "this process works without it"
        # The log has a line for each problem, and health one line in all.
        self._policies_fault = " ".join(fault.split())
        log.error("the policies file could not be loaded, and %s: %s", instead, fault)

    @property
    def policies_fault(self) -> str | None:
        """Why the last policies file could not be loaded; None if it could."""
        return self._policies_fault

    async def request_reload(self, *, reason: str | None = None, by: str | None = None) -> datetime:
        """Ask all workers to read their policies file again, at their next heartbeat; return the store's instant.

        Raises:
            InvalidValue: the store does not keep policies.
        """
        who = By(by, reason)
        return await self._run(lambda tx: need_walks(tx).request_reload(who))

    async def pinned(self, policy: str, *, after: str | None = None, limit: int = 1000) -> Sequence[Incident]:
        """Return unresolved incidents that are pinned to a policy, also to old versions of it, sorted by key.

        To read further incidents, give the key of the last one as ``after``.

        Raises:
            InvalidValue: the store does not keep policies, or the limit is not between 1 and 1,000.
        """
        check_text(policy, "policy")
        check_count(limit, "limit", 1, MAX_INCIDENTS)
        return await self._read(lambda tx: need_walks(tx).pinned(policy, after=after, limit=limit))

    async def forecast_rebind(self, policy: str, *, restart: bool = False) -> RebindForecast:
        """Return what ``rebind`` would do now to the incidents that are pinned to older versions of a policy.

        Raises:
            InvalidValue: this engine has no policy of this name, or the store does not keep policies.
        """
        wanted = versioned(self.policies, policy)
        forecast, after = RebindForecast(policy=policy, version=wanted.digest), None

        async def work(tx: Transaction) -> Sequence[Incident]:
            batch = await need_walks(tx).pinned(policy, after=after, limit=MAX_INCIDENTS)
            planner = await self._versions.planner(tx, batch)
            forecast.count(batch, planner, await tx.now(), restart=restart)
            return batch

        while batch := await self._read(work):
            after = batch[-1].incident_key
        return forecast


async def _check_walks(tx: Transaction) -> None:
    need_walks(tx)
