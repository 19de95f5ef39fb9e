"""Routing decides which targets are paged: from an incident and a level to target names, and from names to pages."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from typing import Protocol

import attrs

from ..checks import check_count, check_labels, check_optional_text, check_text, visible
from ..errors import InvalidValue, shortened
from ..model import MAX_REASON_CHARS, Incident, NewPage, NoticeKind, normal_severity
from ..ports import Notifier, Router
from .fallback import Fallbacks
from .on_call import ROUTED, Recipient, Recipients
from .priority import SeverityOrder

UNROUTED = "an incident that no route matches has no target and is never paged: set ESC_DEFAULT_TARGET"
"""The warning about routes that leave some incidents without a target."""


def check_target(value: object, field: str) -> str:
    """Return the name of a target: 1 to 200 printable characters, not all of them blank, without ``://``."""
    name = check_text(value, field)
    if "://" in name:
        # Name and URL were swapped. The URL is a secret, so the error does not quote it.
        raise InvalidValue(field, "has a URL where a name belongs", "map names to URLs, for example the name slack:ops")
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidValue(
            field, "is not a valid target name", "give 1 to 200 printable characters, for example slack:ops"
        )
    return name


def check_targets(value: object) -> tuple[str, ...]:
    """Return target names, each once. The value must be a sequence, which may be empty, and not a str."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidValue("targets", f"is {type(value).__name__}", "give a list of targets' names")
    names = tuple(value)
    try:
        return _each_once(names)
    except TypeError:  # an element cannot be hashed, so it is not a name
        return _each_once.__wrapped__(names)


@lru_cache(maxsize=1000)
def _each_once(names: tuple[object, ...]) -> tuple[str, ...]:
    # Cached, because a router gives the same few answers for all incidents.
    return tuple(dict.fromkeys(check_target(name, "targets") for name in names))


def _targets(value: Sequence[str]) -> tuple[str, ...]:
    if not check_targets(value):
        raise InvalidValue("targets", "is empty", "name at least one target")
    return check_targets(value)


def _routes(value: "Sequence[Route]") -> "tuple[Route, ...]":
    if not isinstance(value, Sequence) or not all(isinstance(route, Route) for route in value):
        raise InvalidValue("routes", "is not a valid list of routes", "give a list of Route(...)")
    return tuple(value)


def _default_target(value: str | None) -> str | None:
    return None if value is None else check_target(value, "default_target")


def check_kinds(value: object) -> frozenset[NoticeKind]:
    """Return kinds of notices. The value must be a collection of their names, which may be empty, and not a str."""
    if isinstance(value, str) or not isinstance(value, Collection):
        raise InvalidValue("notices", f"is {type(value).__name__}", "give a list of kinds")
    known = [kind.value for kind in NoticeKind]
    if unknown := [name for name in value if name not in known]:
        raise InvalidValue("notices", f"{unknown[0]!r} is not a kind of notice", f"give any of {', '.join(known)}")
    return frozenset(map(NoticeKind, value))


def _severity(value: str | None) -> str | None:
    return check_optional_text(value, "severity")


def _min_level(value: int) -> int:
    return check_count(value, "min_level", 0)


@attrs.frozen(kw_only=True)
class Conditions:
    """Conditions of an incident at a level. An incident matches if it meets all of them.

    Raises:
        InvalidValue: a field has a wrong type.
    """

    severity: str | None = attrs.field(default=None, converter=_severity)
    """The severity that matches, without regard to case and surrounding blanks. None matches every severity."""
    min_level: int = attrs.field(default=0, converter=_min_level)
    """The lowest level that matches."""
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=check_labels)
    """The labels that an incident must have, with these values. It may have others."""

    def matches(self, incident: Incident, level: int) -> bool:
        """Return whether ``incident`` at ``level`` meets all conditions."""
        if self.severity is not None and normal_severity(self.severity) != normal_severity(incident.severity or ""):
            return False
        return level >= self.min_level and self.labels.items() <= incident.labels.items()


@attrs.frozen(kw_only=True)
class Route(Conditions):
    """A route pages ``targets`` about each escalation of an incident that matches its conditions.

    Raises:
        InvalidValue: a field has a wrong type, or ``targets`` is empty.
    """

    min_level: int = attrs.field(default=1, converter=_min_level)
    """The lowest level to which the incident rises."""
    targets: tuple[str, ...] = attrs.field(converter=_targets)
    notices: frozenset[NoticeKind] = attrs.field(default=frozenset(), converter=check_kinds)
    """The kinds of notices that these targets get besides, about incidents of which they were paged."""


@attrs.frozen
class SettingsRouter:
    """The default router. The last route that matches wins; if none matches, the default target is paged, if set.

    Raises:
        InvalidValue: the routes are not a list of Route, or the default target is not a valid name.
    """

    routes: Sequence[Route] = attrs.field(default=(), converter=_routes)
    default_target: str | None = attrs.field(default=None, converter=_default_target)

    @property
    def targets(self) -> Sequence[str]:
        """The targets of all routes and the default target, each once."""
        default = () if self.default_target is None else (self.default_target,)
        return tuple(dict.fromkeys([*(target for route in self.routes for target in route.targets), *default]))

    @property
    def covers_everything(self) -> bool:
        """Whether every possible incident has a target."""
        return self.default_target is not None or any(
            route.severity is None and route.min_level <= 1 and not route.labels for route in self.routes
        )

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        """Return the names of the targets; empty if no route matches and there is no default target."""
        for route in reversed(self.routes):
            if route.matches(incident, level):
                return route.targets
        return () if self.default_target is None else (self.default_target,)


def notifiers_by_target(notifiers: object) -> dict[str, Notifier]:
    """Return the notifier of each target, by the target's name.

    Raises:
        InvalidValue: the value is not a valid list of notifiers, or two notifiers serve one target.
    """
    if isinstance(notifiers, str | bytes) or not isinstance(notifiers, Sequence):
        raise InvalidValue("notifiers", f"is {type(notifiers).__name__}", "give a list of notifiers")
    if not all(hasattr(notifier, "targets") for notifier in notifiers):
        raise InvalidValue("notifiers", "holds something without targets", "give a list of notifiers")
    by_target: dict[str, Notifier] = {}
    for notifier in notifiers:
        for target in notifier.targets:
            if target in by_target:
                raise InvalidValue("notifiers", f"two of them serve {target!r}", "leave one of them out")
            by_target[target] = notifier
    return by_target


def paged_targets(pages: Iterable[NewPage]) -> tuple[str, ...]:
    """Return the targets of those pages that can be sent."""
    return tuple(page.target for page in pages if page.undeliverable_reason is None)


def undeliverable_reasons(pages: Iterable[NewPage]) -> tuple[str, ...]:
    """Return why the other pages can never be sent, each with its target if it has one."""
    return tuple(
        f"{page.target}: {reason}" if page.target else reason
        for page in pages
        if (reason := page.undeliverable_reason) is not None
    )


@attrs.frozen
class Pager:
    """Makes the pages of an escalation, from the router's answer and the targets that have a notifier."""

    router: Router
    served: AbstractSet[str]
    """The targets that have a notifier."""
    default_target: str | None = None
    """The target that is paged in the place of one that a policy names and no notifier serves."""
    fallbacks: Fallbacks = attrs.field(factory=Fallbacks)
    order: SeverityOrder = attrs.field(factory=SeverityOrder)

    def pages_for(
        self, incident: Incident, dedup_key: str, named: Recipients = ROUTED, *, first: bool = False
    ) -> list[NewPage]:
        """Return the pages of the escalation that raised ``incident`` to its level, one for each target.

        ``first`` says that no level of the episode was paged before: then they go before other pages of the severity.
        ``named`` is whom the policy names; if it names no one at all, the router decides. For what is unknown, for
        example a target that no notifier serves, the default target, or else the router's answer, is paged in its
        place; and also if all schedules of the level name no one. If the router fails or names no target, return one
        page with the reason why it is undeliverable. The store records such a page as dead.
        """
        make = partial(self._page, incident, dedup_key, self.order.priority(incident.severity, first=first))
        if named is ROUTED or named == ROUTED:
            return self._routed(incident, make)
        served = [one for one in named.known if one.target in self.served]
        pages = {one.target: make(one.target, one) for one in served}
        unserved = [_said(one) for one in named.known if one.target not in self.served]
        missing = [*unserved, *named.unknown]
        if missing or named.empty:
            for instead in self._instead(incident, make):
                page = pages.get(instead.target, instead)
                pages[instead.target] = attrs.evolve(page, in_place_of=_listed(missing))
        return list(pages.values())

    def _instead(self, incident: Incident, make: "_MakePage") -> list[NewPage]:
        if self.default_target is not None and self.default_target in self.served:
            return [make(self.default_target)]
        return self._routed(incident, make)

    def _routed(self, incident: Incident, make: "_MakePage") -> list[NewPage]:
        def dead(target: str, reason: str) -> NewPage:
            return make(target, undeliverable_reason=f"unroutable: {reason}")

        try:
            targets = check_targets(self.router.route(incident, incident.level))
        except InvalidValue as fault:
            return [dead("", f"the router's answer {fault.fault}")]
        except Exception as error:  # noqa: BLE001 - a host's router must not stop the escalation
            return [dead("", f"the router raised {type(error).__name__}")]
        if not targets:
            return [dead("", "no route matches and there is no default target")]
        return [
            make(target) if target in self.served else dead(target, "no notifier serves this target")
            for target in targets
        ]

    def _page(
        self,
        incident: Incident,
        dedup_key: str,
        priority: int,
        target: str,
        by: Recipient | None = None,
        *,
        undeliverable_reason: str | None = None,
    ) -> NewPage:
        return NewPage(
            incident_key=incident.incident_key,
            episode=incident.episode,
            level=incident.level,
            target=target,
            dedup_key=dedup_key,
            undeliverable_reason=undeliverable_reason,
            via=None if by is None else by.via,
            schedule_digest=None if by is None else by.digest,
            priority=priority,
            hand_over_after=self.fallbacks.after_for(target),
        )

    def warnings(self) -> list[str]:
        """Return a warning for each fault of the notifiers or routes that will make pages undeliverable."""
        if not self.served:
            return ["this engine has no notifier: it records escalations, and their pages are dead"]
        if not isinstance(self.router, SettingsRouter):
            return []
        said = [
            f"a route names the target {target!r}, and no notifier serves it"
            for target in self.router.targets
            if target not in self.served
        ]
        return said if self.router.covers_everything else [*said, UNROUTED]


def _listed(missing: Sequence[str]) -> str | None:
    """Return the names in one line for the log. They may come from a host's schedules and from rows."""
    return visible(shortened(", ".join(missing), MAX_REASON_CHARS)) if missing else None


def _said(one: Recipient) -> str:
    return one.target if one.via is None else f"{one.target} of {one.via}"


class _MakePage(Protocol):
    def __call__(
        self, target: str, by: Recipient | None = None, *, undeliverable_reason: str | None = None
    ) -> NewPage: ...
