"""From an escalation to its pages: one for each target, or one that is dead at birth and says why."""

from collections.abc import Set as AbstractSet

from .delivery import NewPage
from .errors import InvalidValue
from .model import Incident
from .ports import Router
from .routes import check_targets


def pages_for(incident: Incident, dedup_key: str, *, router: Router, served: AbstractSet[str]) -> list[NewPage]:
    """Return the pages of the escalation that raised ``incident`` to its level. ``served`` targets have a notifier."""

    def page(target: str, born_dead: str | None = None) -> NewPage:
        return NewPage(
            incident_key=incident.incident_key,
            episode=incident.episode,
            level=incident.level,
            target=target,
            dedup_key=dedup_key,
            born_dead=born_dead,
        )

    try:
        targets = check_targets(router.route(incident, incident.level))
    except InvalidValue as fault:
        return [page("", f"unroutable: the router's answer {fault.fault}")]
    except Exception as error:  # noqa: BLE001 - a host's router must not stop the ladder
        return [page("", f"unroutable: the router raised {type(error).__name__}")]
    if not targets:
        return [page("", "unroutable: no route matches and there is no default target")]
    return [
        page(target) if target in served else page(target, "unroutable: no notifier serves this target")
        for target in targets
    ]
