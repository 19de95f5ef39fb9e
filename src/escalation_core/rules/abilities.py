"""The abilities of notifiers: which targets may get bundles and notices, and how much they get."""

from collections.abc import Mapping

from ..errors import InvalidValue, error_place
from ..model import Abilities, Budget
from ..ports import SendsBundles, TellsNoticeBundles, TellsNotices

_NONE = Abilities()


def abilities_of(notifier: object) -> Abilities:
    """Return what a notifier declares in its attribute ``abilities``; without one it only sends single pages.

    Raises:
        InvalidValue: it is not ``Abilities``, reading it raises, or the notifier lacks a method that an ability needs.
    """
    kind = type(notifier).__name__
    try:
        found = getattr(notifier, "abilities", _NONE)
    except Exception as error:  # a property of the host's object may raise anything
        fault = f"reading the abilities of {kind} raised {error_place(error)}"
        raise InvalidValue("notifiers", fault, "repair the attribute") from error
    if not isinstance(found, Abilities):
        fault = f"the abilities of {kind} are {type(found).__name__}"
        raise InvalidValue("notifiers", fault, "give Abilities(...), or leave the attribute out")
    lacking = [
        method
        for method, needed, has in (
            ("send_bundle", found.bundles, isinstance(notifier, SendsBundles)),
            ("tell", bool(found.notices), isinstance(notifier, TellsNotices)),
            ("tell_bundle", found.bundles and bool(found.notices), isinstance(notifier, TellsNoticeBundles)),
        )
        if needed and not has
    ]
    if lacking:
        fault = f"{kind} declares an ability and lacks its method {lacking[0]}"
        raise InvalidValue("notifiers", fault, "add the method, or leave the ability out")
    return found


def budgets_of(abilities: Mapping[str, Abilities], given: Mapping[str, Budget | None]) -> Mapping[str, Budget]:
    """Return the budgets of targets that have one: the settings' or, without an entry there, their notifier's."""
    own = {target: found.budgets.get(target) for target, found in abilities.items()}
    chosen = {target: given.get(target, budget) for target, budget in own.items()}
    return {target: budget for target, budget in chosen.items() if budget is not None}
