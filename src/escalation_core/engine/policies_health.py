"""The part of health that concerns policies: unknown ones, expired acknowledgements, and the workers' files."""

from collections.abc import Mapping, Sequence

import attrs

from ..model import WalkStats
from .loaded import ScheduleHealth


@attrs.frozen(kw_only=True)
class PoliciesHealth:
    """What health says about policies."""

    digest: str | None = None
    """The digest of this engine's policies file; None without one."""
    fault: str | None = None
    """Why the last file could not be loaded. The one before stays in force, if there is one."""
    stats: WalkStats = attrs.field(factory=WalkStats)
    schedules: Mapping[str, ScheduleHealth] = attrs.field(factory=dict)
    """The schedules that sources loaded, by name."""
    schedule_faults: Sequence[str] = ()
    """Why sources of schedules could not be loaded."""
    missing_schedules: Sequence[str] = ()
    """Schedules that policies name, and that are not there although the sources were loaded."""
    unread_calendars: Sequence[str] = ()
    """Calendars of the policies file, if this engine has nothing that reads them."""
    doubled_schedules: Sequence[str] = ()
    """Schedules of sources whose names the policies file has as well."""

    def warnings(self) -> Sequence[str]:
        """Return a warning for each fault that may page late, or not as the file says."""
        found: list[str] = []
        if self.fault is not None:
            instead = "this process works without it" if self.digest is None else "the one before stays in force"
            found.append(f"the policies file could not be loaded, and {instead}: {self.fault}")
        for name, count in self.stats.unknown_policies.items():
            found.append(
                f"{count} open incidents name policy {name!r}, which an engine did not know: they escalate by another"
                " policy; add it to the policies file, or correct the rows"
            )
        lost = self.stats.lately.get("lost_version", 0)
        if lost:
            found.append(
                f"{lost} incidents of the last day had a version of their policy that the store has lost: they escalate"
                " by the file's; look at them with escalation policy show"
            )
        if self.stats.nobody_on_call:
            found.append(
                f"{self.stats.nobody_on_call} escalations of the last day had levels for which no one was on call, and"
                " paged the default target: escalation audit names them, and escalation oncall gaps the gaps ahead"
            )
        found += [
            f"schedules could not be loaded; what was loaded before stays: {fault}" for fault in self.schedule_faults
        ]
        found += [said for name, one in self.schedules.items() if (said := one.warning(name)) is not None]
        found += [
            f"a policy names schedule {name!r}, which neither the policies file nor a source has: correct the name"
            for name in self.missing_schedules
        ]
        if self.unread_calendars:
            found.append(
                f"this engine does not read the calendars of the policies file ({', '.join(self.unread_calendars)}), so"
                " it does not know who is on call for them: give Engine(calendars=FileCalendars(folder))"
            )
        found += [
            f"schedule {name!r} is in the policies file and in a source: that of the file counts"
            for name in self.doubled_schedules
        ]
        files = self.stats.worker_digests
        said = ", ".join(f"{count} run {digest[:12] or 'none'}" for digest, count in files.items())
        if len(files) > 1:
            found.append(
                f"the workers run different policies files: {said}; restart them, or run escalation policy reload"
            )
        elif files and self.fault is None and (self.digest or "") not in files:
            own = f"policies file {self.digest[:12]}" if self.digest else "no policies file"
            found.append(
                f"this process has {own}, but of the workers {said}; give this process their file, or run"
                " escalation policy reload"
            )
        return found

    def as_dict(self) -> dict[str, object]:
        """Return this part for JSON, with names in camel case, as in the rest of health."""
        stats = self.stats
        asked = stats.reload_requested_at
        return {
            "digest": self.digest,
            "fault": self.fault,
            "unknown": dict(stats.unknown_policies),
            "putOff": stats.put_off,
            "lately": dict(stats.lately),
            "nobodyOnCall": stats.nobody_on_call,
            "schedules": {
                name: {"ageSeconds": round(one.age, 1), "horizon": one.horizon.isoformat()}
                for name, one in self.schedules.items()
            },
            "scheduleFaults": list(self.schedule_faults),
            "workers": dict(stats.worker_digests),
            "reloadRequestedAt": None if asked is None else asked.isoformat(),
        }
