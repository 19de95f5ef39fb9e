"""Fallbacks: the target that gets a page in the place of one that does not deliver it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..errors import InvalidValue
from ..model import NewPage, PageRecord, Pause
from .gate import Switches, paused_at

FALLBACK_AFTER = timedelta(minutes=3)
"""How long a page may stay undelivered, pauses left out, before the fallback of its target gets it."""
_MAX_STEPS = 20_000
"""How many steps of at most a minute are looked back, about two weeks. No pause is as long."""


def check_fallbacks(given: Mapping[str, str]) -> None:
    """Refuse fallbacks that lead back to the target where they begin.

    Raises:
        InvalidValue: a target names itself, or several name each other in a circle.
    """
    ended = set[str]()  # the targets whose chains end
    for target in given:
        way = [target]
        while way[-1] not in ended and (next_one := given.get(way[-1])) is not None:
            if next_one in way:
                circle = [*way[way.index(next_one) :], next_one]
                said = " falls back to ".join(map(repr, circle))
                raise InvalidValue("fallbacks", f"go round in a circle: {said}", "let the chain end at another target")
            way.append(next_one)
        ended.update(way)


def check_served(given: Mapping[str, str], served: Collection[str]) -> None:
    """Refuse fallbacks that name a target which no notifier serves. An engine without notifiers sends no page.

    Raises:
        InvalidValue: a target with a fallback, or a fallback, has no notifier.
    """
    for name in (*given, *given.values()) if served else ():
        if name not in served:
            remedy = "give the engine a notifier for it, or take the fallback out"
            raise InvalidValue("fallbacks", f"name the target {name!r}, which no notifier serves", remedy)


@attrs.frozen
class Fallbacks:
    """The fallback of each target that has one."""

    of: Mapping[str, str] = attrs.field(factory=dict)
    after: timedelta = FALLBACK_AFTER
    """How long after it was recorded an undelivered page is handed over."""

    def after_for(self, target: str) -> timedelta | None:
        """Return after how long a page to this target is handed over; None without a fallback."""
        return self.after if target in self.of else None

    def page_for(self, page: PageRecord) -> NewPage:
        """Return the page that takes the place of one that is handed over, with the same dedup key."""
        target = self.of[page.target]
        return NewPage(
            incident_key=page.incident_key,
            episode=page.episode,
            level=page.level,
            target=target,
            dedup_key=page.dedup_key,
            priority=page.priority,
            hand_over_after=self.after_for(target),
            may_exist=True,
        )


def waiting_since(now: datetime, waited: timedelta, switches: Switches, pauses: Sequence[Pause]) -> datetime:
    """Return the instant since which ``waited`` has passed, the pauses left out."""
    # Pauses of a schedule begin and end with a minute. Between two edges everything is paused, or nothing is.
    edges = [edge for pause in pauses for edge in (pause.starts_at, pause.ends_at)]
    at, left = now, waited
    for _ in range(_MAX_STEPS):
        if left <= timedelta():
            break
        minute = (at - timedelta(microseconds=1)).replace(second=0, microsecond=0)
        begins = max([minute, *(edge for edge in edges if edge < at)])
        if paused_at(switches.schedule, pauses, begins) is not None:
            at = begins
        else:
            step = min(at - begins, left)
            at, left = at - step, left - step
    return at
